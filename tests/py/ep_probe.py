# SPDX-License-Identifier: Apache-2.0
"""What the suites run in Python: functions that leave a mark, fail, hang and crash."""

import os
import subprocess
import time

import_count = 0


def echo(x=None, **kwargs):
    return x if not kwargs else kwargs


def identify(*args, **kwargs):
    return (args, kwargs)


def count():
    """State of the module: how often it was called in this interpreter."""
    global import_count
    import_count += 1
    return import_count


def mark(path, text='.'):
    """Appends, with one write, so that marks of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f'{text}\n'.encode())
    os.close(fd)
    return text


def spin(path):
    mark(path)
    while True:
        pass


class Last:
    """Leaves a mark when it goes."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        open(self.path, 'w').close()


def spin_until_interrupted(path):
    # The mark inside the try: whoever waits for it may interrupt at once.
    try:
        mark(path)
        while True:
            pass
    except KeyboardInterrupt:
        mark(path + '.interrupted')
        raise


def meet(path, other):
    """Returns when the other has been called, too."""
    mark(path)
    while not os.path.exists(other):
        time.sleep(0.001)
    return 'met'


def sleep(path, seconds):
    mark(path)
    time.sleep(seconds)
    return seconds


def stubborn(path, go=None):
    """Goes on whatever is raised in it, until the file `go` is there."""
    # One handler around the other: an exception may come where a frame has just caught one, and in CPython 3.13.0 an
    # asynchronous one leaves the frame it hits, past every handler in that frame.
    def spin(handlers):
        while True:
            try:
                if handlers > 0:
                    return spin(handlers - 1)
                if not os.path.exists(path):
                    mark(path)
                while go is None or not os.path.exists(go):
                    pass
                return 'done'
            except BaseException:
                pass

    return spin(8)


def segfault(path=None):
    if path is not None:
        mark(path)
    import ctypes  # sub-interpreters of Python 3.12 refuse it
    ctypes.string_at(0)


def leave(code, path=None):
    if path is not None:
        mark(path)
    os._exit(code)


def kill_self(signal):
    os.kill(os.getpid(), signal)
    time.sleep(3600)


def start_sleeper(new_session=False):
    """A grandchild of the launcher that nobody waits for."""
    return subprocess.Popen(['sleep', '3600'], start_new_session=new_session).pid


def cpu_work(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total


class Unprintable(Exception):
    def __str__(self):
        raise ValueError('no text')


class Loud:
    """A value whose text cannot be had."""

    def __str__(self):
        raise LookupError('no text of this')


def raise_unprintable():
    raise Unprintable()


def nest(kind, depth):
    value = 0
    for _ in range(depth):
        if kind == 'list':
            value = [value]
        elif kind == 'tuple':
            value = (value,)
        else:
            value = {'k': value}
    return value


def depth(value):
    n = 0
    while isinstance(value, (list, tuple, dict)) and len(value) > 0:
        value = value['k'] if isinstance(value, dict) else value[0]
        n += 1
    return n


def itself(kind):
    if kind == 'list':
        value = []
        value.append(value)
    else:
        value = {}
        value['k'] = value
    return value
