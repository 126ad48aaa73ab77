# SPDX-License-Identifier: Apache-2.0
"""What a type checker has to say about uses of the package erlang; nobody runs it. Each "type: ignore" names the error
that must be found: with --warn-unused-ignores, one that is not found is an error itself."""

from typing import Any, Literal, NoReturn, assert_type

import erlang
from erlang import CallbackError, ProcessError, price_of

assert_type(erlang.call("f", 1, [2], {"k": None}), Any)
assert_type(price_of, erlang.Function)
assert_type(price_of(3), Any)
erlang.call()  # type: ignore[call-arg]
erlang.call("f", key=1)  # type: ignore[call-arg]
erlang.call(b"f")  # type: ignore[arg-type]


def tell(pid: erlang.Pid, ref: erlang.Ref) -> None:
    assert_type(erlang.reply(pid, (erlang.atom("done"), ref)), Literal[True])
    erlang.send(pid, None)
    erlang.send("pid", None)  # type: ignore[arg-type]
    erlang.send(pid)  # type: ignore[call-arg]
    {pid: ref}


assert_type(erlang.share(b"x"), erlang.SharedArray)
assert_type(erlang.share(b"x").shape, tuple[int, ...])
erlang.empty((2, 3), "int32")
erlang.empty("2")  # type: ignore[arg-type]


def find(name: str | bytes | erlang.Atom) -> erlang.Pid:
    pid = erlang.whereis(name)
    erlang.send(pid, 1)  # type: ignore[arg-type]
    if pid is None:
        raise LookupError(name)
    return pid


def make() -> NoReturn:
    erlang.Atom("an atom is made by erlang.atom")


def count() -> None:
    if erlang.state_set("n", 1) == ("error", "full"):
        print(erlang.state_incr("n") + erlang.state_decr("n", 2))
    assert_type(erlang.state_keys(), list[Any])


def guard() -> None:
    try:
        erlang.call("f")
    except CallbackError as error:
        print(error.class_, error.reason, [len(frame) for frame in error.stacktrace])
        error.class_ == "unknown"  # type: ignore[comparison-overlap]
    except ProcessError:
        raise
    assert sorted([erlang.atom("b"), erlang.atom("a")])
