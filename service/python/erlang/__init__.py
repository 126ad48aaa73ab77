# SPDX-License-Identifier: Apache-2.0
"""The Erlang side, as seen from Python code that runs in a worker process."""

import functools
import sys
import time

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang
from ._buffer import PyBuffer
from ._dict import SharedDict
from ._errors import CallbackError, ProcessError
from .byte_channel import ByteChannel, ByteChannelClosed
from .channel import Channel, ChannelClosed

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
    "ByteChannel",
    "ByteChannelClosed",
    "CallbackError",
    "Channel",
    "ChannelClosed",
    "Function",
    "Pid",
    "ProcessError",
    "PyBuffer",
    "Ref",
    "SharedArray",
    "SharedDict",
    "async_call",
    "atom",
    "call",
    "empty",
    "reply",
    "run",
    "send",
    "share",
    "sleep",
    "spawn_task",
    "state_clear",
    "state_decr",
    "state_delete",
    "state_get",
    "state_incr",
    "state_keys",
    "state_set",
    "whereis",
]


def async_call(name, /, *args):
    """Call the Erlang function registered under that name, without waiting: returns what a coroutine can await."""
    # Loading asyncio takes its time, and most programs do without. Not from: that would ask Erlang for the name first.
    import erlang._await as _await

    return _await.async_call(name, *args)


def sleep(seconds):
    """In a coroutine, something to await; elsewhere, a wait that ends at once when the request is interrupted."""
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None:
        return sys.modules["asyncio.tasks"].sleep(seconds)
    until = time.monotonic() + seconds
    _erlang.sleep(seconds)
    while (left := until - time.monotonic()) > 0:
        _erlang.sleep(left)


def run(main, *, debug=None):
    """Run a coroutine in an event loop of its own, as asyncio.run does."""
    import asyncio

    chosen = sys.modules.get("erlang._uvloop")
    if chosen is None:
        return asyncio.run(main, debug=debug)
    with asyncio.Runner(debug=debug, loop_factory=chosen.new_event_loop) as runner:
        return runner.run(main)


def spawn_task(coro, *, name=None):
    """Start a task in the running event loop, which keeps it until it ends."""
    import asyncio

    task = asyncio.get_running_loop().create_task(coro, name=name)
    # The loop itself holds a task only while it has a step to take.
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task


_spawned = set()


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
