/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What waking a sleeping process and being woken by it costs: two processes, neither of
 * which spins, on CPUs of their own. On one CPU they would only hand it to each other,
 * which is cheaper than waking a CPU that sleeps, and not what happens to a worker.
 *
 *   without arguments  prints the middle of many round trips: by futex, by eventfd (a
 *                      sleep in epoll), and as the library does it, futex there and
 *                      eventfd back
 *   asked              makes one trip of the last kind for each line of input, so that
 *                      the rest between two trips is the caller's choice
 */
#define _GNU_SOURCE
#include "floor.h"

#include "ep_bell.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIPS 200u

struct shared {
    _Alignas(64) ep_atomic_u32 ask;
    _Alignas(64) ep_atomic_u32 answer;
};

/* How one direction wakes: a futex word, or an eventfd if fd >= 0. */
struct way {
    ep_atomic_u32 *word;
    uint32_t seen;
    int fd, epoll;
};

static struct way make_way(ep_atomic_u32 *word, bool is_eventfd)
{
    struct way way = {.word = word, .fd = -1, .epoll = -1};
    struct epoll_event event = {.events = EPOLLIN};

    if (!is_eventfd)
        return way;
    way.fd = eventfd(0, EFD_CLOEXEC);
    way.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (way.fd < 0 || way.epoll < 0 || epoll_ctl(way.epoll, EPOLL_CTL_ADD, way.fd, &event) < 0)
        exit(1);
    return way;
}

static void wake(struct way *way)
{
    uint64_t one = 1;

    if (way->fd < 0)
        ep_futex_wake(way->word);
    else if (write(way->fd, &one, sizeof(one)) != sizeof(one))
        exit(1);
}

static void wait_for(struct way *way)
{
    struct epoll_event event;
    uint64_t value;

    if (way->fd < 0) {
        while (ep_futex_value(way->word) == way->seen)
            ep_futex_wait(way->word, way->seen, -1);
        way->seen++;
        return;
    }
    while (epoll_wait(way->epoll, &event, 1, -1) != 1) {
    }
    if (read(way->fd, &value, sizeof(value)) != sizeof(value))
        exit(1);
}

/* Keeps this process on the nth of the CPUs that it may use. */
static void pin(const cpu_set_t *allowed, int nth)
{
    cpu_set_t one;

    nth %= CPU_COUNT(allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, allowed) || nth-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

static void measure(const char *name, struct way *there, struct way *back, bool is_asked)
{
    double rounds[FLOOR_ROUNDS];
    char line[16];
    pid_t parent = getpid();
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        exit(1);
    (void)fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        exit(1);
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(&allowed, 1);
        while (getppid() == parent) {
            wait_for(there);
            wake(back);
        }
        _exit(0);
    }
    pin(&allowed, 0);
    while (is_asked && fgets(line, sizeof(line), stdin) != NULL) {
        uint64_t start = ep_clock_ns();
        wake(there);
        wait_for(back);
        (void)printf("%.1f\n", (double)(ep_clock_ns() - start));
        (void)fflush(stdout);
    }
    for (int r = 0; r < FLOOR_ROUNDS && !is_asked; r++) {
        uint64_t start = ep_clock_ns();
        for (unsigned i = 0; i < TRIPS; i++) {
            wake(there);
            wait_for(back);
        }
        rounds[r] = (double)(ep_clock_ns() - start) / TRIPS;
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    (void)sched_setaffinity(0, sizeof(allowed), &allowed);
    if (!is_asked)
        floor_print(name, rounds);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool there, back;
    } kinds[] = {{"futex", false, false}, {"eventfd", true, true}, {"mixed", false, true}};
    bool is_asked = argc == 2 && strcmp(argv[1], "asked") == 0;

    for (int i = is_asked ? 2 : 0; i < 3; i++) {
        struct shared *shared =
            mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
            return 1;
        struct way there = make_way(&shared->ask, kinds[i].there);
        struct way back = make_way(&shared->answer, kinds[i].back);
        measure(kinds[i].name, &there, &back, is_asked);
    }
    return 0;
}
