# SPDX-License-Identifier: Apache-2.0
"""What Erlang asks about an interpreter, beside the requests that run in it.

Each answer begins with the process and the interpreter, so that one which several contexts share counts once.
"""

import gc
import os
import sys

import _erlang

import erlang._imports as _imports  # not from: that would ask Erlang for the name first
import erlang._paths as _paths

try:
    import tracemalloc
except ImportError:
    # It refuses sub-interpreters.
    tracemalloc = None

try:
    import _interpreters
except ImportError:
    try:
        import _xxsubinterpreters as _interpreters
    except ImportError:
        _interpreters = None


# Bytes of paths in an answer.
_ANSWER = 50000


def _interpreter():
    """A number that no other interpreter of this process has."""
    if _interpreters is None:
        return 0
    current = _interpreters.get_current()
    return int(current[0] if isinstance(current, tuple) else current)


def _answer(value):
    return os.getpid(), _interpreter(), value


def memory_stats():
    stats = {
        "gc_stats": gc.get_stats(),
        "gc_count": gc.get_count(),
        "gc_threshold": gc.get_threshold(),
    }
    if tracemalloc is not None and tracemalloc.is_tracing():
        stats["traced_memory_current"], stats["traced_memory_peak"] = tracemalloc.get_traced_memory()
    return _answer(stats)


def collect(generation):
    return _answer(gc.collect(generation))


def tracemalloc_start(frames):
    if tracemalloc is not None:
        tracemalloc.start(frames)
    return _answer(tracemalloc is not None)


def tracemalloc_stop():
    if tracemalloc is not None:
        tracemalloc.stop()
    return _answer(tracemalloc is not None)


def set_paths(paths):
    """Those of the pool or context, before its first request."""
    _paths.set_own(paths)
    return _answer(None)


def register(change, activation, paths):
    _paths.register(change, activation, paths)
    return _answer(None)


def where():
    """The program that this Python belongs to, and where it looks for modules, as far as an answer holds it."""
    entries, left = [], _ANSWER
    for entry in sys.path:
        if isinstance(entry, str):
            text = entry.encode("utf-8", "surrogateescape")
            left -= len(text) + 8
            if left > 0:
                entries.append(text)
    return _answer((sys.executable, entries))


def import_all(wanted):
    return _answer(_imports.load_all(wanted))


def reload(module, number):
    return _answer(_imports.load_again(module, number))


def show_context(lane, name):
    """Says in the list of processes what this one is."""
    _erlang.show_context(lane, name)
    return _answer(None)
