# SPDX-License-Identifier: Apache-2.0
"""Streams of what is asynchronous, an async generator for example.

A task of the event loop makes the items, another one fetches them, as often as Erlang has sent on what it had:

    thread of the context       event loop
    leave(iterable) -> key
    asks Erlang                 open(key): takes it and makes items, _AHEAD of those that were sent on
    ends                        fetch(key, ..): the items that are there, or the next one
                                the task ends when all were fetched, or when it is cancelled
"""

import asyncio
import collections
import itertools
import os
import sys
import time

# Items that were made and are not known to be sent on.
_AHEAD = 64
# A fetch takes no more items when it has so much, as far as their types tell.
_BATCH_BYTES = 1 << 16
# How long an iterable waits for its task.
_LEFT_S = 60

# By key. No key is used twice, also not by another worker process.
_left = {}
_open = {}


class _Stream:
    __slots__ = ("has_begun", "is_over", "item", "items", "room")

    def __init__(self):
        self.items = collections.deque()
        self.has_begun = False
        self.is_over = False
        # Futures: of the task that fetches, and of that which makes items.
        self.item = None
        self.room = None

    def put(self, item):
        self.items.append(item)
        _wake(self.item)

    def end(self):
        self.is_over = True
        _wake(self.item)

    def drop(self, n):
        for _ in range(min(n, len(self.items))):
            self.items.popleft()
        _wake(self.room)

    async def wait_for_room(self, most):
        while len(self.items) > most:
            self.room = asyncio.get_running_loop().create_future()
            await self.room

    async def wait_for_items(self, most):
        while not self.items and not self.is_over:
            self.item = asyncio.get_running_loop().create_future()
            await self.item
        return self.batch(most)

    def batch(self, most):
        size = 0
        batch = []
        for item in itertools.islice(self.items, most):
            batch.append(item)
            size += sys.getsizeof(item, 0)
            if size > _BATCH_BYTES:
                break
        return batch


def _wake(future):
    if future is not None and not future.done():
        future.set_result(None)


def leave(iterable):
    """The thread of the context. Erlang gets the key."""
    now = time.monotonic()
    # Those whose tasks have ended before they began, with their contexts.
    for key, (_, until) in list(_left.items()):
        if until < now:
            _left.pop(key, None)
    key = int.from_bytes(os.urandom(7), "big")
    _left[key] = (iterable, now + _LEFT_S)
    return key


def forget(key):
    """No task will open it."""
    _left.pop(key, None)


def open(key):
    """A task: it ends with the stream."""
    iterable, _ = _left.pop(key)
    # Before the first step of the task: where tasks are not eager, before Python 3.12, the first fetch comes before it.
    stream = _open[key] = _Stream()
    # If it is cancelled before that step, there is none. By the second turn of the loop there was.
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, _close_unbegun, key, stream)
    return _make(key, stream, iterable)


def _close_unbegun(key, stream):
    if not stream.has_begun:
        _close(key, stream)


def _close(key, stream):
    del _open[key]
    stream.items.clear()
    stream.end()


async def _make(key, stream, iterable):
    stream.has_begun = True
    task = asyncio.current_task()
    try:
        await _run(stream, iterable, task)
        stream.end()
        await stream.wait_for_room(0)
    except BaseException:
        if not task.cancelling():
            # The items before the exception come first.
            stream.end()
            await stream.wait_for_room(0)
        raise
    finally:
        _close(key, stream)


async def _run(stream, iterable, task):
    iterator = type(iterable).__aiter__(iterable)
    is_generator = hasattr(type(iterator), "athrow") and hasattr(type(iterator), "aclose")
    try:
        async for item in iterator:
            if task.cancelling():
                # It has caught the exception, and goes on.
                raise asyncio.CancelledError
            stream.put(item)
            del item
            await stream.wait_for_room(_AHEAD - 1)
    except BaseException:
        if is_generator:
            try:
                await iterator.aclose()
            except BaseException:
                # What was raised first counts.
                pass
        raise


def fetch(key, sent, most):
    """Items, at most so many; none: the stream is over. sent: how many of those before were sent on."""
    stream = _open.get(key)
    if stream is None:
        return []
    stream.drop(sent)
    if stream.items or stream.is_over:
        return stream.batch(most)
    return stream.wait_for_items(most)
