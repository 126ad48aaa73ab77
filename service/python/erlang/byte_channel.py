# SPDX-License-Identifier: Apache-2.0
"""Byte channels: messages of bytes, to and from Erlang."""

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang
from .channel import _CLOSED, _Receiver

__all__ = ["ByteChannel", "ByteChannelClosed"]

_put = _erlang.object_put
_OK = _erlang.STATUSES[0]


class ByteChannelClosed(Exception):
    """The channel is closed, and all that was sent has been taken."""


class ByteChannel(_Receiver):
    """The Python end of a py_byte_channel, made of the handle that Erlang has passed."""

    __slots__ = ()
    _kind = 1
    _closed = ByteChannelClosed

    def send_bytes(self, data):
        """Send a message to Erlang: True. RuntimeError if the channel is closed, or full."""
        status = _put(self, data)
        if status is _OK:
            return True
        if status is _CLOSED:
            raise RuntimeError("the channel is closed")
        raise RuntimeError("the channel is busy: it would have more than max_size bytes")

    def receive_bytes(self, timeout_ms=-1):
        """Wait for the next message. TimeoutError after timeout_ms; ByteChannelClosed."""
        return self._receive(timeout_ms)

    def try_receive_bytes(self):
        """The next message, or None if there is none at the moment. ByteChannelClosed."""
        return self._try_receive()

    async def async_receive_bytes(self):
        """Await the next message. ByteChannelClosed."""
        return await self._async_receive()
