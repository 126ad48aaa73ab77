# SPDX-License-Identifier: Apache-2.0
"""Runs a program to which the kernel refuses one system call, as a container may.

Usage: python3 without_call.py io_uring_setup|memfd_create|pidfd_open PROGRAM ARGUMENTS...
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
EPERM = 1
NUMBERS = {
    'io_uring_setup': 425,
    'memfd_create': 279 if os.uname().machine == 'aarch64' else 319,
    'pidfd_open': 434,
}


def main(name, *program):
    lines = [
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 1, NUMBERS[name]),  # if it is this one, go on, else skip one
        (0x06, 0, 0, SECCOMP_RET_ERRNO | EPERM),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in lines))
    description = struct.pack('HP', len(lines), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = libc.prctl
    prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]
    buffer = ctypes.create_string_buffer(description)
    if (
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(buffer), 0, 0) != 0
    ):
        sys.exit('the kernel has no seccomp: ' + os.strerror(ctypes.get_errno()))
    os.execvp(program[0], program)


main(*sys.argv[1:])
