/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_temp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 *   $TMPDIR/.erlang_python-Xa81bQ/    of this launcher, locked
 *       17/                           of worker 17
 *       gone-16/                      of worker 16, to be removed
 */

#define PREFIX ".erlang_python-"
#define GONE "gone-"
/* Processes that belonged to a launcher that was killed may still be ending. */
#define ROUNDS 100
#define PAUSE_NS 20000000
#define TRIES 3
#define FDS_OF_OLD 65536 /* where the kernel has no close_range() */

static char base[PATH_MAX]; /* "": not made */
static int base_fd = -1;    /* holds the lock */
static int base_error;
static bool has_gone, has_stale;
static pid_t remover;

/* --- removing, in a process of its own --------------------------------------------------- */

/* Also what can be neither read, nor entered, nor changed. */
static int open_directory(int parent, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

    int fd = openat(parent, name, flags);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0)
        fd = openat(parent, name, flags);
    if (fd >= 0)
        (void)fchmod(fd, 0700);
    return fd;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static unsigned long achieved; /* removed or moved so far */

static bool remove_one(int dir, const char *name)
{
    bool is_gone = unlinkat(dir, name, 0) == 0 || unlinkat(dir, name, AT_REMOVEDIR) == 0;

    achieved += is_gone;
    return is_gone || errno == ENOENT;
}

/* Removes a directory; what directories it holds that are not empty go to the root, so that it
 * takes neither stack nor descriptors to remove deep ones. */
static void flatten(int root, const char *name)
{
    static unsigned long number;
    char path[32];

    int fd = open_directory(root, name);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (is_dots(entry->d_name) || remove_one(fd, entry->d_name))
            continue;
        (void)snprintf(path, sizeof(path), GONE "d%lu", number++);
        int inner = open_directory(fd, entry->d_name);
        if (inner >= 0)
            (void)close(inner);
        achieved += renameat(fd, entry->d_name, root, path) == 0;
    }
    (void)closedir(dir);
    (void)remove_one(root, name);
}

/* Removes what lies in a directory; all of it, or what its launcher has given up. Returns whether
 * something is left of that. */
static bool empty_once(const char *path, bool all)
{
    bool is_left = false;

    int root = open_directory(AT_FDCWD, path);
    DIR *dir = root < 0 ? NULL : fdopendir(root);
    if (dir == NULL) {
        if (root >= 0)
            (void)close(root);
        return false;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (is_dots(entry->d_name) || (!all && strncmp(entry->d_name, GONE, sizeof(GONE) - 1) != 0)
            || remove_one(root, entry->d_name))
            continue;
        flatten(root, entry->d_name);
        is_left = true;
    }
    (void)closedir(dir);
    return is_left;
}

/* A round for each level at most. One that achieves nothing is waited for: somebody may be about to
 * end. */
static void empty(const char *path, bool all)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    for (unsigned idle = 0; idle < ROUNDS;) {
        unsigned long before = achieved;
        if (!empty_once(path, all))
            return;
        if (achieved != before)
            continue;
        (void)nanosleep(&pause, NULL);
        idle++;
    }
}

/* What a launcher puts there: 17, gone-17. */
static bool is_entry(const char *name)
{
    return strncmp(name, GONE, sizeof(GONE) - 1) == 0 || name[strspn(name, "0123456789")] == '\0';
}

/* Whether nothing lies there but what a launcher makes. Somebody else may have chosen the name. */
static bool has_only_entries(int fd)
{
    bool has_others = false;

    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        (void)close(fd);
        return false;
    }
    for (const struct dirent *entry; !has_others && (entry = readdir(dir)) != NULL;)
        has_others = !is_dots(entry->d_name) && !is_entry(entry->d_name);
    (void)closedir(dir);
    return !has_others;
}

/* Whether it is a directory of a launcher of this user that has ended. */
static bool is_stale(const char *path)
{
    struct stat stat;

    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fstat(fd, &stat) == 0 && stat.st_uid == geteuid() && (stat.st_mode & 07777) == 0700
        && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return has_only_entries(fd);
    (void)close(fd);
    return false;
}

static void remove_stale(void)
{
    char path[PATH_MAX];

    DIR *dir = opendir(ep_launcher_temp_parent());
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) != 0)
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", ep_launcher_temp_parent(), entry->d_name);
        if (n < 0 || (size_t)n >= sizeof(path) || !is_stale(path))
            continue;
        empty(path, true);
        (void)rmdir(path);
    }
    (void)closedir(dir);
}

/* It may take longer than the launcher lives, and must keep nobody waiting for the ends of its
 * pipes; the lock goes with them, so that another launcher may help. */
static _Noreturn void run_remover(pid_t launcher, bool stale)
{
    if (syscall(SYS_close_range, 0u, ~0u, 0) < 0) {
        for (int fd = 0; fd < FDS_OF_OLD; fd++)
            (void)close(fd);
    }
    if (base[0] != '\0')
        empty(base, false);
    if (stale)
        remove_stale();
    if (base[0] != '\0' && getppid() != launcher)
        (void)rmdir(base);
    _exit(0);
}

pid_t ep_launcher_temp_tend(void)
{
    if (remover != 0 && waitpid(remover, NULL, WNOHANG) != 0)
        remover = 0;
    if (remover != 0 || !(has_gone || has_stale))
        return remover;
    pid_t launcher = getpid();
    pid_t pid = fork();
    if (pid == 0)
        run_remover(launcher, has_stale);
    if (pid > 0) {
        remover = pid;
        has_gone = has_stale = false;
    }
    return remover;
}

void ep_launcher_temp_sweep(void)
{
    DIR *dir = opendir(ep_launcher_temp_parent());

    if (dir == NULL)
        return;
    for (const struct dirent *entry; !has_stale && (entry = readdir(dir)) != NULL;)
        has_stale = strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0;
    (void)closedir(dir);
    (void)ep_launcher_temp_tend();
}

/* --- making ------------------------------------------------------------------------------ */

const char *ep_launcher_temp_parent(void)
{
    const char *parent = getenv("TMPDIR");

    return parent != NULL && parent[0] == '/' ? parent : "/tmp";
}

/* SUBTLE: between its making and its locking another launcher may take it for one that was left
 * behind. So it counts only if it is still there when it is locked. */
static int make_base(void)
{
    struct stat made, there;

    int n = snprintf(base, sizeof(base), "%s/" PREFIX "XXXXXX", ep_launcher_temp_parent());
    if (n < 0 || (size_t)n >= sizeof(base) - 32)
        return -ENAMETOOLONG;
    if (mkdtemp(base) == NULL)
        return -errno;
    base_fd = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (base_fd >= 0 && flock(base_fd, LOCK_EX | LOCK_NB) == 0 && fstat(base_fd, &made) == 0
        && stat(base, &there) == 0 && made.st_ino == there.st_ino)
        return 0;
    if (base_fd >= 0)
        (void)close(base_fd);
    base_fd = -1;
    return -EAGAIN;
}

void ep_launcher_temp_prepare(void)
{
    if (base_fd >= 0)
        return;
    base_error = -EAGAIN;
    for (int i = 0; i < TRIES && base_error == -EAGAIN; i++)
        base_error = make_base();
    if (base_error != 0)
        base[0] = '\0';
}

int ep_launcher_temp_make(uint64_t worker_id, char *ret_path, size_t size)
{
    if (base[0] == '\0')
        return base_error == 0 ? -ENOENT : base_error;
    int n = snprintf(ret_path, size, "%s/%llu", base, (unsigned long long)worker_id);
    if (n < 0 || (size_t)n >= size)
        return -ENAMETOOLONG;
    return mkdir(ret_path, 0700) < 0 ? -errno : 0;
}

void ep_launcher_temp_drop(uint64_t worker_id)
{
    char from[32], to[48];

    if (base_fd < 0)
        return;
    (void)snprintf(from, sizeof(from), "%llu", (unsigned long long)worker_id);
    (void)snprintf(to, sizeof(to), GONE "%llu", (unsigned long long)worker_id);
    if (renameat(base_fd, from, base_fd, to) == 0)
        has_gone = true;
}

void ep_launcher_temp_finish(void)
{
    (void)ep_launcher_temp_tend();
    if (base[0] != '\0')
        (void)rmdir(base);
}
