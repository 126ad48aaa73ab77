# SPDX-License-Identifier: Apache-2.0
"""What every interpreter of a worker does once, before its first request."""

import sys


def _print_by_line():
    # A worker can be killed at any time, and prints of several workers share one terminal.
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)


_print_by_line()
