# SPDX-License-Identifier: Apache-2.0
"""The module of the acceptance example A3: each run ends only if another runs at the same time."""

import os
import time

from ep_probe import mark


def run(data):
    own, other = data
    mark(own)
    end = time.monotonic() + 20
    while not os.path.exists(other):
        if time.monotonic() > end:
            return 'alone'
        time.sleep(0.001)
    mark(own + '.together')
    return 'together'
