# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is to refuse, one try a function or a lambda. None of them does harm where it is let through."""

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import subprocess
import tempfile
import termios

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Numbers of x86-64, of aarch64 (0: it has none). From 424 on all architectures have the same.
NUMBERS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "pidfd_send_signal": (424, 424),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "unshare": (272, 97),
    "clone": (56, 220),
    "clone3": (435, 435),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "quotactl": (179, 60),
    "vhangup": (153, 58),
    "iopl": (172, 0),
    "ioperm": (173, 0),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "fchmodat2": (452, 452),
}
COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
BAD = ctypes.c_void_p(1)  # an address that nothing can be read from


def system_call(name, *args):
    number = NUMBERS[name][COLUMN]
    if number == 0:
        raise PermissionError(errno.EPERM, "this machine does not have it")
    longs = [a if isinstance(a, (ctypes.c_void_p, ctypes.Array)) else ctypes.c_long(a) for a in args]
    result = libc.syscall(ctypes.c_long(number), *longs)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def read(path):
    with open(path, "rb") as file:
        return len(file.read(10))


def with_pidfd(pid, call):
    fd = os.pidfd_open(pid)
    try:
        return call(fd)
    finally:
        os.close(fd)


def read_memory(call, pid):
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    buffer = ctypes.create_string_buffer(8)
    local, remote = Vector(ctypes.addressof(buffer), 8), Vector(8, 8)
    return system_call(call, pid, ctypes.c_void_p(ctypes.addressof(local)), 1,
                       ctypes.c_void_p(ctypes.addressof(remote)), 1, 0)


def type_into_terminal():
    main, other = os.openpty()
    try:
        return fcntl.ioctl(other, termios.TIOCSTI, b"x")
    finally:
        os.close(main)
        os.close(other)


def files_of(pid):
    return os.readlink(f"/proc/{pid}/fd/0")


# By the process that is tried: the VM, the launcher, another worker.
OTHERS = {
    "kill": lambda pid: os.kill(pid, 0),
    "tgkill": lambda pid: system_call("tgkill", pid, pid, 0),
    "sigqueue": lambda pid: libc_call("sigqueue", pid, 0, ctypes.c_void_p(0)),
    "pidfd_send_signal": lambda pid: with_pidfd(pid, lambda fd: signal.pidfd_send_signal(fd, 0)),
    "pidfd_getfd": lambda pid: with_pidfd(pid, lambda fd: system_call("pidfd_getfd", fd, 0, 0)),
    "environ": lambda pid: read(f"/proc/{pid}/environ"),
    "maps": lambda pid: read(f"/proc/{pid}/maps"),
    "auxv": lambda pid: read(f"/proc/{pid}/auxv"),
    "mem": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "fds": files_of,
    "exe": lambda pid: os.readlink(f"/proc/{pid}/exe"),
    "root": lambda pid: os.listdir(f"/proc/{pid}/root/"),
    "prlimit": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE)),
    "kcmp": lambda pid: system_call("kcmp", os.getpid(), pid, 1, 0, 0),
    "process_vm_readv": lambda pid: read_memory("process_vm_readv", pid),
    "process_vm_writev": lambda pid: read_memory("process_vm_writev", pid),
    "ptrace": lambda pid: system_call("ptrace", 3, pid, 0, 0),  # PEEKDATA of one that is not traced
}


def libc_call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


NAMESPACES = {
    "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
    "pid": 0x20000000, "net": 0x40000000, "time": 0x80,
}

DEFAULT = {
    # A root without them would be in its new namespace, where these are tried: in a child.
    **{f"unshare_{name}": (lambda flag=flag: in_child(lambda: libc_call("unshare", flag)))
       for name, flag in NAMESPACES.items()},
    "clone_user": lambda: clone(0x10000000),
    "clone_pid_net": lambda: clone(0x60000000),
    "setns": lambda: system_call("setns", -1, 0),
    "mount": lambda: system_call("mount", BAD, BAD, BAD, 0, 0),
    "umount2": lambda: system_call("umount2", BAD, 0),
    "pivot_root": lambda: system_call("pivot_root", BAD, BAD),
    "chroot": lambda: in_child(lambda: os.chroot("/")),
    "open_tree": lambda: system_call("open_tree", -1, BAD, 1),
    "move_mount": lambda: system_call("move_mount", -1, BAD, -1, BAD, 0),
    "fsopen": lambda: system_call("fsopen", BAD, 0),
    "fsconfig": lambda: system_call("fsconfig", -1, 0, 0, 0, 0),
    "fsmount": lambda: system_call("fsmount", -1, 0, 0),
    "fspick": lambda: system_call("fspick", -1, BAD, 0),
    "mount_setattr": lambda: system_call("mount_setattr", -1, BAD, 0, 0, 0),
    "open_by_handle_at": lambda: system_call("open_by_handle_at", -1, BAD, 0),
    "reboot": lambda: system_call("reboot", 1, 2, 3, 0),
    "swapon": lambda: system_call("swapon", BAD, 0),
    "swapoff": lambda: system_call("swapoff", BAD),
    "acct": lambda: system_call("acct", BAD),
    "syslog": lambda: system_call("syslog", 99, 0, 0),
    "sethostname": lambda: system_call("sethostname", BAD, -1),
    "setdomainname": lambda: system_call("setdomainname", BAD, -1),
    "quotactl": lambda: system_call("quotactl", 0, BAD, 0, 0),
    "iopl": lambda: system_call("iopl", 99),
    "ioperm": lambda: system_call("ioperm", -1, 99, 1),
    "settimeofday": lambda: system_call("settimeofday", BAD, 0),
    "clock_settime": lambda: system_call("clock_settime", 99, BAD),
    "init_module": lambda: system_call("init_module", BAD, 0, BAD),
    "finit_module": lambda: system_call("finit_module", -1, BAD, 0),
    "delete_module": lambda: system_call("delete_module", BAD, 0),
    "kexec_load": lambda: system_call("kexec_load", 0, 99, BAD, 99),
    "kexec_file_load": lambda: system_call("kexec_file_load", -1, -1, 0, 0, 99),
    "bpf": lambda: system_call("bpf", 0, BAD, 8),
    "perf_event_open": lambda: system_call("perf_event_open", BAD, 0, -1, -1, 0),
    "io_uring_setup": lambda: system_call("io_uring_setup", 1, BAD),
    "io_uring_enter": lambda: system_call("io_uring_enter", -1, 0, 0, 0, 0, 0),
    "io_uring_register": lambda: system_call("io_uring_register", -1, 0, 0, 0),
    "userfaultfd": lambda: system_call("userfaultfd", -1),
    "process_mrelease": lambda: system_call("process_mrelease", -1, 0),
    "add_key": lambda: system_call("add_key", BAD, 0, 0, 0, 0),
    "request_key": lambda: system_call("request_key", BAD, 0, 0, 0),
    "keyctl": lambda: system_call("keyctl", 99, 0, 0, 0, 0),
    "type_into_terminal": type_into_terminal,
}
# What every user may do where there is no sandbox, and no container around it.
ANYBODY = ["io_uring_enter", "io_uring_register", "open_tree", "fsconfig", "keyctl", "request_key", "setns", "finit_module"]


def clone(flags):
    """As fork() with these flags."""
    pid = system_call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def in_child(call):
    """Raises what it raises in a child."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            call()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 255
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code > 0:
        raise OSError(code, os.strerror(code))
    return code


def send_to(kind):
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(s) for s in socket.socketpair(socket.AF_UNIX, kind))
        del other
        return one.sendto(b"x", "/run/nobody")


def on_pair(method, *args):
    one, other = socket.socketpair()
    with one, other:
        return getattr(one, method)(*args)


def write(path, flags):
    os.close(os.open(path, flags, 0o600))


STRICT = {
    "inet": lambda _: socket.socket(socket.AF_INET).close(),
    "inet6": lambda _: socket.socket(socket.AF_INET6).close(),
    "unix": lambda _: socket.socket(socket.AF_UNIX).close(),
    "netlink": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "datagram_pair": lambda _: send_to(socket.SOCK_DGRAM),
    "raw_pair": lambda _: send_to(socket.SOCK_RAW),
    "connect": lambda _: on_pair("connect", "/run/nobody"),
    "bind": lambda _: on_pair("bind", ""),
    "listen": lambda _: on_pair("listen"),
    "accept": lambda _: on_pair("accept"),
    "subprocess": lambda _: subprocess.run(["true"], check=True),
    "shell": lambda _: subprocess.run("true", shell=True, check=True),
    "posix_spawn": lambda _: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda _: in_child(lambda: os.execv("/bin/true", ["true"])),
    "exec_of_fd": lambda _: in_child(lambda: os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {})),
    "create": lambda dir: write(f"{dir}/new", os.O_WRONLY | os.O_CREAT),
    "append": lambda dir: write(f"{dir}/file", os.O_WRONLY | os.O_APPEND),
    "read_and_write": lambda dir: write(f"{dir}/file", os.O_RDWR),
    "truncate_when_opened": lambda dir: write(f"{dir}/file", os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda dir: os.truncate(f"{dir}/file", 0),
    "unlink": lambda dir: os.unlink(f"{dir}/file"),
    "rename": lambda dir: os.rename(f"{dir}/file", f"{dir}/other"),
    "rename_in": lambda dir: os.rename(f"{dir}/file", f"{tempfile.gettempdir()}/file"),
    "link_in": lambda dir: os.link(f"{dir}/file", f"{tempfile.gettempdir()}/file"),
    "symlink": lambda dir: os.symlink("file", f"{dir}/link"),
    "mkdir": lambda dir: os.mkdir(f"{dir}/sub"),
    "rmdir": lambda dir: os.rmdir(f"{dir}/empty"),
    "mkfifo": lambda dir: os.mkfifo(f"{dir}/fifo"),
    "by_a_link": lambda dir: by_a_link(dir),
    "by_proc": lambda dir: by_proc(dir),
    "chmod": lambda dir: os.chmod(f"{dir}/file", 0o777),
    "fchmodat2": lambda dir: system_call("fchmodat2", -100, BAD, 0, 0),
    "chown": lambda dir: os.chown(f"{dir}/file", os.getuid(), os.getgid()),
    "utime": lambda dir: os.utime(f"{dir}/file"),
    "setxattr": lambda dir: os.setxattr(f"{dir}/file", "user.x", b"x"),
    "dev_shm": lambda _: write("/dev/shm/ep_sandbox_probe", os.O_WRONLY | os.O_CREAT),
    "var_tmp": lambda _: write("/var/tmp/ep_sandbox_probe", os.O_WRONLY | os.O_CREAT),
    "sysctl": lambda _: write("/proc/sys/kernel/hostname", os.O_WRONLY),
    "other_temp": lambda _: write(f"{tempfile.gettempdir()}/../probe", os.O_WRONLY | os.O_CREAT),
    "shmget": lambda _: system_call("shmget", 0, 0, 0),
    "semget": lambda _: system_call("semget", 0, 0, 0),
    "msgget": lambda _: system_call("msgget", 99, 0),
    "mq_open": lambda _: system_call("mq_open", BAD, 0, 0, 0),
}


def by_a_link(dir):
    link = f"{tempfile.gettempdir()}/link"
    with contextlib.suppress(FileExistsError):
        os.symlink(f"{dir}/file", link)
    write(link, os.O_WRONLY)


def by_proc(dir):
    fd = os.open(f"{dir}/file", os.O_RDONLY)
    try:
        write(f"/proc/self/fd/{fd}", os.O_WRONLY)
    finally:
        os.close(fd)


def attempt(call, *args):
    """refused, or what happened."""
    try:
        call(*args)
    except PermissionError:
        return "refused"
    except BaseException as error:
        return repr(error)
    return "done"


def others(pids):
    """{pid: {what: refused or not}}"""
    return {pid: {name: attempt(call, pid) for name, call in OTHERS.items()} for pid in pids}


def default():
    return {name: attempt(call) for name, call in DEFAULT.items()}


def anybody():
    return {name: attempt(DEFAULT[name]) for name in ANYBODY}


def strict(dir):
    return {name: attempt(call, dir) for name, call in STRICT.items()}


def thread_status():
    with open("/proc/thread-self/status") as file:
        found = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    return found["NoNewPrivs"], found["Seccomp"], int(found["CapEff"], 16)


def clone3():
    try:
        system_call("clone3", ctypes.c_void_p(0), 0)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def make_mess(outside):
    """In the directory for temporary files: what is hard to remove. Returns that directory."""
    top = tempfile.gettempdir()
    os.symlink(outside, f"{top}/out")
    here = os.open(top, os.O_RDONLY)
    for depth in range(300):
        os.mkdir("down", dir_fd=here)
        below = os.open("down", os.O_RDONLY, dir_fd=here)
        write_at(below, f"file{depth}")
        os.close(here)
        here = below
    os.close(here)
    umask = os.umask(0o777)  # chmod is refused
    os.mkdir(f"{top}/closed")
    os.umask(umask)
    return top


def write_at(dir, name):
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=dir))
