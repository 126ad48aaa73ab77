/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_sandbox.h"

#include "ep_sandbox_capabilities.h"
#include "ep_sandbox_domain.h"
#include "ep_sandbox_filter.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define OF_DEFAULT                                                                                 \
    (EP_SANDBOX_NO_NEW_PRIVS | EP_SANDBOX_CAPABILITIES | EP_SANDBOX_SECCOMP | EP_SANDBOX_TRACING   \
     | EP_SANDBOX_SIGNALS)
#define OF_STRICT (OF_DEFAULT | EP_SANDBOX_FILES)

static const char *const levels[] = {"none", "default", "strict"};

bool ep_sandbox_level_of(const char *name, enum ep_sandbox_level *ret_level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(name, levels[i]) == 0) {
            *ret_level = (enum ep_sandbox_level)i;
            return true;
        }
    }
    return false;
}

static uint32_t wanted(enum ep_sandbox_level level)
{
    if (level == EP_SANDBOX_NONE)
        return 0;
    return level == EP_SANDBOX_STRICT ? OF_STRICT : OF_DEFAULT;
}

static void enter_domain(struct ep_sandbox_report *report, const char *temp)
{
    report->in_force |= ep_sandbox_domain_enter(ep_sandbox_domain_abi(), temp);
}

/* In this order: the bounding set can be changed by who has a capability for it, Landlock and the
 * filter by who cannot get new privileges, and the filter comes last because it could refuse the
 * rest. */
void ep_sandbox_apply(enum ep_sandbox_level level, const char *temp,
                      struct ep_sandbox_report *ret_report)
{
    struct ep_sandbox_report report = {.level = level};
    bool is_strict = level == EP_SANDBOX_STRICT;

    if (level != EP_SANDBOX_NONE) {
        if (ep_sandbox_capabilities_drop(is_strict) == 0)
            report.in_force |= EP_SANDBOX_CAPABILITIES;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
            report.in_force |= EP_SANDBOX_NO_NEW_PRIVS;
        enter_domain(&report, is_strict ? temp : NULL);
        if (ep_sandbox_filter_load(is_strict) == 0)
            report.in_force |= EP_SANDBOX_SECCOMP;
    }
    report.missing = wanted(level) & ~report.in_force;
    *ret_report = report;
}

void ep_sandbox_apply_again(struct ep_sandbox_report *report)
{
    if (report->level != EP_SANDBOX_DEFAULT)
        return;
    report->in_force &= ~(uint32_t)(EP_SANDBOX_TRACING | EP_SANDBOX_SIGNALS);
    enter_domain(report, NULL);
    report->missing = wanted(report->level) & ~report->in_force;
}

uint32_t ep_sandbox_word(const struct ep_sandbox_report *report)
{
    return (uint32_t)report->level | report->in_force << 8 | report->missing << 16;
}

void ep_sandbox_explain(const struct ep_sandbox_report *report, char *ret_why, size_t size)
{
    const uint32_t landlock = EP_SANDBOX_TRACING | EP_SANDBOX_SIGNALS | EP_SANDBOX_FILES;
    char lack[256];

    if ((report->missing & landlock) != 0)
        (void)snprintf(lack, sizeof(lack),
                       "it needs Landlock ABI %d (Linux 6.12), and this kernel, or the seccomp "
                       "profile of this container, offers %d",
                       EP_SANDBOX_DOMAIN_ABI, ep_sandbox_domain_abi());
    else if ((report->missing & EP_SANDBOX_SECCOMP) != 0)
        (void)snprintf(lack, sizeof(lack), "the kernel takes no seccomp filter");
    else
        (void)snprintf(lack, sizeof(lack), "capabilities or no_new_privs cannot be set");
    (void)snprintf(
        ret_why, size,
        "the sandbox level strict cannot be enforced here: %s; run it on a newer kernel, "
        "let the container use landlock_* and seccomp, or set sandbox to default",
        lack);
}
