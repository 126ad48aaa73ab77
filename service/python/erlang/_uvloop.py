# SPDX-License-Identifier: Apache-2.0
"""The choice of uvloop for the event loops of an interpreter: this module is loaded where it was made."""

import sys

try:
    # Refuses sub-interpreters itself; the VM asks for none there.
    import uvloop
except ImportError:
    uvloop = None


def choose():
    """None, or why it cannot be."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "uvloop does not support this Python, which has no GIL"
    if uvloop is None:
        return "uvloop is not installed where this Python looks for modules"
    return None


def new_event_loop():
    return uvloop.new_event_loop()
