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
#include <string.h>

#define EP_CONTROL_VERSION 8u
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
     * for any; its sandbox, default or strict, "" for none; then NAME=VALUE to set and NAME to
     * remove a variable of the environment, in this order. Of a ZYGOTE, behind an empty string:
     * what it prepares, see erlang._zygote. */
    char settings[EP_CONTROL_SETTINGS_MAX];
};

/* Bytes of a request with so many of settings. */
static inline size_t ep_control_request_size(uint32_t settings_size)
{
    return offsetof(struct ep_control_request, settings) + settings_size;
}

/* How many of the settings come before the variables, each of them perhaps empty. */
#define EP_CONTROL_SETTINGS_FIRST 3u

/* The setting of that number, from 0 on; "" if there is none. */
static inline const char *ep_control_setting(const struct ep_control_request *request, unsigned n)
{
    const char *at = request->settings, *end = at + request->settings_size;

    for (; at < end && n > 0; n--)
        at += strlen(at) + 1;
    return at < end ? at : "";
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

/* The word by which a worker says in HELLO what its sandbox is: the level, 0 none, 1 default, 2
 * strict; from bit 8 on what of it is in force, from bit 16 on what is missing, see
 * service/sandbox/ep_sandbox.h and py_sandbox.erl. */
#define EP_SANDBOX_WORD_LEVEL 0xff
#define EP_SANDBOX_WORD_MAX 0xffffff
#define EP_SANDBOX_LEVEL_MAX 2

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
