# SPDX-License-Identifier: Apache-2.0
"""A variable of contextvars."""

import contextvars

var = contextvars.ContextVar('var', default='none')
