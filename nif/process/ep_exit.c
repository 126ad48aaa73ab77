/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_exit.h"

#include "ep_atoms.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The last field of /proc/PID/stat. */
static int read_status(int64_t os_pid, int *ret_status)
{
    char path[64], text[2048];

    (void)snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)os_pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    int rc = n < 0 ? -errno : 0;
    (void)close(fd);
    if (rc < 0)
        return rc;
    text[n] = '\0';
    /* The name may contain anything; it ends with the last parenthesis. */
    const char *state = strrchr(text, ')'), *last = strrchr(text, ' ');
    if (state == NULL || last == NULL || (state[2] != 'Z' && state[2] != 'X'))
        return -ENODATA;
    *ret_status = (int)strtol(last, NULL, 10);
    return 0;
}

int ep_exit_read(int64_t os_pid, int pidfd, int64_t *ret_value)
{
    int status = 0;

    int rc = read_status(os_pid, &status);
    if (rc < 0)
        return rc;
    /* As long as the pidfd finds the process, nobody else had its number. */
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return -errno;
    if (status == 0)
        return -ENODATA;
    *ret_value = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
    return 0;
}

ERL_NIF_TERM ep_exit_reason(ErlNifEnv *env, int64_t exit_value)
{
    char name[16];

    if (exit_value == EP_EXIT_VALUE_KILL_AFTER)
        return am_kill_after;
    if (exit_value == EP_EXIT_VALUE_VIOLATION)
        return am_protocol_violation;
    if (exit_value < EP_EXIT_VALUE_ERRNO)
        return ep_atom_of_errno(env, (int)(EP_EXIT_VALUE_ERRNO - exit_value));
    if (exit_value < 0)
        return am_unknown;
    if (exit_value < 256)
        return enif_make_int64(env, exit_value);

    static const struct {
        int number;
        const char *name;
    } signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGKILL, "SIGKILL"},
                   {SIGTERM, "SIGTERM"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
                   {SIGILL, "SIGILL"},   {SIGINT, "SIGINT"},   {SIGHUP, "SIGHUP"},
                   {SIGQUIT, "SIGQUIT"}, {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},
                   {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"}, {SIGALRM, "SIGALRM"},
                   {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGPIPE, "SIGPIPE"}};
    int number = (int)(exit_value - 256);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (signals[i].number == number)
            return enif_make_atom(env, signals[i].name);
    /* At most 64 of them exist, so this cannot fill the atom table. */
    (void)snprintf(name, sizeof(name), "SIG%d", number & 127);
    return enif_make_atom(env, name);
}
