# SPDX-License-Identifier: Apache-2.0
"""The event loop of an interpreter, which runs the tasks that Erlang makes.

It has a thread of its own, which is started with the first task. Messages for it lie in a queue; an eventfd tells that
there is one while the loop may sleep. Once awake, the loop looks at the queue in each of its rounds, until it finds it
empty.

What drives async generators is tasks, too: erlang._streams.
"""

import asyncio
import functools
import sys
import threading
from asyncio import CancelledError

import _erlang

_done = _erlang.task_done
_failed = _erlang.task_failed
_look = _erlang.task_look
_Task = asyncio.Task

# How long the end of a context waits for tasks that do not end when they are cancelled.
_GRACE_S = 1.0
# A task whose first step is its last costs no round of the loop.
_EAGER = {"eager_start": True} if sys.version_info >= (3, 12) else {}

# There is no other way to another thread's frame, and none that is needed elsewhere.
_NO_GIL = not getattr(sys, "_is_gil_enabled", lambda: True)()

# Of the stack of a loop that stands still.
_FRAMES = 20
_STACK_MAX = 4000

_loop = None
_thread = None
_ending = False
# The tasks of each lane that have not ended, by the number of the call. The loop itself holds none.
_tasks = {}
# The lanes whose contexts end.
_leaving = set()


async def _run(awaitable, token, lane, key):
    try:
        value = await awaitable
    except BaseException as exc:
        # Also SystemExit and KeyboardInterrupt: they end the task, not the loop.
        _failed(token, exc)
    else:
        _done(token, value)
    finally:
        _forget(lane, key)


def start(awaitable, token, key, lane, context):
    """Makes a task of it. token: to whom its outcome goes."""
    task = _Task(_run(awaitable, token, lane, key), loop=_loop, context=context, **_EAGER)
    if not task.done():
        try:
            _tasks[lane][key] = task
        except KeyError:
            _tasks[lane] = {key: task}
        if not _EAGER:
            # Cancelled before its first step, it never comes to the end of _run().
            task.add_done_callback(functools.partial(_forget, lane, key))


def _forget(lane, key, _task=None):
    of_lane = _tasks.get(lane)
    if of_lane is not None and of_lane.pop(key, None) is not None and not of_lane and lane in _leaving:
        _left(lane)


def cancel(lane, key):
    task = _tasks.get(lane, {}).get(key)
    if task is not None:
        task.cancel()


def leave(lane):
    """The context of the lane ends, and takes no more tasks."""
    _leaving.add(lane)
    of_lane = list(_tasks.get(lane, {}).values())
    if not of_lane:
        _left(lane)
        return
    for task in of_lane:
        task.cancel()
    _loop.call_later(_GRACE_S, _left, lane)


def _left(lane):
    if lane in _leaving:
        _leaving.discard(lane)
        # What is left goes on without an answer: its caller has one.
        _tasks.pop(lane, None)
        _erlang.tasks_left(lane)


def stack(frame):
    """What the thread of the loop is at, as text: code below the loop, innermost last. frame: None to look it up."""
    if frame is None and _NO_GIL:
        frame = sys._current_frames().get(_thread)
    frames = []
    while frame is not None and len(frames) < _FRAMES:
        # The loop itself is of no interest, and neither is what lies below it.
        if frame.f_code.co_name == "_run_once" or frame.f_code.co_filename == __file__:
            break
        frames.append(frame)
        frame = frame.f_back
    lines = []
    for frame in reversed(frames):
        lines.append(f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}')
    return "\n".join(lines)[-_STACK_MAX:]


def end():
    global _ending
    _ending = True
    _loop.stop()


def _woken():
    if _look(True):
        _loop.call_soon(_look_again)


def _look_again():
    if _look(False):
        _loop.call_soon(_look_again)


def _finish():
    """Ends what runs in the loop, as asyncio.run does, but for what does not end in time."""
    rest = asyncio.all_tasks(_loop)
    for task in rest:
        task.cancel()
    if rest:
        _loop.run_until_complete(asyncio.wait(rest, timeout=_GRACE_S))
    _loop.run_until_complete(asyncio.wait_for(_loop.shutdown_asyncgens(), _GRACE_S))


def run(fd):
    global _loop, _thread
    _thread = threading.get_ident()
    chosen = sys.modules.get("erlang._uvloop", asyncio)
    _loop = chosen.new_event_loop()
    _loop.add_reader(fd, _woken)
    while not _ending:
        try:
            # A task may stop it.
            _loop.run_forever()
        except BaseException as exc:
            _loop.call_exception_handler({"message": "a callback ended the event loop, which goes on", "exception": exc})
    try:
        _finish()
    finally:
        _loop.remove_reader(fd)
        _loop.close()
