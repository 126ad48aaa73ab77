# SPDX-License-Identifier: Apache-2.0
"""In a process that starts Python and imports modules once, and forks workers.

The first byte of each string says what it is:
  P a path of the pool; R a path that is registered for all; C the number of the last registration
  V the number of a virtual environment, a space, its site-packages; M a module to import
"""

import gc
import os
import sys
import threading

import erlang._imports as _imports
import erlang._maintenance  # noqa: F401: each worker needs it at once
import erlang._paths as _paths


def prepare(strings):
    told = {kind: [] for kind in "PRCVM"}
    for string in strings:
        told[chr(string[0])].append(string[1:].decode())
    venv = None
    for text in told["V"]:
        number, site = text.split(" ", 1)
        venv = int(number), site
    if told["P"]:
        _paths.set_own(told["P"])
    if venv is not None or told["R"]:
        _paths.register(int(told["C"][0]), venv, told["R"])
    for name in told["M"]:
        before = threading.active_count()
        _imports.load(name)
        if threading.active_count() > before:
            raise RuntimeError(f"the import of {name} starts a Python thread, which a fork would leave behind")
    # Each worker would write it once more.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # What lives now lives as long as the process: no collection touches it, so its pages stay shared.
    gc.collect()
    gc.freeze()


def try_out():
    """Whether the libraries go on in a child."""
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # Large enough for the threads of its library.
        square = numpy.ones((300, 300))
        if (square @ square)[0, 0] != 300:
            return False
    return True


def become_worker():
    os.environ["EP_LAUNCHER_MARK"] = "%010d" % os.getpid()
    # Python sees to the module random itself.
    for name, seed in (("numpy.random", "seed"), ("torch", "seed")):
        module = sys.modules.get(name)
        if module is not None:
            try:
                getattr(module, seed)()
            except Exception:
                sys.excepthook(*sys.exc_info())
