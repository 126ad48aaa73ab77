/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CONTROL_H
#define EP_CONTROL_H

/*
 * ep_control - the messages between the VM and the launcher, one struct each way.
 *
 * They travel over one SOCK_SEQPACKET socket (ep_fdpass.h), which also carries
 * the fds of a new worker. Calls never pass here.
 *
 * Trust      the launcher is part of the VM's side and trusted, but the sizes
 *            and kinds of what it says are checked all the same.
 */

#include <stddef.h>
#include <stdint.h>

#define EP_CONTROL_VERSION 7u
#define EP_CONTROL_STRING_MAX 4096u
#define EP_CONTROL_TEXT_MAX (16u << 10)
#define EP_CONTROL_SETTINGS_MAX (64u << 10)

/* VM to launcher. All but KILL carry the fds of the worker, in the order of enum ep_worker_fd.
 * The launcher hands ZYGOTE and FORK on to the zygote; a FORK carries then, as its last fd, what
 * the worker writes its standard error to. */
enum ep_control_request_kind {
    EP_CONTROL_SPAWN = 1,
    EP_CONTROL_KILL = 2,   /* the VM has no pidfd of that worker */
    EP_CONTROL_ZYGOTE = 3, /* as SPAWN: a process that imports modules, and forks workers */
    EP_CONTROL_FORK = 4,   /* a worker, by the zygote that zygote_id names */
};

struct ep_control_request {
    uint32_t version;
    uint32_t kind; /* enum ep_control_request_kind */
    uint64_t worker_id;
    uint64_t zygote_id;                      /* FORK: worker_id of the ZYGOTE */
    char worker_path[EP_CONTROL_STRING_MAX]; /* the program to execute */
    char python_path[EP_CONTROL_STRING_MAX]; /* sys.executable, "" for the default */
    char module_path[EP_CONTROL_STRING_MAX]; /* directory of the package erlang */
    uint32_t settings_size;
    /* The message ends behind settings_size bytes of it. Strings, each with its NUL: the working
     * directory, "" for that of the launcher; how many bytes of private memory it may have, ""
     * for any; then NAME=VALUE to set and NAME to remove a variable of the environment, in this
     * order. Of a ZYGOTE, behind an empty string: what it prepares, see erlang._zygote. */
    char settings[EP_CONTROL_SETTINGS_MAX];
};

/* Bytes of a request with so many of settings. */
static inline size_t ep_control_request_size(uint32_t settings_size)
{
    return offsetof(struct ep_control_request, settings) + settings_size;
}

/* Launcher to VM. SPAWNED carries one fd: the pidfd of the worker. FORKED and FAILED also come
 * from a zygote, on its own socket. */
enum ep_control_event_kind {
    EP_CONTROL_READY = 1,   /* the launcher is there */
    EP_CONTROL_SPAWNED = 2, /* value: os pid */
    EP_CONTROL_FAILED = 3,  /* value: errno of what failed before there was a process */
    EP_CONTROL_EXITED = 4,  /* value: exit code, or 256 + signal number */
    EP_CONTROL_WROTE = 5,   /* before EXITED: struct ep_control_words */
    /* Zygote to launcher. value: os pid of the worker. One fd: the worker, and its parent in
     * between, wait until all of its copies are closed: the launcher knows the worker then. */
    EP_CONTROL_FORKED = 6,
};

struct ep_control_event {
    uint32_t version;
    uint32_t kind; /* enum ep_control_event_kind */
    uint64_t worker_id;
    int64_t value;
    uint8_t token[16]; /* READY: proves that the launcher is the one we started */
};

/* WROTE: what the worker wrote last to its standard error. As long as its text, whose length
 * is event.value. */
struct ep_control_words {
    struct ep_control_event event;
    char text[EP_CONTROL_TEXT_MAX];
};

/* Where the launcher puts the fds of a worker before it executes it. */
enum ep_worker_fd {
    EP_WORKER_FD_A = 3,
    EP_WORKER_FD_B = 4,
    EP_WORKER_FD_C = 5,
    EP_WORKER_FD_DOORBELL = 6, /* an eventfd */
    EP_WORKER_FD_CONTROL = 7,  /* a socket that ends with the VM, and brings news of arrays */
    EP_WORKER_FD_ZYGOTE = 8,   /* of a zygote: a socket to the launcher */
};
#define EP_WORKER_FDS 5

/* Exit codes of a worker. */
enum ep_worker_exit {
    EP_EXIT_ASKED = 0,
    EP_EXIT_FDS_LOST = 70,     /* Python code closed descriptors that the process needs */
    EP_EXIT_CANNOT_START = 71, /* Python does not initialise, segments do not fit */
    EP_EXIT_PROTOCOL = 72,     /* the VM's side of the segments makes no sense */
    EP_EXIT_NO_ZYGOTE = 73,    /* of a zygote: its modules fail, or do not survive a fork */
    /* The program, or a library that it needs, is not there: as a shell and ld.so have it. */
    EP_EXIT_NOT_EXECUTED = 127,
};

#endif
