# SPDX-License-Identifier: Apache-2.0
"""What the requests of tests/chaos run: each has an id, leaves at most one mark that it
has begun, and returns a value that follows from its id, and the process that made it."""

import ctypes
import os
import threading
import time

import erlang

_files = {}


def f(i):
    return (i * 0x9E3779B97F4A7C15 + 0x1234567) & ((1 << 60) - 1)


def append(name, line):
    """With one write, so that lines of several processes do not mix."""
    fd = _files.get(name)
    if fd is None:
        path = os.path.join(os.environ['EP_CHAOS_DIR'], name)
        fd = _files[name] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line.encode())


def begin(i, how):
    if how == 'file':
        append('begun', f'{i}\n')
    elif how == 'state':
        erlang.state_incr(('begun', i))


def spend(ms):
    """Odd: in a blocking system call; even: in bytecode."""
    if ms % 2 == 1:
        time.sleep(ms / 1000)
    else:
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            pass


def done(i):
    return ['ok', f(i), os.getpid()]


def work(i, how, ms):
    begin(i, how)
    spend(ms)
    return done(i)


def reverse(i, how, data):
    begin(i, how)
    return ['ok', data[::-1], os.getpid()]


def nested(i, how, depth, seed):
    begin(i, how)
    word, value, *_ = erlang.call('chaos_nested', i, depth, seed)
    if word != 'ok' or value != f(i):
        return ['inner', repr(value)]
    return done(i)


def threads(i, how, count):
    """Each asks Erlang; what one of them fails with is not the failure of the request."""
    begin(i, how)
    answers = {}

    def ask(k):
        try:
            answers[k] = erlang.call('chaos_thread', i, k)
        except BaseException as e:
            answers[k] = repr(e)

    started = [threading.Thread(target=ask, args=(k,), daemon=True) for k in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    for k in range(count):
        if answers.get(k) != f(i) + k:
            return ['inner', f'thread {k}: {answers.get(k)!r}']
    return done(i)


async def awaited(i, how):
    """As threads, in a coroutine."""
    begin(i, how)
    await erlang.async_call('chaos_thread', i, 1)
    return done(i)


async def rest(seconds):
    import asyncio  # here, for it takes more than all the rest of a start

    await asyncio.sleep(seconds)


def letters(i, how, pid):
    """Messages of the request and of its thread."""
    begin(i, how)

    def send(who):
        for n in (1, 2, 3):
            erlang.send(pid, (who, n))

    erlang.send(pid, ('lane', 1))
    erlang.send(pid, ('lane', 2))
    thread = threading.Thread(target=send, args=('thread',), daemon=True)
    thread.start()
    thread.join()
    erlang.send(pid, ('lane', 3))
    return done(i)


def ticks(i, how, ms, in_thread):
    """Callbacks one after the other; the storm ends the process or the context meanwhile."""
    begin(i, how)

    def run():
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            if erlang.call('chaos_tick', i) != f(i):
                raise AssertionError('a wrong answer to a callback')

    if in_thread:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()
    else:
        run()
    return done(i)


def die(i, how, way):
    begin(i, how)
    append('deaths', f'{os.getpid()} {time.monotonic_ns()} {way}\n')
    if way == 'segv':
        ctypes.string_at(0)
    elif way == 'exit':
        os._exit(7)
    os.abort()


def monotonic_ns():
    return time.monotonic_ns()


def take(i, how, data):
    begin(i, how)
    return done(i) if len(data) == 1 << 20 else ['inner', 'a part of the data is missing']


def give(i, how, size):
    begin(i, how)
    return done(i) + [b'\xff' * size]


def items(i, how, n, ms):
    begin(i, how)
    for k in range(n):
        yield f(i) + k
        if ms:
            spend(ms)


async def async_items(i, how, n, ms):
    import asyncio

    begin(i, how)
    for k in range(n):
        yield f(i) + k
        if ms:
            await asyncio.sleep(ms / 1000)


async def task(i, how, ms):
    import asyncio

    begin(i, how)
    if ms:
        await asyncio.sleep(ms / 1000)
    return done(i)


async def rests(i, how, seconds):
    import asyncio

    begin(i, how)
    await asyncio.sleep(seconds)


def array(i, how, given):
    """The same array, and another one."""
    begin(i, how)
    made = erlang.share(bytes(given)[::-1])
    return [*done(i), [erlang.share(given), made]]


def sends(i, how, pid, n):
    begin(i, how)
    for k in range(n):
        erlang.send(pid, (i, k))
    return done(i)


def beside():
    """How many tasks and async streams the interpreter has."""
    import sys

    tasks, streams = sys.modules.get('erlang._tasks'), sys.modules.get('erlang._streams')
    n = 0
    if tasks is not None:
        n += sum(len(of_lane) for of_lane in list(tasks._tasks.values()))
    if streams is not None:
        n += len(streams._open) + len(streams._left)
    return n


# --- channels, buffers, dicts and arrays; what is got or sent leaves a mark --------------------


def got(i, k):
    append('got', f'{i} {k}\n')


def receives(i, how, handle, n):
    begin(i, how)
    channel = erlang.Channel(handle)
    items = []
    for _ in range(n):
        items.append(channel.receive())
        got(i, items[-1])
    return [*done(i), items]


def receives_in_thread(i, how, handle, n):
    answer = []

    def receive():
        answer.extend(receives(i, how, handle, n))

    thread = threading.Thread(target=receive, name='ep_chaos', daemon=True)
    thread.start()
    thread.join()
    return answer


async def awaits_items(i, how, handle, n):
    begin(i, how)
    channel = erlang.Channel(handle)
    items = []
    for _ in range(n):
        items.append(await channel.async_receive())
        got(i, items[-1])
    return [*done(i), items]


def drains(handle):
    """What nobody has taken, once those who were at it have ended."""
    for thread in threading.enumerate():
        if thread.name == 'ep_chaos':
            thread.join()
    channel = erlang.Channel(handle)
    items = []
    while True:
        try:
            items.append(channel.receive(1))
        except (TimeoutError, erlang.ChannelClosed):
            return items


def takes(i, how, handle, most):
    """At most so many items; whether that was the end of the channel, too."""
    begin(i, how)
    items = []
    for item in erlang.Channel(handle):
        items.append(item)
        if len(items) == most:
            return [*done(i), items, False]
    return [*done(i), items, True]


def puts(i, how, handle, sizes):
    begin(i, how)
    channel = erlang.ByteChannel(handle)
    for k, size in enumerate(sizes, 1):
        channel.send_bytes(bytes([k]) * size)
        got(i, k)
    return done(i)


def reads(i, how, buffer, size):
    begin(i, how)
    data = buffer.read()
    good = len(data) == size and data == bytes(range(256)) * (size // 256)
    return done(i) if good else ['inner', f'{len(data)} bytes']


def sets(i, how, handle, n):
    begin(i, how)
    shared = erlang.SharedDict(handle)
    for k in range(1, n + 1):
        shared[f'k{k}'] = k if k % 2 else [k]
        got(i, k)
    return done(i) if looks(handle) == n else ['inner', 'another value']


def looks(handle):
    """How many keys are there, each with its value."""
    shared = erlang.SharedDict(handle)
    for key in shared.keys():
        key = key.decode() if isinstance(key, bytes) else key
        k = int(key[1:])
        if shared[key] != (k if k % 2 else [k]):
            raise AssertionError(f'{key}: {shared[key]!r}')
    return len(list(shared.keys()))


def holds(i, how, *handles):
    global _held
    begin(i, how)
    _held = handles
    return done(i)


def lets_go():
    global _held
    _held = None
    return 'gone'
