# SPDX-License-Identifier: Apache-2.0
"""Types of the package erlang, for type checkers and editors."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, SupportsIndex, final

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

# What Erlang returns is known to the function that is called only, so it is Any. What Python gives may be any object:
# one without a counterpart becomes the text of str().

@final
class Atom:
    """An Erlang atom. Equal to atoms only, ordered like its text."""

    def __new__(cls, *args: object, **kwargs: object) -> NoReturn: ...
    def __hash__(self) -> int: ...
    def __lt__(self, other: Atom, /) -> bool: ...
    def __le__(self, other: Atom, /) -> bool: ...
    def __gt__(self, other: Atom, /) -> bool: ...
    def __ge__(self, other: Atom, /) -> bool: ...

@final
class Pid:
    """An Erlang process, of this node or another."""

    def __new__(cls, *args: object, **kwargs: object) -> NoReturn: ...
    def __hash__(self) -> int: ...

@final
class Ref:
    """An Erlang reference."""

    def __new__(cls, *args: object, **kwargs: object) -> NoReturn: ...
    def __hash__(self) -> int: ...

@final
class SharedArray:
    """An array in memory that Erlang shares. It has the buffer protocol."""

    def __new__(cls, *args: object, **kwargs: object) -> NoReturn: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def array(self) -> Any: ...  # numpy.ndarray, or memoryview without numpy
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...  # numpy.dtype, or its name without numpy
    @property
    def nbytes(self) -> int: ...

class Function(functools.partial[Any]):
    """A registered Erlang function: calling it is calling erlang.call with its name."""

class CallbackError(RuntimeError):
    """An Erlang function that Python called has failed. class_ is also there under the name class."""

    class_: Literal["error", "exit", "throw"]
    reason: Any
    stacktrace: list[tuple[Any, ...]]

    def __init__(
        self,
        text: object,
        class_: Literal["error", "exit", "throw"] = "error",
        reason: object = None,
        stacktrace: tuple[object, ...] | list[object] = (),
    ) -> None: ...

class ProcessError(Exception):
    """The Erlang process that a message was for is not alive."""

def atom(name: str, /) -> Atom: ...
def call(name: str, /, *args: object) -> Any: ...
def empty(shape: SupportsIndex | Sequence[SupportsIndex], dtype: object = "float64") -> Any: ...
def reply(pid: Pid, term: object, /) -> Literal[True]: ...
def send(pid: Pid, term: object, /) -> None: ...
def share(x: object, /) -> SharedArray: ...
def state_clear() -> None: ...
def state_decr(key: object, n: int = 1, /) -> int | Any: ...  # ('error', 'full') with a new key and max_state_entries
def state_delete(key: object, /) -> None: ...
def state_get(key: object, /) -> Any: ...
def state_incr(key: object, n: int = 1, /) -> int | Any: ...  # as state_decr
def state_keys() -> list[Any]: ...
def state_set(key: object, value: object, /) -> tuple[Literal["error"], Literal["full"]] | None: ...
def whereis(name: str | bytes | Atom, /) -> Pid | None: ...

# Erlang functions that are registered while Python runs.
def __getattr__(name: str) -> Function: ...
