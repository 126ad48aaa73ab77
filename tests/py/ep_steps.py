# SPDX-License-Identifier: Apache-2.0
"""Python code that goes on step by step, as the suites tell it to through files and pipes."""

import collections
import gc
import itertools
import re
import threading

import erlang
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


def spin_in_c(path):
    """C code that neither gives the GIL back nor looks at signals."""
    mark(path)
    collections.deque(itertools.repeat(None), maxlen=0)


def namespaces(tag):
    """How many dicts of globals carry that tag."""
    gc.collect()
    return sum(1 for d in gc.get_objects() if type(d) is dict and d.get('ep_tag') == tag)


def from_threads(name, n):
    """Asks Erlang from that many threads at once; what each was answered, or how it failed."""
    answers = [None] * n

    def ask(i):
        try:
            answers[i] = erlang.call(name, i + 1)
        except Exception as error:  # pylint: disable=broad-except
            answers[i] = (type(error).__name__, str(error))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def ask_forever(first, name):
    """One callback after the other."""
    erlang.call(first, 1)
    while True:
        erlang.call(name, 1)
