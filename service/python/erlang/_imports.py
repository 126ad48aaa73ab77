# SPDX-License-Identifier: Apache-2.0
"""Imports that Erlang asks for, and what an import that fails says."""

import importlib
import os
import sys
import threading
import time

import erlang._paths as _paths

# Paths in a message; there may be thousands.
_PATHS = 12
# Failures in an answer, and characters of each.
_FAILURES = 20
_TEXT = 1000
# File systems that count seconds by two.
_YOUNG_S = 3


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


def load(name):
    """Imports a module, for a request that wants nothing else of it."""
    try:
        importlib.import_module(name)
    except (ImportError, SyntaxError) as exc:
        explain(exc, name)
        raise


def _failure(name, exc):
    try:
        text = str(exc)
    except Exception:
        text = "unknown"
    return name, type(exc).__name__, text.encode("utf-8", "backslashreplace").decode()[:_TEXT]


def load_all(wanted):
    """Imports modules, and looks for functions in them: (module, function or None). Returns the failures."""
    failures = []
    for name, function in wanted:
        try:
            load(name)
            if function is not None:
                getattr(sys.modules[name], function)
        except BaseException as exc:  # sys.exit too
            failures.append(_failure(name, exc))
    return failures[:_FAILURES]


class _Reload:
    """The last one of a module: contexts that share an interpreter ask for it one by one, and it is done once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.number = 0
        self.is_loaded = False
        self.failure = None


_reloads = {}


def _drop_cache(module):
    """A cached file tells the age of its source by the second. What was changed within the second of the import has the age
    of what it replaces."""
    import importlib.util

    source = getattr(module, "__file__", None)
    try:
        if source is not None and abs(time.time() - os.stat(source).st_mtime) < _YOUNG_S:
            os.unlink(importlib.util.cache_from_source(source))
    except (OSError, NotImplementedError):
        pass  # there is none, or it is not ours


def _load_again(name):
    module = sys.modules.get(name)
    if module is None:
        return False
    importlib.invalidate_caches()
    _drop_cache(module)
    try:
        importlib.reload(module)
    except (ImportError, SyntaxError) as exc:
        explain(exc, name)
        raise
    return True


def load_again(name, number):
    """Whether the module was loaded, and is now as it lies on disk. number: of the wish; later ones are larger."""
    state = _reloads.setdefault(name, _Reload())
    with state.lock:
        if state.number < number:
            state.number, state.failure = number, None
            try:
                state.is_loaded = _load_again(name)
            except BaseException as exc:  # sys.exit too
                state.failure = exc.with_traceback(None)
        if state.failure is not None:
            raise state.failure
        return state.is_loaded
