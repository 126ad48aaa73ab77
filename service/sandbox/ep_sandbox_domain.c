/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_sandbox_domain.h"

#include "ep_sandbox.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * What linux/landlock.h says, in the words of its newest version that is used here: the headers of
 * the system may be older than its kernel.
 */

#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_ANY (UINT64_C(0x7f) << 6) /* char, dir, reg, sock, fifo, block, sym */
#define FS_REFER (UINT64_C(1) << 13)      /* ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)   /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15)  /* ABI 5 */
#define FS_CHANGES                                                                                 \
    (FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_ANY | FS_REFER | FS_TRUNCATE         \
     | FS_IOCTL_DEV)

#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

struct ruleset {
    uint64_t handled_fs, handled_net, scoped;
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

int ep_sandbox_domain_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);

    return abi < 0 ? 0 : (int)abi;
}

static bool allow(int ruleset, const char *path, uint64_t rights)
{
    struct path_beneath rule = {.allowed = rights};

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return false;
    bool is_done = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0;
    (void)close(rule.parent_fd);
    return is_done;
}

/* Everybody writes there, and nothing stays. */
static bool allow_writing(int ruleset, const char *temp)
{
    return allow(ruleset, temp, FS_CHANGES)
           && allow(ruleset, "/dev/null", FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV);
}

uint32_t ep_sandbox_domain_enter(int abi, const char *temp)
{
    bool is_new = abi >= EP_SANDBOX_DOMAIN_ABI, is_confined = temp != NULL && is_new;
    struct ruleset rules = {0};

    /* One of ABI 1 cannot let files be moved from one directory to another. */
    if (abi < 2)
        return 0;
    if (is_confined)
        rules = (struct ruleset){.handled_fs = FS_CHANGES,
                                 .scoped = SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX_SOCKET};
    else if (is_new)
        rules.scoped = SCOPE_SIGNAL;
    else
        rules.handled_fs = FS_REFER; /* something has to be; all of it is allowed again */

    size_t size = is_new ? sizeof(rules) : offsetof(struct ruleset, handled_net);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return 0;
    bool is_done = true;
    if (is_confined)
        is_done = allow_writing(fd, temp);
    else if (!is_new)
        is_done = allow(fd, "/", FS_REFER);
    is_done = is_done && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    (void)close(fd);
    if (!is_done)
        return 0;
    return EP_SANDBOX_TRACING | (is_new ? EP_SANDBOX_SIGNALS : 0u)
           | (is_confined ? EP_SANDBOX_FILES : 0u);
}
