# SPDX-License-Identifier: Apache-2.0
"""What goes on working in a sandbox. Each function raises what went wrong."""

import asyncio
import concurrent.futures
import contextlib
import http.server
import importlib
import multiprocessing
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from multiprocessing import shared_memory


def numpy():
    import numpy

    a = numpy.random.default_rng(1).random((300, 300))
    assert numpy.allclose(numpy.linalg.inv(numpy.linalg.inv(a)), a)


def pandas():
    import pandas

    assert pandas.DataFrame({"a": [1, 2, 2]}).groupby("a").size().tolist() == [1, 2]


def subprocesses():
    assert subprocess.run("echo $((1 + 1))", shell=True, capture_output=True, check=True).stdout == b"2\n"
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    child.send_signal(signal.SIGSTOP)
    os.killpg(child.pid, signal.SIGCONT)
    fd = os.pidfd_open(child.pid)
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    os.close(fd)
    assert child.wait(30) == -signal.SIGTERM
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    # A child may signal its own children, and is inherited by nobody's sandbox but ours.
    subprocess.run("sleep 100 & kill $!; wait $! || true", shell=True, check=True)


def _square(x):
    return x * x


def _sleep():
    time.sleep(100)


def processes(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(_square, range(5)) == [0, 1, 4, 9, 16]
    child = context.Process(target=_sleep)
    child.start()
    child.terminate()
    child.join(30)
    assert child.exitcode == -signal.SIGTERM
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(_square, [3, 4])) == [9, 16]


def shared():
    block = shared_memory.SharedMemory(create=True, size=100)
    block.buf[0] = 7
    block.close()
    block.unlink()


def threads():
    found = []
    all_threads = [threading.Thread(target=found.append, args=(n,)) for n in range(20)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    assert sorted(found) == list(range(20))


def sqlite():
    with tempfile.TemporaryDirectory() as dir:
        with contextlib.closing(sqlite3.connect(f"{dir}/db")) as db:
            db.execute("pragma journal_mode=wal")
            db.execute("create table t(a)")
            db.execute("insert into t values (1)")
            db.commit()
            assert db.execute("select a from t").fetchall() == [(1,)]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_args):
        pass


def requests():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=30) as answer:
                assert answer.read() == b"here"
            with contextlib.suppress(ModuleNotFoundError):
                session = importlib.import_module("requests").Session()
                session.trust_env = False
                assert session.get(url, timeout=30).content == b"here"
        finally:
            server.shutdown()
            thread.join()


def abstract_sockets():
    name = f"\0ep_sandbox_{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(name)
        server.listen()
        client.connect(name)


def coroutines():
    async def main():
        child = await asyncio.create_subprocess_exec("echo", "x", stdout=asyncio.subprocess.PIPE)
        return (await child.communicate())[0]

    assert asyncio.run(main()) == b"x\n"


def files():
    with tempfile.TemporaryDirectory() as dir:
        os.mkdir(f"{dir}/a")
        os.mkdir(f"{dir}/b")
        with open(f"{dir}/a/x", "w") as file:
            file.write("x")
        os.rename(f"{dir}/a/x", f"{dir}/b/y")
        os.link(f"{dir}/b/y", f"{dir}/a/z")
        os.chmod(f"{dir}/a/z", 0o600)
        os.utime(f"{dir}/a/z")
        fd = os.open(dir, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.link(f"/proc/self/fd/{fd}", f"{dir}/b/linked", src_dir_fd=fd)
        os.close(fd)
        assert sorted(os.listdir(f"{dir}/b")) == ["linked", "y"]


def own_limits():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
    os.nice(0)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.kill(os.getpid(), 0)
    caught = []
    signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    while not caught:
        time.sleep(0.001)


def in_strict():
    """What the level strict leaves."""
    threads()
    sqlite()
    with tempfile.TemporaryDirectory() as dir:
        os.mkdir(f"{dir}/a")
        with open(f"{dir}/a/x", "w") as file:
            file.write("x")
        os.rename(f"{dir}/a/x", f"{dir}/y")
        os.symlink("y", f"{dir}/link")
        with open(f"{dir}/link", "a") as file:
            file.truncate(0)
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    with open(os.devnull, "w") as null:
        null.write("x")
    with open(sys.executable, "rb") as file:
        assert file.read(4) == b"\x7fELF"

    async def main():
        await asyncio.sleep(0.001)
        return await asyncio.to_thread(_square, 3)

    assert asyncio.run(main()) == 9
