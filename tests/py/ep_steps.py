# SPDX-License-Identifier: Apache-2.0
"""Python code that goes on step by step, as the suites tell it to through files and pipes."""

import ctypes
import gc
import re
import time

from ep_probe import mark


def hold(path, fifo, result='held'):
    """Says that it is there, then stays until something is written to the pipe."""
    mark(path)
    with open(fifo) as pipe:
        pipe.read()
    return result


def swallow(path):
    """Catches whatever is raised in it and goes on, in one frame."""
    mark(path)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def backtrack(path):
    """A regular expression that takes years, in C code that looks at signals."""
    mark(path)
    return re.match(r'(a+)+$', 'a' * 64 + 'b') is None


def hold_gil(path, seconds=3600):
    """C code that neither gives the GIL back nor looks at signals."""
    mark(path)
    return ctypes.PyDLL(None).sleep(seconds)


def large_power(path):
    mark(path)
    return len(str(pow(7, 10 ** 9)))


def sleep_again(path):
    """A sleep that is taken up again whatever ends it."""
    mark(path)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


def namespaces(tag):
    """How many dicts of globals carry that tag."""
    gc.collect()
    return sum(1 for d in gc.get_objects() if type(d) is dict and d.get('ep_tag') == tag)
