# SPDX-License-Identifier: Apache-2.0
"""The Erlang side, as seen from Python code that runs in a worker process."""

import functools

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang
from ._errors import CallbackError, ProcessError

Atom = _erlang.Atom
Pid = _erlang.Pid
Ref = _erlang.Ref
SharedArray = _erlang.SharedArray
atom = _erlang.atom
call = _erlang.call
empty = _erlang.empty
reply = _erlang.reply
send = _erlang.send
share = _erlang.share
state_clear = _erlang.state_clear
state_decr = _erlang.state_decr
state_delete = _erlang.state_delete
state_get = _erlang.state_get
state_incr = _erlang.state_incr
state_keys = _erlang.state_keys
state_set = _erlang.state_set
whereis = _erlang.whereis

__all__ = [
    "Atom",
    "CallbackError",
    "Function",
    "Pid",
    "ProcessError",
    "Ref",
    "SharedArray",
    "atom",
    "call",
    "empty",
    "reply",
    "send",
    "share",
    "state_clear",
    "state_decr",
    "state_delete",
    "state_get",
    "state_incr",
    "state_keys",
    "state_set",
    "whereis",
]


class Function(functools.partial):
    """A registered Erlang function: calling it is calling erlang.call with its name."""

    __slots__ = ()

    def __repr__(self):
        return f"<erlang function {self.args[0]!r}>"


# Names that were registered when the registry had the epoch given.
_seen = {}


def __getattr__(name):
    if not name.startswith("__"):
        epoch = _erlang.names_epoch()
        if _seen.get(name) == epoch:
            return Function(call, name)
        if _erlang.is_registered(name):
            _seen[name] = epoch
            return Function(call, name)
    raise AttributeError(f"module 'erlang' has no attribute {name!r}, and no Erlang function is registered under it")
