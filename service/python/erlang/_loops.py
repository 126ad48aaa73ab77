# SPDX-License-Identifier: Apache-2.0
"""Interrupts what runs in event loops.

Only the main thread of the main interpreter gets signals, and a thread that waits for file
descriptors looks at nothing else. But its loop can be asked, from any thread, to run something:
to raise the exception itself, which it does between two tasks and so loses none, or just to wake.
No module of a loop is imported here: a thread that runs one has loaded it.
"""

import _signal
import gc
import sys

import _erlang

_DEPTH = 1000
_TRIES = 100


def _nothing():
    pass


def _owners(frame):
    """The objects whose methods stand below on the stack, if asyncio or uvloop has made them."""
    for _ in range(_DEPTH):
        if frame is None:
            return
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.partition(".")[0] in ("asyncio", "uvloop"):
            yield frame.f_locals.get("self")
        frame = frame.f_back


def _kinds(cls):
    yield cls
    for kind in type.__subclasses__(cls):
        yield from _kinds(kind)


def _collected(loop_type):
    """The event loops of the interpreter that the garbage collector knows."""
    for loop in gc.get_referrers(*set(_kinds(loop_type))):
        if issubclass(type(loop), loop_type):
            yield loop


def look(thread_id):
    """The event loops that the thread runs, for an interpreter without a GIL: the frames of its
    threads do not stand still. The collector stops them all, and only loops get references."""
    events = sys.modules.get("asyncio.events")
    if events is None:
        return []
    loop_type = events.AbstractEventLoop
    return [loop for loop in _collected(loop_type) if getattr(loop, "_thread_id", None) == thread_id]


def _asyncio_loops(frame, loop_type):
    if isinstance(frame, list):
        yield from frame
        return
    for owner in _owners(frame):
        for value in (owner, getattr(owner, "_loop", None)):
            if isinstance(value, loop_type):
                yield value


def _other_loops(tasks, loop_type):
    """Loops of other make have no frames, but tasks: those of this interpreter. From Python 3.14 on
    no list has them all."""
    if sys.version_info >= (3, 14):
        return set(_collected(loop_type))
    known = set()
    for name in ("_scheduled_tasks", "_eager_tasks", "_all_tasks"):
        for _ in range(_TRIES):
            try:
                known.update(getattr(tasks, name, ()))
                break
            except RuntimeError:  # another thread has changed it meanwhile
                continue
    return {task.get_loop() for task in known}


def _trio_runners(frame):
    for _ in range(_DEPTH):
        if frame is None or isinstance(frame, list):
            return
        if frame.f_globals.get("__name__") == "trio._core._run":
            runner = frame.f_locals.get("runner")
            if runner is not None:
                yield runner
        frame = frame.f_back


def _is_ending(frame, loop):
    """Whether the loop ends anyway, and its callbacks that see to that would stay behind."""
    if getattr(loop, "_stopping", False):
        return True
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_code.co_name == "run_until_complete" and frame.f_locals.get("self") is loop:
            future = frame.f_locals.get("future")
            return hasattr(future, "done") and future.done()
        frame = frame.f_back
    return False


def _raise(call_id, loop):
    if not _erlang.take_interrupt(call_id):
        return
    if _is_ending(sys._getframe(), loop):
        _erlang.lost_interrupt()  # which finds what comes after the loop
    else:
        raise KeyboardInterrupt


def offer(frame, call_id):
    """Whether the innermost loop of asyncio's or uvloop's kind will raise KeyboardInterrupt, if
    it gets round to it while the call runs.

    frame: the topmost one of a thread, or what look() has found.
    """
    events = sys.modules.get("asyncio.events")
    if events is None:
        return False
    offered = False
    for loop in _asyncio_loops(frame, events.AbstractEventLoop):
        if loop.is_running():
            loop.call_soon_threadsafe(_raise, call_id, loop)
            offered = True
            if not isinstance(frame, list):  # which does not tell the innermost; the others stand
                break
    return offered


def tidy():
    """After an interrupt, in the thread that was interrupted, in which no loop runs any more."""
    events = sys.modules.get("asyncio.events")
    if events is None:
        return
    loop = events._get_running_loop()
    if loop is not None:
        events._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        if hasattr(loop, "_thread_id"):
            loop._thread_id = None
    # asyncio.run was cut before it took its handler away.
    handler = getattr(_signal.getsignal(_signal.SIGINT), "func", None)
    if getattr(handler, "__qualname__", None) == "Runner._on_sigint":
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def wake(frame, _call_id):
    """frame: the topmost one of a thread, or what look() has found."""
    events = sys.modules.get("asyncio.events")
    tasks = sys.modules.get("asyncio.tasks")
    if events is not None and tasks is not None:
        loops = set(_asyncio_loops(frame, events.AbstractEventLoop))
        for loop in loops or _other_loops(tasks, events.AbstractEventLoop):
            try:
                if loop.is_running():
                    loop.call_soon_threadsafe(_nothing)
            except Exception:  # it has just been closed
                continue
    if "trio" in sys.modules:
        for runner in list(_trio_runners(frame)):
            runner.entry_queue.run_sync_soon(_nothing)
