# SPDX-License-Identifier: Apache-2.0
"""Callbacks that coroutines await: each event loop that asks has a port, through which the outcomes come."""

import asyncio
import weakref

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang

_ask = _erlang.await_ask
_next = _erlang.await_next

# Ports by the id of their loops, which is that of another one when the loop is gone.
_ports = weakref.WeakValueDictionary()


class _Port:
    """Nobody but the loop holds its port, from the first question until it is closed: so the port, which holds what
    the loop's tasks wait for, and a descriptor, goes then."""

    __slots__ = ("__weakref__", "futures", "handle", "loop")

    def __init__(self, loop):
        self.handle, fd = _erlang.await_open()
        self.loop = weakref.ref(loop)
        self.futures = {}
        loop.add_reader(fd, self.woken)

    def woken(self):
        self.look(True)

    def look(self, is_woken=False):
        item = _next(self.handle, is_woken)
        if item is None:
            return
        futures = self.futures
        while item is not None:
            number, value, exc = item
            future = futures.pop(number, None)
            if future is not None and not future.done():
                if exc is None:
                    future.set_result(value)
                else:
                    future.set_exception(exc)
            item = _next(self.handle, False)
        loop = self.loop()
        if loop is not None and futures:
            # More may have come meanwhile: awake, the loop hears of it without its fd.
            loop.call_soon(self.look)


def _port(loop):
    port = _ports.get(id(loop))
    if port is None or port.loop() is not loop:
        port = _ports[id(loop)] = _Port(loop)
    return port


def async_call(name, /, *args):
    loop = asyncio.get_running_loop()
    port = _port(loop)
    number = _ask(port.handle, name, args)
    future = port.futures[number] = loop.create_future()
    return future


async def wait_for(handle, position):
    """Until there may be something to take from an object: the status. One that is cancelled leaves nothing behind."""
    loop = asyncio.get_running_loop()
    port = _port(loop)
    number = _erlang.object_await(port.handle, handle, position)
    future = port.futures[number] = loop.create_future()
    try:
        return await future
    except BaseException:
        if not future.done() or future.cancelled():
            _erlang.object_unwait(port.handle, handle, number)
        raise
