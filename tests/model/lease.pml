/* SPDX-License-Identifier: Apache-2.0
 *
 * lease.pml - items of a channel that a worker reads ahead (transport/ep_lease.h): ROUNDS grants of
 * ITEMS items, a worker that reads them one by one and may die before any of its steps, and a VM
 * that takes back what was not read at any moment. Each step touches shared memory once; the
 * memory is sequentially consistent, which is what L1-L2 ask for.
 *
 * Checked: each item is read or comes back, and never both; but for the one that a worker had
 * claimed when it died, which may be lost, as one that was read and not used.
 *
 * -D selects a mutant, which must fail; run.sh has the list:
 *   CLAIM_LATE   the worker looks at the limit before it claims
 *   NO_LOOK      it does not look
 *   COUNT_EARLY  the VM loads the count before it holds the worker
 *   NO_HOLD      it does not hold the worker
 *   NO_VERDICT   a worker that is held takes the item for lost
 *   OLD_POSITION the next grant begins where the VM has counted to, not where the worker is
 */
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define HELD 255

byte limit, claimed; /* in A and in B */

byte position, granted;   /* what the VM sends, and when: granted counts */
bit asked;                /* the worker wants items */
byte base;                /* ... from there on */
bit dead;

/* By their number in this round: an item that comes back is another one in the next. */
bit read_[ITEMS], back[ITEMS];
byte ended, taken; /* rounds that the VM, the worker is done with */

active proctype worker()
{
    byte at = 0, i, value, round;

    {
    for (round : 1 .. ROUNDS) {
        base = at;
        asked = 1;
        granted == round;
        i = 0;
        do
        :: i < ITEMS ->
#ifdef CLAIM_LATE
            value = limit;
            claimed = at + 1;
#else
            claimed = at + 1;
#ifdef NO_LOOK
            value = at + 1;
#else
            value = limit;
#endif
#endif
#ifdef NO_VERDICT
            if
            :: value == HELD -> value = 0
            :: else
            fi;
#else
            do
            :: value == HELD -> value = limit
            :: else -> break
            od;
#endif
            at++;
            if
            :: at <= value -> read_[i] = 1; i++
            :: else -> break
            fi
        :: else -> break
        od;
        taken = round;
        ended == round
    }
    dead = 1
    } unless { dead }
}

/* Kills the worker at any moment, or never. */
active proctype killer()
{
    if
    :: dead = 1
    :: skip
    fi
}

active proctype vm()
{
    byte round, count, i, lost;

    for (round : 1 .. ROUNDS) {
        if
        :: asked -> asked = 0
        :: dead && !asked -> goto out
        fi;
#ifdef OLD_POSITION
        if
        :: round == 1 -> position = base
        :: else -> position = position + count
        fi;
#else
        position = base;
#endif
        limit = position + ITEMS;
        granted = round;
        /* Now, or at any later moment. */
#ifdef COUNT_EARLY
        count = claimed - position;
        limit = HELD;
#else
#ifndef NO_HOLD
        limit = HELD;
#endif
        count = claimed - position;
#endif
        if
        :: count > ITEMS -> count = ITEMS
        :: else
        fi;
        limit = position + count;
        for (i : 0 .. ITEMS - 1) {
            back[i] = (i >= count -> 1 : 0)
        }
        (taken == round || dead);
        for (i : 0 .. ITEMS - 1) {
            assert(!(read_[i] && back[i]));
            /* A worker that lives has read what did not come back. */
            if
            :: read_[i] || back[i]
            :: else -> lost++
            fi;
            read_[i] = 0;
            back[i] = 0
        }
        assert(lost == 0 || (dead && lost == 1));
        ended = round
    }
out:
    skip
}
