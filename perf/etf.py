# SPDX-License-Identifier: Apache-2.0
"""Erlang's external term format in plain Python, for the baseline of the measurements.

Binaries are bytes, atoms are Atom, except none, true and false. Enough for calls and
their results: no funs, pids, ports or references.
"""

import struct

_double = struct.Struct(">d")
_u32 = struct.Struct(">I")
_i32 = struct.Struct(">i")
_ATOMS = {"none": None, "true": True, "false": False}


class Atom(str):
    __slots__ = ()


def decode(data):
    if data[0] != 131:
        raise ValueError("not an external term")
    value, end = _decode(data, 1)
    if end != len(data):
        raise ValueError("bytes after the term")
    return value


def _atom(data, start, end):
    name = data[start:end].decode()
    return _ATOMS.get(name, Atom(name)), end


def _elements(data, at, count):
    values = []
    for _ in range(count):
        value, at = _decode(data, at)
        values.append(value)
    return values, at


def _big(data, at, count):
    value = int.from_bytes(data[at + 1 : at + 1 + count], "little")
    return -value if data[at] else value, at + 1 + count


def _decode(data, at):
    tag = data[at]
    at += 1
    if tag == 97:
        return data[at], at + 1
    if tag == 98:
        return _i32.unpack_from(data, at)[0], at + 4
    if tag == 109:
        end = at + 4 + _u32.unpack_from(data, at)[0]
        return data[at + 4 : end], end
    if tag in (119, 115):
        return _atom(data, at + 1, at + 1 + data[at])
    if tag in (118, 100):
        return _atom(data, at + 2, at + 2 + int.from_bytes(data[at : at + 2], "big"))
    if tag == 104:
        values, at = _elements(data, at + 1, data[at])
        return tuple(values), at
    if tag == 106:
        return [], at
    if tag == 107:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        return list(data[at + 2 : end]), end
    if tag == 108:
        values, at = _elements(data, at + 4, _u32.unpack_from(data, at)[0])
        if data[at] != 106:
            raise ValueError("improper list")
        return values, at + 1
    if tag == 70:
        return _double.unpack_from(data, at)[0], at + 8
    if tag == 116:
        count = _u32.unpack_from(data, at)[0]
        values, at = _elements(data, at + 4, 2 * count)
        return dict(zip(values[::2], values[1::2])), at
    if tag == 110:
        return _big(data, at + 1, data[at])
    if tag == 111:
        return _big(data, at + 4, _u32.unpack_from(data, at)[0])
    if tag == 105:
        values, at = _elements(data, at + 4, _u32.unpack_from(data, at)[0])
        return tuple(values), at
    raise ValueError(f"tag {tag}")


def encode(value):
    parts = bytearray(b"\x83")
    _encode(parts, value)
    return bytes(parts)


def _encode_int(out, value):
    if 0 <= value < 256:
        out += bytes((97, value))
    elif -(1 << 31) <= value < 1 << 31:
        out += b"b" + _i32.pack(value)
    else:
        size = (abs(value).bit_length() + 7) // 8
        head = bytes((110, size)) if size < 256 else b"o" + _u32.pack(size)
        out += head + bytes((value < 0,)) + abs(value).to_bytes(size, "little")


def _encode_atom(out, name):
    text = name.encode()
    out += bytes((119, len(text))) + text


def _encode(out, value):
    kind = type(value)
    if kind is int:
        _encode_int(out, value)
    elif kind is bytes:
        out += b"m" + _u32.pack(len(value))
        out += value
    elif kind is str:
        _encode(out, value.encode())
    elif kind is float:
        out += b"F" + _double.pack(value)
    elif kind is Atom:
        _encode_atom(out, value)
    elif kind is tuple:
        out += bytes((104, len(value))) if len(value) < 256 else b"i" + _u32.pack(len(value))
        for item in value:
            _encode(out, item)
    elif kind is list:
        if value:
            out += b"l" + _u32.pack(len(value))
            for item in value:
                _encode(out, item)
        out += b"j"
    elif kind is dict:
        out += b"t" + _u32.pack(len(value))
        for key, item in value.items():
            _encode(out, key)
            _encode(out, item)
    elif value is None or kind is bool:
        _encode_atom(out, str(value).lower())
    else:
        raise TypeError(f"no external form for {kind.__name__}")
