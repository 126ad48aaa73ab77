# SPDX-License-Identifier: Apache-2.0
"""Where this interpreter looks for modules, as far as Erlang decides it: before everything else on sys.path, first the
virtual environment, then the paths of the pool or context, then those that are registered for all."""

import _imp
import importlib
import sys

_venv = []
_own = []
_shared = []


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


def set_own(paths):
    _extend(_own, paths)
    _arrange()


def add(paths):
    """All that are registered, in their order. Those that are not any more stay."""
    _extend(_shared, paths)
    _arrange()


def searched():
    """What Erlang has named, in the order of the search."""
    return list(dict.fromkeys(_venv + _own + _shared))
