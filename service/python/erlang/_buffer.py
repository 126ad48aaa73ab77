# SPDX-License-Identifier: Apache-2.0
"""Buffers: what Erlang writes with py_buffer:write/2, as a file."""

import io

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang

_read = _erlang.object_read
_AGAIN = _erlang.STATUSES[4]
_BUSY = _erlang.STATUSES[6]
_WAITER_EXISTS = _erlang.STATUSES[3]
_Status = object

# What is fetched at a time where less is asked for: lines are short, and a question costs as much as some kilobytes.
_CHUNK = 65536


class PyBuffer(_erlang.Handle):
    """A read-only file of bytes that Erlang writes. Reading waits for what has not been written yet."""

    __slots__ = ("_at", "_chunk", "_closed", "_pos")
    _kind = 2

    def __init__(self, handle):
        self._pos = self._at = 0
        self._chunk = b""
        self._closed = False

    def _fetch(self, pos, n, ms=-1):
        """Bytes from a position on, n at most; none at the end, or if there are none yet."""
        if self._closed:
            raise ValueError("read of a closed buffer")
        skip = pos - self._at
        if 0 <= skip < len(self._chunk):
            return self._chunk[skip : skip + n]
        while True:
            data = _read(self, pos, max(n, _CHUNK), ms)
            if type(data) is bytes:
                break
            if data is _WAITER_EXISTS:
                raise RuntimeError("another reader waits for this buffer already")
            if data is _BUSY:
                raise MemoryError("no memory for what the buffer has")
            if data is not _AGAIN:
                return b""
        if len(data) <= n:
            return data
        self._at, self._chunk = pos, data
        return data[:n]

    def _parts(self, n, ms=-1):
        while n > 0 and (part := self._fetch(self._pos, min(n, 1 << 20), ms)):
            self._pos += len(part)
            n -= len(part)
            yield part

    def read(self, n=-1):
        """n bytes, or fewer at the end; all of them without n. Waits."""
        return b"".join(self._parts(float("inf") if n is None or n < 0 else n)) if n != 0 else b""

    def read_nonblock(self, n=-1):
        """What there is, n bytes at most."""
        return b"".join(self._parts(self.readable_amount() if n is None or n < 0 else n, 0))

    def readinto(self, target):
        """Read into a buffer of the caller, and return how much."""
        with memoryview(target).cast("B") as view:
            data = self.read(len(view))
            view[: len(data)] = data
        return len(data)

    def _size(self):
        if self._closed:
            raise ValueError("read of a closed buffer")
        return _erlang.object_size(self)

    def readable_amount(self):
        """How many bytes can be read without waiting."""
        return max(0, self._size()[0] - self._pos)

    def at_eof(self):
        """Whether all was read, and nothing more will come."""
        size, is_all = self._size()
        return bool(is_all) and self._pos >= size

    def readline(self, size=-1):
        """The next line with its end, of size bytes at most. Waits."""
        left = None if size is None or size < 0 else size
        parts = []
        while left is None or left > 0:
            part = self._fetch(self._pos, _CHUNK if left is None else min(left, _CHUNK))
            if not part:
                break
            end = part.find(b"\n") + 1
            if end:
                part = part[:end]
            self._pos += len(part)
            parts.append(part)
            if end:
                break
            if left is not None:
                left -= len(part)
        return b"".join(parts)

    def readlines(self, hint=-1):
        """Lines, until they have hint bytes together."""
        lines, total = [], 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset, whence=io.SEEK_SET):
        """Go to a position. From the end: waits until all was written."""
        if whence == io.SEEK_CUR:
            offset += self._pos
        elif whence == io.SEEK_END:
            end = self._pos
            while part := self._fetch(end, _CHUNK):
                end += len(part)
            offset += max(end, self._size()[0])
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid whence: {whence}")
        if offset < 0:
            raise ValueError(f"negative seek position: {offset}")
        self._pos = offset
        return offset

    def tell(self):
        """The position."""
        return self._pos

    def find(self, sub, start=0, end=None):
        """The first position of sub in what was written so far, or -1."""
        size = self._size()[0]
        return self._bytes(size if end is None else min(size, end)).find(sub, start)

    def _bytes(self, size=None):
        """What was written so far."""
        parts, at = [], 0
        if size is None:
            size = self._size()[0]
        while at < size and (part := self._fetch(at, min(size - at, 1 << 20), 0)):
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    @property
    def closed(self):
        """Whether close() was called here."""
        return self._closed

    def close(self):
        """No more reading here, and no more writing in Erlang."""
        if not self._closed:
            self._closed = True
            self._chunk = b""
            _erlang.object_close(self)

    def readable(self):
        return True

    def seekable(self):
        return True

    def writable(self):
        return False

    def isatty(self):
        return False

    def flush(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
