# SPDX-License-Identifier: Apache-2.0
"""Shared dicts: tables in the Erlang VM, which every worker process sees."""

import pickle

try:
    import _erlang
except ModuleNotFoundError:
    from . import _outside as _erlang

_ask = _erlang.object_dict
_OK, _EMPTY = _erlang.STATUSES[:2]
_AGAIN = _erlang.STATUSES[4]
_BUSY = _erlang.STATUSES[6]
_GONE = _erlang.STATUSES[8]
_GET, _SET, _DELETE, _KEYS, _HAS, _DESTROY = range(6)
_missing = object()


def _key(key):
    if type(key) is str:
        return key.encode()
    if type(key) is bytes:
        return key
    raise TypeError(f"the keys of a shared dict are str or bytes, not {type(key).__name__}")


def _is_plain(value):
    """Whether what Erlang gets becomes the same object again."""
    kind = type(value)
    return kind is str or kind is int or kind is bool or value is None or (kind is float and value - value == 0)


class SharedDict(_erlang.Handle):
    """The Python side of a shared dict, made of the handle that Erlang has passed."""

    __slots__ = ()
    _kind = 3

    def _get(self, key):
        found = self._look(_GET, _key(key))
        if found is _EMPTY:
            return _missing
        is_pickle, value = found
        return pickle.loads(value) if is_pickle else value

    def _look(self, *question):
        # While there is no room for the answer, other answers are read.
        while (answer := _ask(self, *question)) is _AGAIN:
            pass
        if answer is _BUSY:
            raise MemoryError("no memory for what the shared dict has")
        return self._alive(answer)

    def _alive(self, answer):
        if answer is _GONE:
            raise RuntimeError("the shared dict was destroyed")
        return answer

    def __getitem__(self, key):
        value = self._get(key)
        if value is _missing:
            raise KeyError(key)
        return value

    def __setitem__(self, key, value):
        dumped = None if _is_plain(value) else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        try:
            status = _ask(self, _SET, _key(key), value, dumped)
        except (TypeError, ValueError, RecursionError, OverflowError):
            if dumped is None:
                dumped = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            # Erlang has no such value: it gets its text.
            status = _ask(self, _SET, _key(key), ascii(value), dumped)
        if self._alive(status) is not _OK:
            raise MemoryError("the shared dict has no room for this value")

    def __delitem__(self, key):
        if self._alive(_ask(self, _DELETE, _key(key))) is _EMPTY:
            raise KeyError(key)

    def __contains__(self, key):
        return self._alive(_ask(self, _HAS, _key(key))) is _OK

    def get(self, key, default=None):
        """The value of a key, or the default."""
        value = self._get(key)
        return default if value is _missing else value

    def keys(self):
        """A list of the keys at this moment: str, or bytes where they are no UTF-8."""
        return self._look(_KEYS)

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())

    def destroy(self):
        """End the dict on both sides."""
        _ask(self, _DESTROY)
