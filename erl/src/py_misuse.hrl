%% SPDX-License-Identifier: Apache-2.0

%% How a public function refuses what it was called with. The checks, wherever they are, call
%% py_error_info:refuse/1; the public function turns that into an error of its own, so that
%% the stack trace begins with it, its arguments, and what shells print about them.
%%
%% Named: [{Role, Value}], all arguments of the function in their order.

-define(REFUSED(Why), error:{py_refused, Why}).

-define(FAIL(Reason, Why, Named),
    erlang:error(Reason, py_error_info:arguments(Named), py_error_info:options(Why, Named))
).
-define(BADARG(Why, Named), ?FAIL(badarg, Why, Named)).

-define(CHECKED(Expression, Named),
    try
        Expression
    catch
        ?REFUSED(Why) -> ?BADARG(Why, Named)
    end
).

%% Expression checks the arguments, and what it returns goes on to Run outside of the try:
%% while Python runs, this frame is gone, and holds no arguments.
-define(CHECKED_THEN(Expression, Checked, Run, Named),
    try Expression of
        Checked -> Run
    catch
        ?REFUSED(Why) -> ?BADARG(Why, Named)
    end
).

%% The same where Expression makes the fun that goes on.
-define(RUN_CHECKED(Expression, Named), ?CHECKED_THEN(Expression, Run, Run(), Named)).

%% Expression calls another public function, with the same arguments.
-define(DELEGATED(Expression, Arguments),
    try
        Expression
    catch
        error:Reason:Stack ->
            erlang:error(Reason, Arguments, py_error_info:inherited(Reason, Stack))
    end
).
