/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_mark.h"

#include <stdlib.h>
#include <string.h>

pid_t ep_launcher_mark_in(const char *environ, size_t size)
{
    static const char name[] = "\0" EP_LAUNCHER_MARK "=";

    const char *at = memmem(environ, size, name, sizeof(name) - 1);
    return at == NULL ? 0 : (pid_t)strtol(at + sizeof(name) - 1, NULL, 10);
}
