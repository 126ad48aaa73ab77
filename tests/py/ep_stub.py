# SPDX-License-Identifier: Apache-2.0
"""Compares the type stub of the package erlang with the package that is imported."""

import ast
import inspect
import pathlib
import sys

import erlang


def stub_text():
    return pathlib.Path(erlang.__file__).with_suffix(".pyi").read_text()


def is_marked():
    return pathlib.Path(erlang.__file__).with_name("py.typed").exists()


def differences(text):
    """What the stub and the package do not have in common, as lines."""
    tree = ast.parse(text)
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)} | exported_again(tree)
    functions = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    stub_all = next(ast.literal_eval(n.value) for n in tree.body if is_all(n))
    found = [f"__all__ only once: {name}" for name in set(stub_all) ^ set(erlang.__all__)]
    found += [f"not in the stub: {name}" for name in erlang.__all__ if name not in classes | functions]
    for name, node in functions.items():
        found += differences_of_function(name, node, getattr(erlang, name, None))
    for name, node in classes.items():
        found += differences_of_class(name, node, getattr(erlang, name, None))
    return sorted(found)


def exported_again(tree):
    """The classes that a stub has from others of the package: from .channel import Channel as Channel."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            stub = pathlib.Path(erlang.__file__).with_name(node.module).with_suffix(".pyi")
            classes = {n.name: n for n in ast.parse(stub.read_text()).body if isinstance(n, ast.ClassDef)}
            found |= {a.name: classes[a.name] for a in node.names if a.asname == a.name and a.name in classes}
    return found


# Of the type that all handles are, and from Python 3.12 on; nothing else of it is a member of theirs.
INHERITED = ("__new__", "__init__", "__buffer__")


def is_all(node):
    return isinstance(node, ast.Assign) and node.targets[0].id == "__all__"


def differences_of_class(name, node, actual):
    if not isinstance(actual, type):
        return [f"no class: {name}"]
    missing = []
    for member in node.body:
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
            others = [base for base in actual.__mro__[1:] if base.__module__.split(".")[0] != "erlang"]
            inherited = any(getattr(base, member.name, None) is getattr(actual, member.name, None) for base in others)
            is_there = hasattr(actual, member.name) or (member.name == "__buffer__" and sys.version_info < (3, 12))
            if not is_there or (inherited and member.name not in INHERITED):
                missing.append(f"{name} has no {member.name} of its own")
    return missing


def differences_of_function(name, node, actual):
    if not callable(actual):
        return [f"no function: {name}"]
    expected, got = parameters_of_stub(node.args), parameters_of(actual)
    return [] if expected == got else [f"{name}: the stub has {expected}, the package {got}"]


def parameters_of_stub(args):
    """Pairs: the kind of each parameter, and its default. The name counts where callers can use it."""
    optional = len(args.posonlyargs) + len(args.args) - len(args.defaults)
    found = [("positional", i >= optional) for i, _ in enumerate(args.posonlyargs)]
    found += [(arg.arg, i >= optional) for i, arg in enumerate(args.args, len(args.posonlyargs))]
    found += [("*", False)] if args.vararg else []
    found += [("=" + arg.arg, default is not None) for arg, default in zip(args.kwonlyargs, args.kw_defaults)]
    return found + ([("**", False)] if args.kwarg else [])


def parameters_of(function):
    return [parameter(p) for p in inspect.signature(function).parameters.values()]


def parameter(p):
    has_default = p.default is not p.empty
    if p.kind is p.POSITIONAL_ONLY:
        return ("positional", has_default)
    if p.kind is p.VAR_POSITIONAL:
        return ("*", False)
    if p.kind is p.VAR_KEYWORD:
        return ("**", False)
    return ("=" + p.name if p.kind is p.KEYWORD_ONLY else p.name, has_default)
