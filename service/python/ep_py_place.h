/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_PLACE_H
#define EP_PY_PLACE_H

/*
 * ep_py_place - where in a value a conversion failed.
 */

#include "ep_python.h"

#define EP_PY_PLACE_STEPS 8

/* Built backwards while an error unwinds: the text is [start, end of buffer), of the outermost
 * steps only. */
struct ep_py_place {
    uint16_t start;
    bool is_closed; /* the path would say nothing: too deep */
    bool is_cut;    /* there are more steps inside */
    uint8_t n_steps;
    uint8_t sizes[EP_PY_PLACE_STEPS]; /* of each step, from inside */
    char text[640];
};

static inline void ep_py_place_clear(struct ep_py_place *place)
{
    place->start = sizeof(place->text);
    place->is_closed = place->is_cut = false;
    place->n_steps = 0;
}

/* "[0]['k']" or "[0][1]...": new, or NULL with an exception set. */
PyObject *ep_py_place_path(const struct ep_py_place *place);
void ep_py_place_index(struct ep_py_place *place, size_t index);
void ep_py_place_key(struct ep_py_place *place, PyObject *key);

#endif
