%% SPDX-License-Identifier: Apache-2.0

%% What an object of the NIF is: enum ep_object_kind in transport/ep_array.h.
-define(OBJECT_CHANNEL, 0).
-define(OBJECT_BYTE_CHANNEL, 1).
-define(OBJECT_BUFFER, 2).
-define(OBJECT_DICT, 3).

%% Functions of the NIF say badarg; what users see says which of the arguments it is (py_misuse.hrl).
-define(ON_OBJECT(Expression, Named),
    try
        Expression
    catch
        error:badarg -> ?BADARG(py_object:fault(Named), Named)
    end
).
