# SPDX-License-Identifier: Apache-2.0
"""What Erlang asks about an interpreter, beside the requests that run in it."""

import gc
import sys
import tracemalloc


def interpreter():
    """A number that no other interpreter of this process has."""
    try:
        import _interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as _interpreters
        except ImportError:
            return 0
    current = _interpreters.get_current()
    return int(current[0] if isinstance(current, tuple) else current)


def memory_stats():
    stats = {
        "gc_stats": gc.get_stats(),
        "gc_count": gc.get_count(),
        "gc_threshold": gc.get_threshold(),
    }
    if tracemalloc.is_tracing():
        stats["traced_memory_current"], stats["traced_memory_peak"] = tracemalloc.get_traced_memory()
    return interpreter(), stats


def collect(generation):
    return interpreter(), gc.collect(generation)


def tracemalloc_start(frames):
    tracemalloc.start(frames)
    return interpreter(), True


def tracemalloc_stop():
    tracemalloc.stop()
    return interpreter(), True


def version():
    return sys.version
