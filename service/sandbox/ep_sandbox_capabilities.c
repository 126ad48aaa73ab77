/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_sandbox_capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of some systems. */
#define PERFMON 38
#define BPF 39
#define CHECKPOINT_RESTORE 40

#define BIT(n) (UINT64_C(1) << (n))

/* What Docker does not give to containers, either, but for SYS_NICE, SYS_RESOURCE, IPC_LOCK and
 * the like, which programs ask for that compute; and MKNOD, SYS_CHROOT, SETPCAP and SETFCAP. */
static const uint64_t of_administrators =
    BIT(CAP_SETPCAP) | BIT(CAP_LINUX_IMMUTABLE) | BIT(CAP_NET_ADMIN) | BIT(CAP_SYS_MODULE)
    | BIT(CAP_SYS_RAWIO) | BIT(CAP_SYS_CHROOT) | BIT(CAP_SYS_PTRACE) | BIT(CAP_SYS_PACCT)
    | BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_BOOT) | BIT(CAP_SYS_TIME) | BIT(CAP_SYS_TTY_CONFIG)
    | BIT(CAP_MKNOD) | BIT(CAP_AUDIT_CONTROL) | BIT(CAP_SETFCAP) | BIT(CAP_MAC_OVERRIDE)
    | BIT(CAP_MAC_ADMIN) | BIT(CAP_SYSLOG) | BIT(CAP_WAKE_ALARM) | BIT(CAP_BLOCK_SUSPEND)
    | BIT(CAP_AUDIT_READ) | BIT(PERFMON) | BIT(BPF) | BIT(CHECKPOINT_RESTORE);

int ep_sandbox_capabilities_drop(bool everything)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    /* Who keeps these two reads what it could read before. */
    uint64_t drop =
        everything ? ~(BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH)) : of_administrators;
    int rc = 0;

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    uint64_t has = data[0].permitted | (uint64_t)data[1].permitted << 32;
    if (has == 0)
        return 0; /* nor can it get any: no_new_privs */
    /* One that the kernel does not know is EINVAL. */
    for (int n = 0; n < 64; n++) {
        if ((drop & BIT(n)) != 0 && prctl(PR_CAPBSET_READ, n, 0, 0, 0) == 1
            && prctl(PR_CAPBSET_DROP, n, 0, 0, 0) < 0)
            rc = -errno; /* without the capability for it, which no_new_privs makes up for */
    }
    for (size_t i = 0; i < 2; i++) {
        uint32_t keep = (uint32_t) ~(drop >> (32 * i));
        data[i].permitted &= keep;
        data[i].effective &= keep;
        data[i].inheritable &= keep;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return -errno;
    return rc == -EPERM ? 0 : rc;
}
