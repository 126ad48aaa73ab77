%% SPDX-License-Identifier: Apache-2.0

%% @private What the calling process knows of the contexts that it has used, in its process
%% dictionary: a request that names one finds its way there without a look at a table.
%%
%% A process that outlives many contexts keeps nothing of those that ended.
-module(py_direct).

-include("py_dictionary.hrl").

-export([route/1, lane/1, keep_lane/2, process_env/2, keep/2]).

%% @doc The way to a context, with the namespace of the calling process, if that has used it
%% and runs no callback.
-spec route(pid()) -> {py:context(), ep_nif:lane(), ep_nif:env()} | none.
route(Ctx) ->
    case get(?ENV(Ctx)) of
        undefined -> none;
        Route -> if_plain(Ctx, Route)
    end.

%% @doc The lane of a context, if the calling process has used it and runs no callback.
-spec lane(pid()) -> ep_nif:lane() | none.
lane(Ctx) ->
    case get(?LANE(Ctx)) of
        undefined -> none;
        Lane -> if_plain(Ctx, Lane)
    end.

%% @doc Lets {@link lane/1} know it.
-spec keep_lane(py:context(), ep_nif:lane()) -> ok.
keep_lane(Ctx, Lane) ->
    case get(?LANE(Ctx)) of
        undefined -> keep(?LANE(Ctx), Lane);
        _ -> ok
    end.

%% @doc The namespace of the calling process on a context; it ends with the process, for
%% nobody else has a reference.
-spec process_env(py:context(), ep_nif:lane()) -> ep_nif:env().
process_env(Ctx, Lane) ->
    Key = ?ENV(Ctx),
    case get(Key) of
        undefined ->
            Env = ep_nif:env_new(Lane),
            ok = keep(Key, {Ctx, Lane, Env}),
            Env;
        {_, _, Env} ->
            Env
    end.

%% @doc Keeps something for a context that the calling process uses, and nothing any more for
%% those that have ended.
-spec keep({atom(), py:context()}, term()) -> ok.
keep(Key, Value) ->
    case put(Key, Value) of
        undefined ->
            _ = [erase(K) || {K = {Kind, Ctx}, _} <- get(), lists:member(Kind, ?OF_CONTEXTS), not is_process_alive(Ctx)],
            ok;
        _Former ->
            ok
    end.

%% Internal

if_plain(Ctx, Way) ->
    case is_process_alive(Ctx) andalso get(?FRAME) of
        undefined -> Way;
        _ -> none
    end.
