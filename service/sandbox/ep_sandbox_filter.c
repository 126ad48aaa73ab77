/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_sandbox_filter.h"

#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Names are looked up when the filter is made, for the headers of the system may be older than
 * the library. The kernel remembers which calls pass whatever their arguments, so that those that
 * Python makes all the time cost little.
 *
 * Arguments of type int come in registers whose upper half the kernel ignores, and this filter
 * must, too: what matches is compared under a mask. Only where the other side of the comparison
 * is what fails, whatever it is, are whole registers compared.
 */

#define REFUSE SCMP_ACT_ERRNO(EPERM)
#define LOW UINT64_C(0xffffffff)
#define TIME_NAMESPACE 0x80
#define TIOCSTI_ 0x5412u
#define TIOCLINUX_ 0x541cu
#define FS_IOC_SETFLAGS_ 0x40086602u
#define FS_IOC_FSSETXATTR_ 0x401c5820u
#define PAIR_TYPE 0xf

#if defined(__x86_64__)
#define OTHER_ARCH SCMP_ARCH_X86
#elif defined(__aarch64__)
#define OTHER_ARCH SCMP_ARCH_ARM
#endif

static const char *const never[] = {
    /* other processes */
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "process_mrelease", "kcmp",
    /* mounts, namespaces */
    "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "open_tree", "mount_setattr", "setns", "open_by_handle_at",
    /* administration */
    "reboot", "swapon", "swapoff", "acct", "syslog", "sethostname", "setdomainname", "quotactl",
    "quotactl_fd", "nfsservctl", "vhangup", "iopl", "ioperm", "settimeofday", "clock_settime",
    "clock_settime64", "stime", "init_module", "finit_module", "delete_module", "create_module",
    "kexec_load", "kexec_file_load", "lookup_dcookie",
    /* large parts of the kernel that Python does not need */
    "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "userfaultfd", "add_key", "request_key", "keyctl"};

static const char *const never_strict[] = {
    /* programs */
    "execve", "execveat",
    /* sockets, but pairs */
    "socket", "connect", "bind", "listen", "accept", "accept4",
    /* what is left of files when their content cannot be changed */
    "chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat", "chown32", "lchown32",
    "fchown32", "utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr",
    "removexattr", "lremovexattr", "fremovexattr",
    /* what is shared by name, and stays */
    "shmget", "semget", "msgget", "mq_open", "mq_unlink"};

/* Too new for the library to know their names; of all architectures. */
static const int numbers_strict[] = {
    452, /* fchmodat2 */
    463, /* setxattrat */
    466, /* removexattrat */
    469, /* file_setattr */
};

static const unsigned namespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                      CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

/* One that this machine does not have, or the library does not know, needs no rule. */
static int refuse_as(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned n,
                     const struct scmp_arg_cmp *args)
{
    int number = seccomp_syscall_resolve_name(name);

    if (number == __NR_SCMP_ERROR)
        return 0;
    return seccomp_rule_add_array(filter, action, number, n, args);
}

static int refuse(scmp_filter_ctx filter, const char *name)
{
    return refuse_as(filter, REFUSE, name, 0, NULL);
}

static int refuse_if(scmp_filter_ctx filter, const char *name, struct scmp_arg_cmp condition)
{
    return refuse_as(filter, REFUSE, name, 1, &condition);
}

static int refuse_all(scmp_filter_ctx filter, const char *const *names, size_t n)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = refuse(filter, names[i]);
    return rc;
}

/* clone3() has its flags in memory, where no filter can look. Who gets ENOSYS uses clone(). */
static int refuse_namespaces(scmp_filter_ctx filter)
{
    int rc = refuse_as(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);

    for (size_t i = 0; rc == 0 && i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        uint64_t bit = namespaces[i];
        rc = refuse_if(filter, "unshare", SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit));
        if (rc == 0)
#if defined(__s390__) || defined(__s390x__)
            rc = refuse_if(filter, "clone", SCMP_A1(SCMP_CMP_MASKED_EQ, bit, bit));
#else
            rc = refuse_if(filter, "clone", SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit));
#endif
    }
    /* That bit means a signal to clone(). */
    return rc < 0 ? rc
                  : refuse_if(filter, "unshare",
                              SCMP_A0(SCMP_CMP_MASKED_EQ, TIME_NAMESPACE, TIME_NAMESPACE));
}

static int refuse_ioctl(scmp_filter_ctx filter, unsigned request)
{
    return refuse_if(filter, "ioctl", SCMP_A1(SCMP_CMP_MASKED_EQ, LOW, request));
}

/* The limits of another process, the VM's for one; who asks for his own says 0. */
static int refuse_limits(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp args[] = {SCMP_A0(SCMP_CMP_NE, 0), SCMP_A2(SCMP_CMP_NE, 0)};

    return refuse_as(filter, REFUSE, "prlimit64", 2, args);
}

static int add_default(scmp_filter_ctx filter)
{
    int rc = refuse_all(filter, never, sizeof(never) / sizeof(never[0]));

    if (rc == 0)
        rc = refuse_namespaces(filter);
    /* Would type into the terminal that the VM was started from. */
    if (rc == 0)
        rc = refuse_ioctl(filter, TIOCSTI_);
    if (rc == 0)
        rc = refuse_ioctl(filter, TIOCLINUX_);
    if (rc == 0)
        rc = refuse_limits(filter);
    if (rc == 0)
        rc = refuse_if(filter, "move_pages", SCMP_A0(SCMP_CMP_NE, 0));
    if (rc == 0)
        rc = refuse_if(filter, "migrate_pages", SCMP_A0(SCMP_CMP_NE, 0));
    return rc;
}

/* Pairs of streams only: a datagram can be sent to anybody's address. */
static int refuse_pairs(scmp_filter_ctx filter)
{
    int rc = refuse_if(filter, "socketpair", SCMP_A0(SCMP_CMP_NE, AF_UNIX));

    if (rc == 0)
        rc = refuse_if(filter, "socketpair", SCMP_A1(SCMP_CMP_MASKED_EQ, PAIR_TYPE, SOCK_DGRAM));
    if (rc == 0)
        rc = refuse_if(filter, "socketpair", SCMP_A1(SCMP_CMP_MASKED_EQ, PAIR_TYPE, SOCK_RAW));
    return rc;
}

static int add_strict(scmp_filter_ctx filter)
{
    int rc = refuse_all(filter, never_strict, sizeof(never_strict) / sizeof(never_strict[0]));

    for (size_t i = 0; rc == 0 && i < sizeof(numbers_strict) / sizeof(numbers_strict[0]); i++)
        rc = seccomp_rule_add(filter, REFUSE, numbers_strict[i], 0);
    if (rc == 0)
        rc = refuse_ioctl(filter, FS_IOC_SETFLAGS_);
    if (rc == 0)
        rc = refuse_ioctl(filter, FS_IOC_FSSETXATTR_);
    if (rc == 0)
        rc = refuse_pairs(filter);
    return rc;
}

/* Programs of the other width of this machine run by the same rules, but not where programs do
 * not run at all. Whatever else there is, x32 for one, gets ENOSYS. */
static int set_up(scmp_filter_ctx filter, bool is_strict)
{
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));

#ifdef OTHER_ARCH
    if (rc == 0 && !is_strict)
        rc = seccomp_arch_add(filter, OTHER_ARCH);
#endif
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
    /* Before Linux 5.16 a filter switched off what makes loads fast; and a tree finds a call
     * sooner than a list. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    return rc;
}

int ep_sandbox_filter_load(bool is_strict)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    if (filter == NULL)
        return -ENOMEM;
    int rc = set_up(filter, is_strict);
    if (rc == 0)
        rc = add_default(filter);
    if (rc == 0 && is_strict)
        rc = add_strict(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}
