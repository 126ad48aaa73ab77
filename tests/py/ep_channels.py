# SPDX-License-Identifier: Apache-2.0
"""What py_channel_SUITE, py_buffer_SUITE and py_shared_dict_SUITE call."""

import asyncio
import datetime
import os
import sys
import threading

from erlang import ByteChannel, ByteChannelClosed, Channel, ChannelClosed, PyBuffer, SharedDict

KEPT = []


def keep(handle):
    KEPT.append(handle)


def kept():
    return KEPT[-1]


def forget():
    KEPT.clear()


def same(value):
    return value


def take(handle, timeout_ms=-1):
    return Channel(handle).receive(timeout_ms)


def try_take(handle):
    return Channel(handle).try_receive()


def all_of(handle):
    return list(Channel(handle))


def what_ends(handle):
    """The exceptions of a channel that is closed and empty."""
    channel = Channel(handle)
    ends = []
    for receive_ in (channel.receive, channel.try_receive):
        try:
            receive_()
        except ChannelClosed as e:
            ends.append(type(e).__name__)
    return ends


def refused(handle):
    """What a handle cannot be made into."""
    texts = []
    for make in (Channel, ByteChannel, SharedDict, PyBuffer):
        try:
            make(handle)
        except TypeError as e:
            texts.append(str(e))
    return texts


def with_close(handle):
    with Channel(handle) as channel:
        return channel.receive()


def die_receiving(handle, marker):
    with open(marker, "w"):
        pass
    Channel(handle).receive()
    os._exit(3)


def mark_and_receive(handle, marker):
    with open(marker, "w"):
        pass
    return Channel(handle).receive()


def take_through(handle):
    """A channel and an array that came through a channel."""
    other, array = Channel(handle).receive()
    return [Channel(other).receive(), len(array)]


def catch_and_go_on(handle, marker):
    """Goes on when its wait is interrupted, and receives again."""
    with open(marker, "w"):
        pass
    try:
        return ["first", Channel(handle).receive()]
    except KeyboardInterrupt:
        return ["second", Channel(handle).receive()]


def all_until_death(handle, marker):
    with open(marker, "w"):
        pass
    for _item in Channel(handle):
        pass


def doubled(handle):
    for item in Channel(handle):
        yield 2 * item


def in_thread(handle):
    items = []
    thread = threading.Thread(target=lambda: items.extend(Channel(handle)))
    thread.start()
    thread.join()
    return items


# --- coroutines


async def async_receive(handle, n):
    channel = Channel(handle)
    return [await channel.async_receive() for _ in range(n)]


async def async_all(handle):
    return [item async for item in Channel(handle)]


async def async_timeout(handle):
    try:
        await asyncio.wait_for(Channel(handle).async_receive(), 0.02)
    except asyncio.TimeoutError:
        return "timeout"
    return "item"


async def async_second(handle):
    """While a coroutine waits, another one is refused; after a cancel, one may wait again."""
    channel = Channel(handle)
    first = asyncio.ensure_future(channel.async_receive())
    await asyncio.sleep(0)
    try:
        await channel.async_receive()
    except RuntimeError as e:
        text = str(e)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    return text, await async_timeout(handle)


async def async_closed(handle):
    try:
        await Channel(handle).async_receive()
    except ChannelClosed:
        return "closed"


async def async_turns(handle):
    """Other coroutines have their turns while items are there."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(count())
    n = len([item async for item in Channel(handle)])
    task.cancel()
    return n, turns > 3


async def async_write(handle, path):
    """Writes each item to a file, which is there when the process is not."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    async for item in Channel(handle):
        os.write(fd, b"%d\n" % item)


def thread_receive(handle, n):
    items = []
    thread = threading.Thread(target=lambda: items.extend(Channel(handle).receive() for _ in range(n)))
    thread.start()
    thread.join()
    return items


def threads_all(handle, threads):
    """What each of so many threads receives until the channel is closed. Two that wait at a time are one too many."""
    items = [[] for _ in range(threads)]

    def read(mine):
        channel = Channel(handle)
        while True:
            try:
                mine.append(channel.receive())
            except ChannelClosed:
                return
            except RuntimeError:
                pass

    running = [threading.Thread(target=read, args=(mine,)) for mine in items]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return items


def thread_tries(handle):
    """What a thread gets that only tries, of a channel that is closed already: an item, or ChannelClosed."""
    items = []

    def read():
        channel = Channel(handle)
        while True:
            try:
                items.append(channel.try_receive())
            except ChannelClosed:
                return

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return items


async def async_many(handles, n):
    """n items of each, in turns."""
    items = []
    for _ in range(n):
        items.append([await Channel(handle).async_receive() for handle in handles])
    return items


# --- byte channels


def echo(handle):
    channel = ByteChannel(handle)
    n = 0
    for data in channel:
        channel.send_bytes(data.upper())
        n += 1
    return n


def send_bytes(handle, data):
    return ByteChannel(handle).send_bytes(data)


def send_numbers(handle, n):
    channel = ByteChannel(handle)
    for i in range(1, n + 1):
        channel.send_bytes(i.to_bytes(4, "big"))


def send_length(handle, n):
    return ByteChannel(handle).send_bytes(b"x" * n)


def receive_bytes(handle, timeout_ms=-1):
    return type(data := ByteChannel(handle).receive_bytes(timeout_ms)).__name__, data


def try_take_bytes(handle):
    return ByteChannel(handle).try_receive_bytes()


async def async_timeout_bytes(handle):
    try:
        await asyncio.wait_for(ByteChannel(handle).async_receive_bytes(), 0.01)
    except asyncio.TimeoutError:
        return None
    return "bytes"


def lengths(handle):
    return [len(data) for data in ByteChannel(handle)]


def bytes_end(handle):
    channel = ByteChannel(handle)
    try:
        channel.try_receive_bytes()
    except ByteChannelClosed:
        return True


def close(handle):
    ByteChannel(handle).close()


async def async_echo(handle, n):
    channel = ByteChannel(handle)
    for _ in range(n):
        channel.send_bytes(await channel.async_receive_bytes())


# --- dicts


def dict_get(handle, key):
    return SharedDict(handle)[key]


def dict_set(handle, key, value):
    SharedDict(handle)[key] = value


def dict_round(handle):
    """Python values come back in Python as they were."""
    d = SharedDict(handle)
    values = [datetime.date(2020, 1, 2), b"abc", (1, b"x"), {1, 2}, None, True, 2**70, -0.0, "\ud800", {"k": [1]}]
    for i, value in enumerate(values):
        d[f"k{i}"] = value
    return [repr(d[f"k{i}"]) == repr(value) for i, value in enumerate(values)]


def dict_methods(handle):
    d = SharedDict(handle)
    d["a"] = 1
    d[b"b"] = 2
    facts = ["a" in d, "c" in d, d.get("c"), d.get("c", 3), sorted(d.keys()), len(d)]
    del d["a"]
    try:
        d["a"]
    except KeyError:
        facts.append("KeyError")
    try:
        d[1] = 1
    except TypeError:
        facts.append("TypeError")
    try:
        d["l"] = lambda: 1
    except Exception as e:
        facts.append(type(e).__name__)
    return facts


def dict_destroy(handle):
    SharedDict(handle).destroy()


# --- buffers


def buffer_facts(buffer):
    return [
        type(buffer).__name__,
        buffer.readline(),
        buffer.read(3),
        buffer.tell(),
        buffer.read(),
        buffer.at_eof(),
        buffer.read(5),
        buffer.seek(0),
        buffer.find(b"lo"),
        buffer.find(b"nowhere"),
        bytes(memoryview(buffer)),
        list(buffer),
        buffer.seek(-3, 2),
        buffer.readline(2),
        buffer.seek(-1, 1),
        buffer.readlines(),
    ]


def buffer_now(buffer):
    return buffer.readable_amount(), buffer.at_eof(), buffer.read_nonblock(100), buffer.read_nonblock(1)


def buffer_sum(buffer):
    """Reads by odd amounts."""
    total, n = 0, 0
    while data := buffer.read(1000 + n % 77):
        total += sum(data)
        n += 1
    return total


def buffer_close(buffer):
    buffer.close()
    try:
        buffer.read()
    except ValueError as e:
        return str(e)


def wsgi(buffer, length):
    """A bottle application reads its body from the buffer."""
    import bottle

    app = bottle.Bottle()

    @app.post("/sum")
    def handle():
        form = bottle.request.forms
        return f"{int(form.a) + int(form.b)}"

    @app.post("/upload")
    def upload():
        lines = list(bottle.request.body)
        return f"{len(lines)} {sum(map(len, lines))}"

    status = []

    def call(path):
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SERVER_NAME": "erlang",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(length),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": buffer,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        return b"".join(app(environ, lambda s, _headers, _exc=None: status.append(s)))

    path = "/sum" if length < 100 else "/upload"
    return call(path), status
