# SPDX-License-Identifier: Apache-2.0
"""What an import that fails says."""

import os

import erlang._paths as _paths  # not from: that would ask Erlang for the name first

# Paths in a message; there may be thousands.
_PATHS = 12


def _listed():
    paths = _paths.searched()
    texts = [path if os.path.isdir(path) else path + " (no such directory)" for path in paths[:_PATHS]]
    more = len(paths) - len(texts)
    if more > 0:
        texts.append(f"{more} more")
    return ", ".join(texts)


def _place(exc):
    """The innermost line of a module that was being imported, as text."""
    place = None
    tb = exc.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith("<"):
            place = f"{file}, line {tb.tb_lineno}"
        tb = tb.tb_next
    return place


def _is_asked_for(exc, name):
    """Whether what was not found is the module that the call names, or a package above it."""
    return isinstance(exc.name, str) and (name == exc.name or name.startswith(exc.name + "."))


def explain(exc, name):
    """Completes the text of the exception that the import of the module of a call has raised: the file that failed, the
    paths that were searched."""
    place = _place(exc)
    if isinstance(exc, SyntaxError):
        # Python shows the last part of the name only.
        if isinstance(exc.filename, str) and os.path.isabs(exc.filename):
            exc.msg = f"{exc.msg} in {exc.filename}"
    elif place is not None:
        exc.msg = f"{exc.msg}; imported in {place}"
    elif isinstance(exc, ModuleNotFoundError) and _is_asked_for(exc, name):
        listed = _listed()
        if listed:
            exc.msg = f"{exc.msg}; searched in {listed}, then in Python's own paths"
        else:
            exc.add_note("no path is configured: see the key paths of erlang_python, and py_import:add_path/1")
