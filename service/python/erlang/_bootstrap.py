# SPDX-License-Identifier: Apache-2.0
"""What every interpreter of a worker does once, before its first request."""

import os
import sys
import time

import _erlang
import _frozen_importlib_external

# Here, for before 3.13 it takes the thread that imports it first for the main thread; and what the end of the interpreter
# needs is there whatever becomes of sys.path.
import erlang._end  # noqa: F401
import erlang._loops  # noqa: F401: a thread that interrupts another must not import


# Some file systems count seconds by two.
_YOUNG_S = 3


def _print_by_line():
    # A worker can be killed at any time, and prints of several workers share one terminal.
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)


def _repeat_lost_interrupts():
    # An interrupt that lands in a finalizer is printed and ignored, and would never end its call.
    former = sys.unraisablehook

    def unraisablehook(unraisable):
        former(unraisable)
        if unraisable.exc_type is KeyboardInterrupt:
            _erlang.lost_interrupt()

    sys.unraisablehook = unraisablehook


def _cache_no_young_files():
    # A cached file tells the age of its source by the second. What is changed within the second of its import has the
    # age of what it replaces, and perhaps its size: a process that starts then would load the old code.
    loader = getattr(_frozen_importlib_external, "SourceFileLoader", None)
    former = getattr(loader, "_cache_bytecode", None)
    if former is None:
        return

    def _cache_bytecode(self, source_path, bytecode_path, data):
        try:
            is_old = time.time() - os.stat(source_path).st_mtime > _YOUNG_S
        except OSError:
            is_old = False
        if is_old:
            former(self, source_path, bytecode_path, data)

    loader._cache_bytecode = _cache_bytecode


_cache_no_young_files()
_print_by_line()
_repeat_lost_interrupts()
