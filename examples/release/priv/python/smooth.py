# SPDX-License-Identifier: Apache-2.0
"""Readings of a sensor, made smooth."""


def moving_average(values, width):
    """The mean of each `width` neighbours; as many values less one than that fewer."""
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]


def where():
    return __file__
