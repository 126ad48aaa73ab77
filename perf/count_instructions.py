#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of a small call in the VM, and compares them with the recorded ones.

    count_instructions.py PROGRAM          fails if a count grew by more than 5 %
    count_instructions.py PROGRAM --record writes the counts of this compiler

PROGRAM is count_path. What valgrind's callgrind counts is the code of nif/ and transport/ alone: neither the fake of
erl_nif nor the C library, which differ from the real things and from machine to machine. Counts belong to a compiler
and a processor; where none are recorded for these, the counts are shown and nothing fails.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile

CALLS = 1000
GROWTH_MAX = 0.05
RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.txt")

# What is counted: a name, the kind of call, and the functions inside of which counting is on. They do not nest.
COUNTS = [
    ("call", "spun", ["counted_spun"]),
    ("collect", "spun", ["ep_spin_for_reply", "ep_answer", "ep_call_free"]),
    ("parked call", "parked", ["counted_parked"]),
]
OURS = re.compile(r"(^|/)(nif/(term|lane|process|slots|api)|transport)/[^/]+$")


def self_costs(path):
    """Instructions of our files, from the lines of a callgrind file: cost lines belong to the last file named."""
    total, is_ours, is_call = 0, False, False
    names = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"(fl|fi|fe|cfi|cfl)=(?:\((\d+)\))?\s*(.*)", line)
            if match:
                # A name stands where its number is first used, which may be the line of a called function.
                key, number, name = match.groups()
                name = names.setdefault(number, name.strip()) if number else name.strip()
                if not key.startswith("c"):
                    is_ours = bool(OURS.search(name))
            elif line.startswith("calls="):
                is_call = True
            elif re.match(r"[+\-*\d]", line):
                # The line after calls= is the cost of the called function, which is counted where it lies.
                if is_ours and not is_call:
                    total += int(line.split()[1])
                is_call = False
    return total


def count(program, kind, functions):
    with tempfile.TemporaryDirectory() as work:
        out = os.path.join(work, "out")
        toggles = [f"--toggle-collect={name}" for name in functions]
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *toggles, program, kind, str(CALLS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"count_instructions: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return self_costs(out) / CALLS


def compiler():
    """The compiler that built the program, as it says in its file, and the processor."""
    with open(sys.argv[1], "rb") as file:
        found = re.search(rb"GCC: \([^)]*\) (\d+)\.|clang version (\d+)\.", file.read())
    if found is None:
        return f"{platform.machine()} unknown"
    name = "gcc" if found.group(1) else "clang"
    return f"{platform.machine()} {name} {(found.group(1) or found.group(2)).decode()}"


def recorded():
    """Lines "MACHINE COMPILER VERSION | NAME | COUNT"."""
    with open(RECORD, encoding="utf-8") as file:
        rows = [line.split("|") for line in file if "|" in line and not line.startswith("#")]
    return {(which.strip(), name.strip()): float(figure) for which, name, figure in rows}


def record(which, counts):
    with open(RECORD, encoding="utf-8") as file:
        kept = [line for line in file if line.split("|")[0].strip() != which]
    with open(RECORD, "w", encoding="utf-8") as file:
        file.writelines(kept)
        file.writelines(f"{which} | {name} | {value:.1f}\n" for name, value in counts.items())


def main(argv):
    if len(argv) < 2 or argv[2:] not in ([], ["--record"]):
        print(__doc__, file=sys.stderr)
        return 2
    which = compiler()
    counts = {name: count(argv[1], kind, functions) for name, kind, functions in COUNTS}
    counts["submit"] = counts["call"] - counts["collect"]
    if argv[2:]:
        record(which, counts)
    known = recorded()
    failed = False
    for name, value in sorted(counts.items()):
        old = known.get((which, name))
        if old is None:
            print(f"{name:12} {value:8.1f} instructions; none recorded for {which}")
            continue
        growth = value / old - 1
        is_bad = growth > GROWTH_MAX
        failed = failed or is_bad
        note = "  GREW BY MORE THAN 5 %" if is_bad else ""
        print(f"{name:12} {value:8.1f} instructions, recorded {old:8.1f}, {100 * growth:+.1f} %{note}")
    if failed:
        print("If that is meant: make count-record, and say why in the commit.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
