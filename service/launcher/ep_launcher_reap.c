/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_reap.h"

#include "ep_cpu.h"
#include "ep_launcher_mark.h"
#include "ep_launcher_temp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many pieces of what a dead worker wrote are read; its pipe holds one, and descendants
 * may write on until they are dead. */
#define LAST_PIECES 16

static void read_rest(struct ep_tail *tail, struct ep_outlet *outlet)
{
    for (int n = 0; n < LAST_PIECES && ep_tail_read(tail, outlet); n++)
        continue;
}

/* What the worker wrote last. Its pipe stays: what it has left writes there, too. */
static void take_words(struct ep_launcher_worker *worker, struct ep_outlet *outlet,
                       struct ep_control_words *ret_words)
{
    read_rest(&worker->tail, outlet);
    ret_words->event = (struct ep_control_event){.kind = EP_CONTROL_WROTE, .worker_id = worker->id};
    ret_words->event.value = (int64_t)ep_tail_copy(&worker->tail, ret_words->text);
}

/* A tracker needs milliseconds, on a busy machine more. One that takes longer does not end,
 * for a process that nobody can know has an end of its pipe. */
#define TRACKER_LIMIT_NS UINT64_C(5000000000)

static void stop_group(struct ep_launcher_worker *worker)
{
    worker->is_dead = true;
    worker->until_ns = ep_clock_ns() + TRACKER_LIMIT_NS;
    (void)kill(-worker->pid, SIGSTOP);
}

bool ep_launcher_reap_bury(struct ep_launcher_table *table, struct ep_outlet *outlet,
                           struct ep_control_event *ret_event, struct ep_control_words *ret_words)
{
    for (size_t i = 0; i < table->count; i++) {
        struct ep_launcher_worker *worker = &table->workers[i];
        siginfo_t info = {.si_pid = 0};

        if (worker->is_dead || worker->pid == 0
            || waitid(P_PID, (id_t)worker->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0
            || info.si_pid == 0)
            continue;
        stop_group(worker);
        *ret_event = (struct ep_control_event){
            .kind = EP_CONTROL_EXITED,
            .worker_id = worker->id,
            .value = info.si_code == CLD_EXITED ? info.si_status : 256 + info.si_status,
        };
        take_words(worker, outlet, ret_words);
        return true;
    }
    return false;
}

/* Reads at most size - 1 bytes of a file and ends them with a NUL. Returns how
 * many, or a negative errno. */
static ssize_t read_file(const char *path, char *ret_text, size_t size)
{
    size_t n = 0;
    ssize_t got;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    do {
        got = read(fd, ret_text + n, size - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    } while (got > 0 && n < size - 1);
    (void)close(fd);
    ret_text[n] = '\0';
    return (ssize_t)n;
}

/* The worker that the process descends from: its pid, 0 if it does not say, or -1 if
 * there is nothing to read, as in the middle of an execve. */
static pid_t mark_of(pid_t pid)
{
    static char text[1 << 16]; /* the mark is put last, but rarely beyond this */
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    text[0] = '\0';
    ssize_t size = read_file(path, text + 1, sizeof(text) - 1);
    if (size <= 0)
        return -1;
    return ep_launcher_mark_in(text, (size_t)size + 1);
}

/* Whether it is a resource tracker of multiprocessing, or one that was made after it. */
static bool is_tracker(pid_t pid)
{
    static const char code[] = "resource_tracker import main";
    char text[4096], path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    ssize_t size = read_file(path, text, sizeof(text));
    return size > 0 && memmem(text, (size_t)size, code, sizeof(code) - 1) != NULL;
}

/* What an orphan belongs to. */
struct origin {
    bool is_abandoned;               /* to nothing that lives */
    bool is_alien;                   /* to nothing that is known ... */
    bool is_unsure;                  /* ... yet */
    struct ep_launcher_worker *dead; /* NULL: that worker is forgotten, or was never known */
};

static struct origin origin_of(const struct ep_launcher_table *table, pid_t pid, size_t living)
{
    struct ep_launcher_worker *worker = ep_launcher_table_find(table, getpgid(pid));
    pid_t mark = 0;

    if (worker == NULL) {
        mark = mark_of(pid);
        worker = mark > 0 ? ep_launcher_table_find(table, mark) : NULL;
    }
    if (worker != NULL)
        return (struct origin){.is_abandoned = worker->is_dead,
                               .dead = worker->is_dead ? worker : NULL};
    return (struct origin){
        .is_abandoned = mark > 0 || living == 0, .is_alien = mark <= 0, .is_unsure = mark < 0};
}

static void judge(const struct ep_launcher_table *table, pid_t pid, size_t living, bool everybody,
                  bool *ret_unsure)
{
    struct origin origin = origin_of(table, pid, living);

    *ret_unsure = *ret_unsure || origin.is_unsure;
    /* What belongs to a worker has its turn when that is dead. */
    if (!origin.is_abandoned && !(origin.is_alien && everybody))
        return;
    struct ep_launcher_worker *dead = origin.dead;
    if (dead != NULL && ep_clock_ns() < dead->until_ns && is_tracker(pid)) {
        dead->has_tracker = true;
        return;
    }
    if (dead != NULL)
        dead->has_left = true;
    (void)kill(pid, SIGKILL);
}

/* Somebody ends, or executes another program, and cannot be read meanwhile: it may belong to any
 * worker that is dead. Not for long, for an environment may be empty for good. */
static void doubt_all(struct ep_launcher_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        struct ep_launcher_worker *worker = &table->workers[i];
        if (worker->is_dead && ep_clock_ns() < worker->until_ns)
            worker->has_left = true;
    }
}

/* SUBTLE: every process that is left has an ancestor among our children. So if those are
 * trackers only, nobody else has an end of their pipes, and they may go on. */
static void let_trackers_end(struct ep_launcher_table *table, struct ep_outlet *outlet)
{
    for (size_t i = 0; i < table->count;) {
        struct ep_launcher_worker *worker = &table->workers[i];

        if (!worker->is_dead || worker->has_left) {
            i++;
        } else if (worker->has_tracker) {
            (void)kill(-worker->pid, SIGCONT);
            i++;
        } else {
            siginfo_t info;
            (void)kill(-worker->pid, SIGKILL);
            (void)waitid(P_PID, (id_t)worker->pid, &info, WEXITED | WNOHANG);
            read_rest(&worker->tail, outlet);
            ep_tail_finish(&worker->tail);
            ep_launcher_temp_drop(worker->id);
            if (worker->zygote >= 0)
                (void)close(worker->zygote);
            *worker = table->workers[--table->count];
        }
    }
}

bool ep_launcher_reap_sweep(struct ep_launcher_table *table, struct ep_outlet *outlet,
                            bool everybody)
{
    static char text[1 << 16];
    bool unsure = false;
    char *at = text, *end;
    size_t living = 0;
    pid_t remover = ep_launcher_temp_tend();

    for (size_t i = 0; i < table->count; i++) {
        table->workers[i].has_left = table->workers[i].has_tracker = false;
        living += !table->workers[i].is_dead;
    }
    /* What does not fit in one reading comes with the next SIGCHLD. */
    ssize_t size = read_file("/proc/thread-self/children", text, sizeof(text));
    for (; size > 0; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        if (pid > 1 && pid != remover && ep_launcher_table_find(table, pid) == NULL
            && waitpid(pid, NULL, WNOHANG) == 0)
            judge(table, pid, living, everybody, &unsure);
    }
    if (unsure)
        doubt_all(table);
    let_trackers_end(table, outlet);
    (void)ep_launcher_temp_tend();
    return unsure;
}

bool ep_launcher_reap_has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}
