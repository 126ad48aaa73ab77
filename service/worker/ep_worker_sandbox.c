/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker_sandbox.h"

#include "ep_control.h"
#include "ep_sandbox.h"
#include "ep_worker.h"

#include <stdlib.h>

static struct ep_sandbox_report report;

void ep_worker_sandbox_enter(const char *level, const char *temp)
{
    enum ep_sandbox_level asked;
    char why[EP_SANDBOX_WHY_SIZE];

    if (!ep_sandbox_level_of(level, &asked))
        ep_worker_die(EP_EXIT_CANNOT_START, "started with an unknown level of the sandbox");
    ep_sandbox_apply(asked, temp, &report);
    if (asked != EP_SANDBOX_STRICT)
        return;
    if (report.missing != 0) {
        ep_sandbox_explain(&report, why, sizeof(why));
        ep_worker_die(EP_EXIT_CANNOT_START, why);
    }
    if (setenv("TMPDIR", temp, 1) != 0)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory");
}

void ep_worker_sandbox_enter_again(void)
{
    ep_sandbox_apply_again(&report);
}

uint32_t ep_worker_sandbox_word(void)
{
    return ep_sandbox_word(&report);
}
