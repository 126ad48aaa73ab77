# SPDX-License-Identifier: Apache-2.0
"""Processes that Python code starts, and the end of the one that has started them."""

import atexit
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import shared_memory

SHOW = "grep -E 'Sig(Blk|Ign)' /proc/self/status"


def _signals(text):
    """Blocked and ignored signals."""
    found = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigBlk", "SigIgn"))]
    # The C library's own posix_spawn() leaves the two signals ignored that it keeps for itself.
    return [found[0], found[1] & ~0x180000000]


def _own_signals():
    with open("/proc/self/status") as file:
        return _signals(file.read())


def _send_signals(queue):
    queue.put(_own_signals())


def _by_posix_spawn():
    with tempfile.TemporaryFile("w+") as out:
        pid = os.posix_spawn(
            "/bin/sh", ["sh", "-c", SHOW], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        )
        os.waitpid(pid, 0)
        out.seek(0)
        return _signals(out.read())


def _by_system():
    with tempfile.NamedTemporaryFile("r") as out:
        os.system(f"{SHOW} > {out.name}")
        return _signals(out.read())


def _by_fork():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"%d %d" % tuple(_own_signals()))
        os._exit(0)
    os.close(write)
    with open(read) as file:
        found = [int(number) for number in file.read().split()]
    os.waitpid(pid, 0)
    return found


def _by_multiprocessing(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_send_signals, args=(queue,))
    process.start()
    found = queue.get()
    process.join()
    return found


def signals(can_fork):
    """Of children, by the way in which they were started. A Python that multiprocessing starts ignores two itself."""
    found = {
        "subprocess": _signals(subprocess.run(SHOW, shell=True, capture_output=True, text=True).stdout),
        "popen": _signals(os.popen(SHOW).read()),
        "posix_spawn": _by_posix_spawn(),
        "system": _by_system(),
    }
    if can_fork:
        found["fork"] = _by_fork()
        found["multiprocessing_fork"] = _by_multiprocessing("fork")
    for method in "spawn", "forkserver":
        blocked, ignored = _by_multiprocessing(method)
        found[method] = [blocked, ignored & ~0x1001000]
    return [[way, *numbers] for way, numbers in sorted(found.items())]


def in_thread(name, *args):
    results = []
    thread = threading.Thread(target=lambda: results.append(globals()[name](*args)))
    thread.start()
    thread.join()
    return results[0]


def terminated():
    process = subprocess.Popen(["sleep", "1000"])
    process.terminate()
    return process.wait()


def broken_pipe():
    return subprocess.run("yes | head -n 1", shell=True, capture_output=True, text=True).stderr


def forked(code):
    """The exit status of a forked child that runs the code, and what it writes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(read)
        os.close(write)
        exec(code, {})
        return None
    os.close(write)
    with open(read) as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def terminated_fork():
    """Of children that are told to end at once, before they have run."""
    codes = set()
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        os.kill(pid, signal.SIGTERM)
        codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join()
    codes.add(process.exitcode)
    return codes.pop() if len(codes) == 1 else sorted(codes)


def _names():
    """Makes names in /dev/shm that nobody removes."""
    memory = shared_memory.SharedMemory(create=True, size=4096)
    lock = multiprocessing.get_context("spawn").Lock()
    KEPT.append((memory, lock))
    return [memory.name.lstrip("/"), "sem." + lock._semlock.name.lstrip("/")]


KEPT = []


def leave_names(can_fork):
    """Names whose tracker is this process's, and, where it can fork, of a forked child; that and another child hold the
    trackers' pipes."""
    names = []
    if can_fork:
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, " ".join(_names()).encode())
            os.close(write)
            time.sleep(1000)
        os.close(write)
        with open(read) as file:
            names += file.read().split()
    names += _names()
    if can_fork:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    missing = [name for name in names if not os.path.exists(f"/dev/shm/{name}")]
    assert not missing, missing
    return names


def _mark(path, text):
    with open(path, "a") as file:
        file.write(text + "\n")


def end_in_order(path):
    """Leaves work behind for the end: a pool's, a thread's, an exit function's."""
    go = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    KEPT.append(pool)

    def wait_for_the_end():
        go.wait()
        time.sleep(0.1)  # longer than what comes next would take
        _mark(path, "thread")

    def work(i):
        time.sleep(0.02)
        _mark(path, f"work {i}")
        if i == 3:
            go.set()

    threading.Thread(target=wait_for_the_end).start()
    for i in range(4):
        pool.submit(work, i)
    atexit.register(_mark, path, "exit function")


def never_end(path):
    threading.Thread(target=threading.Event().wait).start()
    atexit.register(_mark, path, "exit function")


def use_threading(path):
    """What the process writes to stderr from here on goes to the file."""
    with open(path, "w") as file:
        os.dup2(file.fileno(), 2)
    return type(threading.current_thread()).__name__


def use_erlang():
    import erlang

    answers = []
    for use in (
        lambda: erlang.call("any"),
        lambda: erlang.any_name(1),
        lambda: erlang.state_get("key"),
        lambda: erlang.Pid(),
    ):
        try:
            answers.append(use())
        except RuntimeError as error:
            answers.append(str(error))
    return sorted(set(answers))


def use_erlang_in_pool(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(use_erlang).get(60)


def use_erlang_in_plain_python(directory):
    code = "import ep_children; print(*ep_children.use_erlang(), sep='|')"
    path = os.pathsep.join([directory, os.path.dirname(__file__)])
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    return run.stdout.strip().split("|") if run.returncode == 0 else run.stderr


def arguments(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().rstrip("\0").split("\0")
