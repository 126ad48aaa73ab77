/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_crashpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The page that a test shares with the worker processes: the OS variable EP_CRASH_PAGE
 * names the file. The test writes the order, generation last; the process writes what it
 * has seen since that order. One order ends one process.
 */

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
    uint32_t reserved[3];
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

void ep_crashpoint(const char *name)
{
    if (page == NULL || atomic_load(&page->generation) == 0)
        return;
    if (page->pid != 0 && page->pid != (uint32_t)getpid())
        return;
    if (strcmp(name, "request.taken") == 0)
        (void)atomic_fetch_add(&page->taken, 1);
    if (strcmp(name, "reply.committed") == 0)
        (void)atomic_fetch_add(&page->committed, 1);
    count(name);
    if (strncmp(page->name, name, NAME_SIZE) != 0
        || atomic_fetch_add(&page->matched, 1) + 1 != page->nth)
        return;
    if (atomic_exchange(&page->fired, 1) != 0)
        return;
    atomic_store(&page->fired_pid, (uint32_t)getpid());
    act(page->action);
}
