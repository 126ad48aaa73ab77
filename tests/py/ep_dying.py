# SPDX-License-Identifier: Apache-2.0
"""A module whose import crashes the process, as that of a broken extension does."""

import ctypes

ctypes.string_at(0)
