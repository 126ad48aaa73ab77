# SPDX-License-Identifier: Apache-2.0
"""Expressions whose locals are seen by their nested scopes, too."""

from keyword import iskeyword
from types import CodeType


def close(source, names):
    """The code of a function that takes the names as parameters and returns the value of source.

    source is known to be an expression. None: such a function would mean something else, for what the expression
    assigns would be a variable of it, or it cannot be written, for the expression is nested as deeply as Python allows.
    """
    if ":=" in source:
        return None
    names = [name for name in names if name.isidentifier() and not iskeyword(name)]
    try:
        # The line is that of the expression; its last one may end in a comment.
        outer = compile(f"lambda {', '.join(names)}: ({source}\n)", "<eval>", "eval", 0, True)
    except SyntaxError:
        return None
    code = next(const for const in outer.co_consts if isinstance(const, CodeType))
    # Python writes some names another way, which then are not those of the locals.
    if code.co_varnames[: code.co_argcount] != tuple(names):
        return None
    # A reader of tracebacks knows of no function.
    return code.replace(co_name="<module>", co_qualname="<module>")
