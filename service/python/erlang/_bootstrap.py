# SPDX-License-Identifier: Apache-2.0
"""What every interpreter of a worker does once, before its first request."""

import sys

import _erlang

# Here, for before 3.13 it takes the thread that imports it first for the main thread; and what the end of the interpreter
# needs is there whatever becomes of sys.path.
import erlang._end  # noqa: F401
import erlang._loops  # noqa: F401: a thread that interrupts another must not import


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


_print_by_line()
_repeat_lost_interrupts()
