# SPDX-License-Identifier: Apache-2.0

"""Streams of what is not a plain iterable."""


def drive(iterable):
    """Makes an iterator of an asynchronous iterable, an async generator for example."""
    raise TypeError(
        f"'{type(iterable).__name__}' object is an asynchronous iterable, "
        "and a stream needs one that is not: drive it with asyncio"
    )
