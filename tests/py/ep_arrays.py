# SPDX-License-Identifier: Apache-2.0
"""What py_array_SUITE calls. Arrays are ndarrays where numpy can be imported, else memoryviews."""

import erlang

KEPT = []


def describe(array):
    """Shape, element type, bytes, and whether it can be written."""
    if isinstance(array, memoryview):
        return (array.shape, array.format, array.tobytes(), not array.readonly)
    return (array.shape, str(array.dtype), array.tobytes(), bool(array.flags.writeable))


def data(array):
    return array.tobytes()


def length(array):
    return array.nbytes


def drop(_array):
    return None


def keep(array):
    KEPT.append(array)
    return len(KEPT)


def kept():
    return [array.tobytes() for array in KEPT]


def forget():
    KEPT.clear()


def same(value):
    return value


def share(value):
    return erlang.share(value)


def share_text(size):
    """A shared array of so many bytes, which a context can make without numpy."""
    return erlang.share(bytes(i % 251 for i in range(size)))


def share_and_keep(size):
    array = share_text(size)
    KEPT.append(memoryview(array))
    return array


def write(array):
    array[0] = 1


def fill(size, value):
    """A new array of bytes that is written where it lies."""
    array = erlang.empty(size, 'uint8')
    array[:] = bytes([value]) * size if isinstance(array, memoryview) else value
    return erlang.share(array)


def many(count, size):
    return [erlang.share(bytes([i % 256]) * size) for i in range(count)]


def nest(array):
    return {'a': [array, (array, {'b': array})]}


def ask(name, *args):
    return data(erlang.call(name, *args))


def ask_and_keep(name, array):
    return keep(erlang.call(name, array))


def ask_in_thread(name, array):
    import threading  # pylint: disable=import-outside-toplevel
    out = []
    thread = threading.Thread(target=lambda: out.append(erlang.call(name, array).tobytes()))
    thread.start()
    thread.join()
    return out[0]


def send(pid, array):
    erlang.send(pid, ('array', array))


def send_in_thread(pid, size):
    import threading  # pylint: disable=import-outside-toplevel
    thread = threading.Thread(target=lambda: erlang.send(pid, ('array', share_text(size))))
    thread.start()
    thread.join()


def fail(array):
    raise ValueError(len(memoryview(array)))
