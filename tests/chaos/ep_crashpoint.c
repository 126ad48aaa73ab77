/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_crashpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The page that a test shares with the worker processes: the OS variable EP_CRASH_PAGE
 * names the file. The test writes the order, generation last; the process writes what it
 * has seen since that order. One order ends one process. The VM, which has the file mapped, too,
 * ends the process of the order at steps of its own.
 */

/* How long the VM waits until a process has ended or stopped. */
#define PEER_LOOKS 1000
#define PEER_LOOK_US 100

#define NAME_SIZE 48
#define POINTS_MAX 120

enum action { ACTION_NONE, ACTION_KILL, ACTION_SEGV, ACTION_EXIT, ACTION_ABORT, ACTION_STOP };

struct point {
    char name[NAME_SIZE];
    _Atomic uint32_t hits;
};

struct page {
    /* the order */
    _Atomic uint32_t generation;
    uint32_t pid; /* 0: whichever process comes there first */
    uint32_t nth;
    uint32_t action;
    char name[NAME_SIZE];
    /* what came of it */
    _Atomic uint32_t fired;
    _Atomic uint32_t fired_pid;
    _Atomic uint32_t matched;
    _Atomic uint32_t taken;     /* slots of requests given back */
    _Atomic uint32_t committed; /* messages of lanes published */
    _Atomic uint32_t resting;   /* the lane sleeps, and has done nothing since it took a request */
    uint32_t reserved[2];
    struct point points[POINTS_MAX];
};

static struct page *page;

__attribute__((constructor)) static void map_page(void)
{
    const char *path = getenv("EP_CRASH_PAGE");
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mem = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (mem != MAP_FAILED)
        page = mem;
}

/* Where the hits of a name are counted; two threads that come first at once may make two. */
static void count(const char *name)
{
    for (size_t i = 0; i < POINTS_MAX; i++) {
        if (page->points[i].name[0] == '\0')
            strncpy(page->points[i].name, name, NAME_SIZE - 1);
        if (strncmp(page->points[i].name, name, NAME_SIZE) == 0) {
            (void)atomic_fetch_add(&page->points[i].hits, 1);
            return;
        }
    }
}

static void act(uint32_t action)
{
    switch (action) {
    case ACTION_KILL: (void)kill(getpid(), SIGKILL); break;
    case ACTION_SEGV:
        /* Not raise(): Python code may have a handler. */
        (void)signal(SIGSEGV, SIG_DFL);
        (void)kill(getpid(), SIGSEGV);
        break;
    case ACTION_EXIT: _exit(0);
    case ACTION_ABORT: abort();
    case ACTION_STOP: (void)kill(getpid(), SIGSTOP); return;
    default: return;
    }
    for (;;)
        (void)pause();
}

/* Whether this is where the order says, for the first time. */
static bool is_here(const char *name)
{
    count(name);
    return strncmp(page->name, name, NAME_SIZE) == 0
           && atomic_fetch_add(&page->matched, 1) + 1 == page->nth
           && atomic_exchange(&page->fired, 1) == 0;
}

void ep_crashpoint(const char *name)
{
    if (page == NULL || atomic_load(&page->generation) == 0)
        return;
    if (page->pid != 0 && page->pid != (uint32_t)getpid())
        return;
    if (strcmp(name, "request.taken") == 0) {
        (void)atomic_fetch_add(&page->taken, 1);
        atomic_store(&page->resting, 0);
    }
    if (strcmp(name, "lane.armed") == 0 && atomic_load(&page->taken) > 0)
        atomic_store(&page->resting, 1);
    if (strcmp(name, "reply.committed") == 0)
        (void)atomic_fetch_add(&page->committed, 1);
    if (!is_here(name))
        return;
    atomic_store(&page->fired_pid, (uint32_t)getpid());
    act(page->action);
}

/* The state of a process as /proc tells it; Z: it has gone. */
static int state_of(uint32_t pid)
{
    char path[64], text[512] = "";

    (void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 'Z';
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    const char *at = n > 0 ? strrchr(text, ')') : NULL;
    return at == NULL || at[1] != ' ' ? 'Z' : at[2];
}

void ep_crashpoint_peer(const char *name)
{
    if (page == NULL || atomic_load(&page->generation) == 0 || page->pid == 0 || !is_here(name))
        return;
    uint32_t pid = page->pid;
    atomic_store(&page->fired_pid, pid);
    (void)kill((pid_t)pid, page->action == ACTION_STOP ? SIGSTOP : SIGKILL);
    for (unsigned n = 0; n < PEER_LOOKS; n++) {
        int state = state_of(pid);
        if (state == 'Z' || state == 'T')
            break;
        (void)usleep(PEER_LOOK_US);
    }
}
