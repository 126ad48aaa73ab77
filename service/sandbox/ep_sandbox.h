/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SANDBOX_H
#define EP_SANDBOX_H

/*
 * ep_sandbox - takes from this process what Python code in it does not need.
 *
 * Called before there is another thread, and before any Python code: Landlock binds the calling
 * thread and what it starts. Nothing of it can be taken back, and children inherit all of it.
 *
 * Errors     none: what could not be done is in the report.
 * Threads    one.
 * Trust      the caller's arguments; nothing that Python code says.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ep_sandbox_level {
    EP_SANDBOX_NONE = 0,
    EP_SANDBOX_DEFAULT = 1,
    EP_SANDBOX_STRICT = 2,
};

/* What a level consists of. The order is that of the list in py_sandbox.erl. */
enum ep_sandbox_feature {
    EP_SANDBOX_NO_NEW_PRIVS = 1u << 0,
    EP_SANDBOX_CAPABILITIES = 1u << 1, /* those of an administrator are gone */
    EP_SANDBOX_SECCOMP = 1u << 2,      /* the system calls are filtered */
    EP_SANDBOX_TRACING = 1u << 3,      /* Landlock: only its own children can be looked into */
    EP_SANDBOX_SIGNALS = 1u << 4,      /* Landlock: only they can be signalled */
    EP_SANDBOX_FILES = 1u << 5,        /* Landlock: written to in one directory only */
};

struct ep_sandbox_report {
    enum ep_sandbox_level level;
    uint32_t in_force; /* enum ep_sandbox_feature */
    uint32_t missing;
};

#define EP_SANDBOX_WHY_SIZE 512

/* "none", "default" or "strict". Returns whether it is one of them. */
bool ep_sandbox_level_of(const char *name, enum ep_sandbox_level *ret_level);

/* temp: of STRICT, the directory that may be written in. */
void ep_sandbox_apply(enum ep_sandbox_level level, const char *temp,
                      struct ep_sandbox_report *ret_report);

/* In a process that was forked by one to which ep_sandbox_apply() was applied: sets it apart from
 * that one and its other children, too. report: of that one; it is brought up to date. */
void ep_sandbox_apply_again(struct ep_sandbox_report *report);

/* In one number, as HELLO has it: see ep_control.h. */
uint32_t ep_sandbox_word(const struct ep_sandbox_report *report);

/* Why STRICT is not in force, and what to do. */
void ep_sandbox_explain(const struct ep_sandbox_report *report, char *ret_why, size_t size);

#ifdef __cplusplus
}
#endif

#endif
