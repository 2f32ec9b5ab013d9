/* model/json_place.h: where in a JSON text something stands that a JSON pointer names.
 *
 *   {"a": [1, {"b~c": 2}]}      /a  at 1      /a/1  at 10      /a/1/b~0c  at 11
 *
 * Source: RFC 6901. No tree, no memory; one pass for each step. Thread: any.
 */
#ifndef QUIRE_MODEL_JSON_PLACE_H
#define QUIRE_MODEL_JSON_PLACE_H

#include "base/slice.h"

/* The first byte of the member (its name) or item, or of the nearest one around it that is found. A
 * name with escapes is found where the pointer spells it so. text: one value of valid JSON. */
size_t json_place(struct slice text, struct slice pointer);

#endif
