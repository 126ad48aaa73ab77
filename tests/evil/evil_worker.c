/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_attack.h"
#include "evil_serve.h"

#include <string.h>

/*
 * evil_worker PYTHON MODULE_DIR: what the launcher starts instead of ep_worker for the tests of
 * tests/evil. It behaves until it is told to attack, and dies with the launcher like any worker.
 *
 * evil_worker --list: the names of the attacks.
 */

#define POLL_US 100

int main(int argc, char **argv)
{
    static struct evil_worker worker;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        evil_attack_list();
        return 0;
    }
    if (argc != 3)
        evil_die("started by ep_launcher only, or with --list");
    evil_open(&worker);
    evil_hello(&worker);
    for (;;) {
        if (!evil_serve(&worker))
            evil_pause_us(POLL_US);
    }
}
