# SPDX-License-Identifier: Apache-2.0
"""Channels: what Erlang sends with py_channel:send/2, in order."""

import sys
import time

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang

__all__ = ["Channel", "ChannelClosed"]

_EMPTY, _CLOSED, _WAITER_EXISTS = _erlang.STATUSES[1:4]
# A status is an object and nothing else, which no item is.
_Status = object
_take = _erlang.object_take
_taken = 0


class ChannelClosed(Exception):
    """The channel is closed, and all that was sent has been taken."""


class _Receiver(_erlang.Handle):
    """What both kinds of channels have in common: a side to take from."""

    __slots__ = ()
    _closed = ChannelClosed

    def _receive(self, timeout_ms):
        if timeout_ms is None or timeout_ms < 0:
            while (type(item := _take(self, -1))) is _Status:
                self._check(item)
            return item
        until = time.monotonic() + timeout_ms / 1000
        item = _take(self, timeout_ms)
        while type(item) is _Status:
            self._check(item)
            left = until - time.monotonic()
            item = _take(self, max(0, left * 1000))
            if item is _EMPTY and left <= 0:
                raise TimeoutError(f"nothing came within {timeout_ms} ms")
        return item

    def _check(self, status):
        if status is _CLOSED:
            raise self._closed("the channel is closed")
        if status is _WAITER_EXISTS:
            raise RuntimeError("another receiver waits for this channel already")

    def _try_receive(self):
        # Another status than _EMPTY: what was on its way here went to another receiver.
        while type(item := _take(self, 0)) is _Status:
            if item is _EMPTY:
                return None
            self._check(item)
        return item

    async def _async_receive(self):
        global _taken
        # Items that are there already give other coroutines no turn.
        _taken += 1
        if _taken % 32 == 0:
            await sys.modules["asyncio"].sleep(0)
        while type(item := _take(self, 0)) is _Status:
            self._check(item)
            # Not at the top: asyncio takes its time, and most programs do without.
            from . import _await

            self._check(await _await.wait_for(self, 0))
        return item

    def __iter__(self):
        return self

    def __next__(self):
        while type(item := _take(self, -1)) is _Status:
            if item is _CLOSED:
                raise StopIteration
            self._check(item)
        return item

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self._async_receive()
        except self._closed:
            raise StopAsyncIteration from None

    def close(self):
        """Nothing more can be sent; what is there can still be received."""
        _erlang.object_close(self)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Channel(_Receiver):
    """The Python end of a py_channel, made of the handle that Erlang has passed."""

    __slots__ = ()
    _kind = 0

    def receive(self, timeout_ms=-1):
        """Wait for the next item. TimeoutError after timeout_ms; ChannelClosed."""
        return self._receive(timeout_ms)

    def try_receive(self):
        """The next item, or None if there is none at the moment. ChannelClosed."""
        return self._try_receive()

    async def async_receive(self):
        """Await the next item. ChannelClosed."""
        return await self._async_receive()
