/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_attack.h"

#include <stdio.h>
#include <string.h>

static const struct evil_attack *const tables[] = {
    evil_message_attacks, evil_word_attacks,   evil_flood_attacks,   evil_term_attacks,
    evil_fd_attacks,      evil_death_attacks,  evil_mutator_attacks, evil_letter_attacks,
    evil_array_attacks,   evil_object_attacks,
};

#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

const struct evil_attack *evil_attack_find(const char *name, size_t length)
{
    for (size_t i = 0; i < N_TABLES; i++)
        for (const struct evil_attack *attack = tables[i]; attack->name != NULL; attack++)
            if (strlen(attack->name) == length && memcmp(attack->name, name, length) == 0)
                return attack;
    return NULL;
}

void evil_attack_list(void)
{
    for (size_t i = 0; i < N_TABLES; i++)
        for (const struct evil_attack *attack = tables[i]; attack->name != NULL; attack++)
            (void)puts(attack->name);
}
