# SPDX-License-Identifier: Apache-2.0
"""Where this interpreter looks for modules, as far as Erlang decides it: before everything else on sys.path, first the
virtual environment, then the paths of the pool or context, then those that are registered for all."""

import _imp
import importlib
import sys
import threading

_venv = []
_own = []
_shared = []
# Changes come in threads of their own, and not always in their order.
_lock = threading.Lock()
_change = 0
_activation = None


def _arrange(gone=()):
    """Under the lock that a search for a module holds: one that goes through the list meanwhile would miss entries."""
    placed = list(dict.fromkeys(_venv + _own + _shared))
    away = set(placed).union(gone)
    _imp.acquire_lock()
    try:
        sys.path[:] = placed + [entry for entry in sys.path if entry not in away]
    finally:
        _imp.release_lock()
    # A directory may have been made, or filled, since it was looked at.
    importlib.invalidate_caches()


def _extend(known, paths):
    known.extend(path for path in dict.fromkeys(paths) if path not in set(known))


def _enter_venv(directory):
    """Its site-packages, and what the .pth files in it name, in the order of Python's own start."""
    import site

    n = len(sys.path)
    # Whatever is known already: its place is another one now.
    site.addsitedir(directory, set())
    return [directory] + [entry for entry in sys.path[n:] if entry != directory]


def set_own(paths):
    with _lock:
        _extend(_own, paths)
        _arrange()


def register(change, activation, paths):
    """What holds for every interpreter since that change: the virtual environment, its number and its site-packages, or
    None; all paths in their order. Paths that are not registered any more stay."""
    global _change, _activation, _venv

    with _lock:
        gone = []
        _extend(_shared, paths)
        if change > _change:
            _change = change
            if activation != _activation:
                gone, _activation = _venv, activation
                _venv = [] if activation is None else _enter_venv(activation[1])
        _arrange(gone)


def searched():
    """What Erlang has named, in the order of the search."""
    return list(dict.fromkeys(_venv + _own + _shared))
