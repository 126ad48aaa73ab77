# SPDX-License-Identifier: Apache-2.0
"""The steps of the end of an interpreter, in the order of Python's own exit."""

import atexit
import threading


def wait_for_threads(seconds):
    """Waits for what waits for nobody's call: pools finish what they have been given, then threads that are no daemons
    end. None: for ever, as Python does."""
    if seconds is None:
        threading._shutdown()
        return
    # In a thread, for there is no other way to give up. Python calls it once more when it ends a sub-interpreter, and
    # before 3.13 only one of the calls may be that of the main thread.
    waiter = threading.Thread(target=threading._shutdown, name="erlang-end", daemon=True)
    try:
        waiter.start()
    except RuntimeError:
        # No thread is to be had.
        return
    waiter.join(seconds)


def run_exit_functions():
    atexit._run_exitfuncs()


def adopt_thread():
    """Threads inherit from the one that starts them whether they are daemons. threading takes each thread that it did not
    start for a daemon; what a request starts is waited for at the end, as in any Python program."""
    thread = threading.current_thread()
    if isinstance(thread, threading._DummyThread):
        thread._daemonic = False


def forget_thread():
    """Keeps threading from taking the stand-in of a thread that it did not start away when the thread ends: the finalizer
    would find the module empty."""
    local = getattr(threading, "_thread_local_info", None)
    if local is not None:
        tracker = local.__dict__.pop("_track_dummy_thread_ref", None)
        if tracker is not None:
            # Else it would be taken away here, and another one made by the next who looks for it.
            tracker._tident = None
