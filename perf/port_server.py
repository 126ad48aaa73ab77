# SPDX-License-Identifier: Apache-2.0
"""The baseline of the measurements: a resident Python behind an Erlang port.

Reads requests {Id, Module, Function, Args} from standard input, each with its length
in four bytes before it, and answers {Id, {ok, Value}} or {Id, {error, Text}}. Whatever
has arrived is read at once and answered with one write, so that many callers share
the system calls.
"""

import importlib
import os
import sys

import etf

CHUNK = 1 << 20


def same(x):
    return x


FUNCTIONS = {("bench", "same"): same}


def find(module, function):
    key = (module, function)
    if key not in FUNCTIONS:
        FUNCTIONS[key] = getattr(importlib.import_module(module), function)
    return FUNCTIONS[key]


def answer(packet):
    number, module, function, args = etf.decode(packet)
    try:
        reply = (etf.Atom("ok"), find(module, function)(*args))
    except Exception as error:  # whatever Python raises is the caller's to see
        reply = (etf.Atom("error"), f"{type(error).__name__}: {error}")
    return etf.encode((number, reply))


def write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def serve():
    buffer = bytearray()
    while chunk := os.read(0, CHUNK):
        buffer += chunk
        replies = []
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < end:
                break
            reply = answer(bytes(memoryview(buffer)[start + 4 : end]))
            replies.append(len(reply).to_bytes(4, "big"))
            replies.append(reply)
            start = end
        if replies:
            del buffer[:start]
            write(b"".join(replies))


if __name__ == "__main__":
    sys.exit(serve())
