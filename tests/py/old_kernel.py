# SPDX-License-Identifier: Apache-2.0
"""old_kernel.py PROGRAM ARGUMENTS..: executes the program on a kernel that has no Landlock."""

import ctypes
import os
import struct
import sys

LANDLOCK_CREATE_RULESET = 444
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38

instructions = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # the number of the system call
        (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
        (0x06, 0, 0, ENOSYS),
        (0x06, 0, 0, ALLOW),
    ]
)
buffer = ctypes.create_string_buffer(instructions)
program = struct.pack("=HxxxxxxQ", len(instructions) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, program):
    sys.exit(f"old_kernel.py: no filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
