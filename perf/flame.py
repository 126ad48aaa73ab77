#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what flame.sh recorded, and sorts its samples by what a call was doing.

    flame.py SCRIPT MARKS OUT.html TITLE

SCRIPT is the output of perf script with two events: "frames" followed frame pointers, "unwound" a copy of the C stack.
A sample whose leaf is Erlang's code is taken from the first, every other from the second.
"""

import collections
import re
import sys

import flame_page

# Erlang's names of the C functions: a NIF is called with C's stack, where perf cannot see who called it.
NIFS = {
    "call_nif": "ep_nif:call/7",
    "eval_nif": "ep_nif:eval/5",
    "exec_nif": "ep_nif:exec/4",
    "await_nif": "ep_nif:await/2",
    "collect_nif": "ep_nif:collect/1",
    "check_nif": "ep_nif:check/1",
    "env_new_nif": "ep_nif:env_new/1",
}

# Parts of a call: the frame nearest to the leaf that matches decides.
PARTS = [
    ("VM", "encode", r"put_arguments|put_text|put_code|encoding_init|ep_term_encode\w*"),
    ("VM", "queue", r"ep_outbox_submit|ep_call_begin|ep_call_free|ep_outbox_flush"),
    ("VM", "wake", r"kick|ep_futex_wake"),
    ("VM", "wait: looks for the reply", r"ep_spin_for_reply|ep_poll_for_reply|ep_inbox_\w+"),
    ("VM", "reply: hands it to others", r"ep_call_deliver"),
    ("VM", "reply: decode", r"ep_answer|make_call_ref|collect"),
    ("VM", "wake: the reaper", r"ep_reaper_\w+|reaper|run_reaper|ep_wait_\w+"),
    ("VM", "NIF, other", r"\w+_nif"),
    ("worker", "wait: looks for a request", r"wait_for_message|spin|has_message"),
    ("worker", "wait: sleeps and wakes", r"park|ep_futex_wait"),
    ("worker", "decode", r"ep_py_request_decode"),
    ("worker", "run", r"ep_py_request_run"),
    ("worker", "free arguments and result", r"ep_py_request_finish"),
    ("worker", "reply: encode", r"ep_py_request_encode|begin_reply"),
    ("worker", "reply: publish", r"commit_reply"),
    ("worker", "wake: doorbell", r"ep_worker_ring_doorbell"),
    ("worker", "GIL and signals", r"attach|detach|ep_py_context_\w+"),
    ("worker", "loop, other", r"serve_request|ep_worker_lane_run"),
]
PARTS = [(side, name, re.compile(f"(?:{pattern})$")) for side, name, pattern in PARTS]
FRAME = re.compile(r"\s*([0-9a-f]+) (.*) \((.*)\)$")
HEAD = re.compile(r"(.*\S)\s+(\d+)/(\d+)\s+(\d+\.\d+):\s+(\w+):")
ERLANG_NOISE = re.compile(r"-CodeInfoPrologue$|^\$")


def kind_of(name, dso):
    if name.startswith("py::"):
        return "python"
    if name.startswith("$"):
        return "erlang"
    for kind, pattern in (
        ("kernel", r"\[kernel|\[guest|vmlinux|\.ko"),
        ("nif", r"py_nif\.so"),
        ("worker", r"ep_worker|ep_launcher"),
        ("cpython", r"libpython|lib-dynload|python3"),
        ("beam", r"beam\.smp|erl_child_setup"),
    ):
        if re.search(pattern, dso):
            return kind
    return "library"


def read_samples(path):
    """Yields process, thread name, time, event and the frames from root to leaf: (name, kind)."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for block in file.read().split("\n\n"):
            lines = block.strip("\n").split("\n")
            head = HEAD.match(lines[0])
            if head is None:
                continue
            frames, dso = [], ""
            for line in reversed(lines[1:]):
                match = FRAME.match(line)
                if match is None:
                    continue
                name, place = match.group(2), match.group(3)
                # An inlined frame lies in the file of the one that it was inlined into, which comes before it here.
                dso = dso if place == "inlined" else place
                if name != "[unknown]":
                    frames.append((name, kind_of(name, dso)))
            yield head.group(1), float(head.group(4)) * 1e9, head.group(5), frames


def tidy(frames):
    """Names as their languages write them, and the Erlang function over a NIF."""
    result = []
    for name, kind in frames:
        if name in NIFS and not (result and result[-1][0] == NIFS[name]):
            result.append((NIFS[name], "erlang"))
        if kind == "erlang":
            name = ERLANG_NOISE.sub("", name)
            if name == "erts_beamasm:normal_exit/0" and not result:
                continue
        if kind == "python":
            function, _, file = name[4:].partition(":")
            name = f"{function} ({file.rsplit('/', 1)[-1]})"
        # Recursion of the interpreter's own loop, inlined or not, says nothing.
        if result and result[-1] == (name, kind):
            continue
        result.append((name, kind))
    return result


def is_ours(frames, event):
    """Each sample counts once: Erlang's by frame pointers, the others unwound."""
    is_erlang = bool(frames) and frames[-1][1] == "erlang"
    return is_erlang == (event == "frames")


def thread_name(thread):
    return re.sub(r"^\d+_", "", thread)


def insert(tree, path):
    tree[2] += 1
    for name, kind in path:
        child = tree[3].get((name, kind))
        if child is None:
            child = tree[3][(name, kind)] = [name, kind, 0, {}]
        child[2] += 1
        tree = child


def as_lists(node):
    children = sorted(node[3].values(), key=lambda c: -c[2])
    return [node[0], node[1], node[2], [as_lists(c) for c in children]]


def part_of(thread, frames):
    side = "worker" if thread.startswith("ep_worker") or "python" in thread else "VM"
    for name, kind in reversed(frames):
        if kind not in ("nif", "worker"):
            continue
        for where, part, pattern in PARTS:
            if where == side and pattern.match(name):
                return side, part
    if side == "VM":
        return side, "Erlang and the VM"
    return side, "elsewhere"


def breakdown(parts, period_ns, calls, note):
    rows = [["part", "samples", "ns per call", "of its side", "side"]]
    totals = collections.Counter()
    for (side, _), n in parts.items():
        totals[side] += n
    order = {("VM", "Erlang and the VM"): -1}
    order.update({(side, part): i for i, (side, part, _) in enumerate(PARTS)})
    for (side, part), n in sorted(parts.items(), key=lambda item: order.get(item[0], 99)):
        share = f"{100 * n / totals[side]:.1f} %"
        rows.append([part, str(n), f"{n * period_ns / calls:.0f}", share, side])
    print(note)
    for row in rows:
        print(f"  {row[4]:8}{row[0]:30}{row[1]:>9}{row[2]:>13}{row[3]:>13}")
    return rows


def main(argv):
    if len(argv) != 5:
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[2], encoding="utf-8") as file:
        start, end, calls = (int(word) for word in file.read().split())
    tree = ["all", "thread", 0, {}]
    parts = collections.Counter()
    for thread, time, event, frames in read_samples(argv[1]):
        if not start <= time <= end or not is_ours(frames, event):
            continue
        frames = tidy(frames)
        insert(tree, [(thread_name(thread), "thread")] + frames)
        parts[part_of(thread, frames)] += 1
    if tree[2] == 0:
        print("make flame: perf recorded nothing between the marks", file=sys.stderr)
        return 2
    note = (
        f"{tree[2]} samples, {calls} calls in {(end - start) / 1e9:.1f} s. Both sides work at the same time, so the "
        "parts do not add up to the time of a call; while one works the other waits."
    )
    rows = breakdown(parts, 1e9 / 999, calls, f"{argv[4]}\n{note}")
    with open(argv[3], "w", encoding="utf-8") as file:
        file.write(flame_page.page(as_lists(tree), argv[4], note, rows))
    print(f"written: {argv[3]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
