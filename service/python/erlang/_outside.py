# SPDX-License-Identifier: Apache-2.0
"""Stands for _erlang where Python code runs outside of a worker process: in a child that it has spawned, in a test, at a
developer's desk. All of it can be imported, nothing of it works."""

_WHY = (
    "there is no Erlang here: this Python process was not started by erlang_python. "
    "Only the worker process itself can use the module erlang, not the programs that it starts"
)


def _refuse():
    raise RuntimeError(_WHY)


class _Handle:
    def __new__(cls, *args, **kwargs):
        _refuse()


class Atom(_Handle):
    __slots__ = ()


class Pid(_Handle):
    __slots__ = ()


class Ref(_Handle):
    __slots__ = ()


class SharedArray(_Handle):
    __slots__ = ()


class Handle(_Handle):
    __slots__ = ()


STATUSES = tuple(object() for _ in range(9))


def object_take(handle, ms):
    _refuse()


object_put = object_close = object_read = object_size = object_dict = object_await = object_unwait = object_take


def share(x, /):
    """A SharedArray with the contents of an array or a buffer."""
    _refuse()


def empty(shape, dtype="float64"):
    """A new array in shared memory, to be written."""
    _refuse()


def call(name, /, *args):
    """Call the Erlang function registered under that name."""
    _refuse()


def state_get(key, /):
    """The value of a key of the shared state, or None."""
    _refuse()


def state_set(key, value, /):
    """Set a key; ('error', 'full') if the table takes no new one."""
    _refuse()


def state_incr(key, n=1, /):
    """Add to an integer, atomically, and return the sum."""
    _refuse()


def state_decr(key, n=1, /):
    """Subtract from an integer, atomically, and return the rest."""
    _refuse()


def state_delete(key, /):
    """Remove a key."""
    _refuse()


def state_keys():
    """All keys, in any order."""
    _refuse()


def state_clear():
    """Remove all keys."""
    _refuse()


def send(pid, term, /):
    """Send a message to an Erlang process; ProcessError if it is dead."""
    _refuse()


def reply(pid, term, /):
    """Send an answer to an Erlang process; as send(), returns True."""
    _refuse()


def whereis(name, /):
    """The Pid of the process registered under that name, or None."""
    _refuse()


def atom(name, /):
    """The atom of that name: what Erlang gets is no binary."""
    _refuse()


def sleep(seconds):
    """Wait; an interrupt of the request ends that."""
    _refuse()


def await_open():
    _refuse()


def await_ask(port, name, args):
    _refuse()


def await_next(port, is_woken):
    _refuse()


def names_epoch():
    return 0


def is_registered(name, /):
    """Whether it is cannot be known, and importing a name is no use of it yet."""
    return not name.startswith("_")
