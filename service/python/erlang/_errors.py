# SPDX-License-Identifier: Apache-2.0
"""Exceptions of the package erlang."""


class CallbackError(RuntimeError):
    """An Erlang function that Python called has failed.

    class_      'error', 'exit' or 'throw'; also under the name class
    reason      the converted reason, or its printed form if it has no Python counterpart
    stacktrace  list of (module, function, arity, file, line)
    """

    def __init__(self, text, class_="error", reason=None, stacktrace=()):
        super().__init__(text)
        self.class_ = class_
        self.reason = reason
        self.stacktrace = list(stacktrace)

    def __getattr__(self, name):
        # class is a keyword: only getattr() can ask for it.
        if name == "class":
            return self.class_
        raise AttributeError(f"'CallbackError' object has no attribute {name!r}")


class ProcessError(Exception):
    """The Erlang process that a message was for is not alive."""


def raise_callback_error(class_, reason, text, stacktrace):
    raise CallbackError(text, class_, reason, stacktrace)
