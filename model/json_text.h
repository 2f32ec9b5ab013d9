/* model/json_text.h: JSON that others wrote, checked and spaced as chat templates write it.
 *
 *   {"a":[1,2]}  -->  {"a": [1, 2]}           indent 0: Python's json.dumps
 *   {"a":[1,2]}  -->  {\n    "a": [\n ...     indent 4: json.dumps(indent=4)
 *
 * Numbers stay byte for byte what they were, and strings what they say: characters are written as
 * such, \u00e9 and \/ too, and what JSON must escape as Python does, in its shortest form.
 * Source: RFC 8259. One pass, no tree; nesting up to CHAT_JSON_DEPTH_MAX, and a
 * little more of what was wrapped here. Thread: any.
 */
#ifndef QUIRE_MODEL_JSON_TEXT_H
#define QUIRE_MODEL_JSON_TEXT_H

#include "base/slice.h"

#include <stdbool.h>

struct text_builder;
struct why;

/* Appends the one value that text holds (valid UTF-8). STATUS_INVALID with the offset of what is
 * wrong; what the builder lacks stays in its status. */
int json_text_format(struct slice text, unsigned indent, struct text_builder *out,
                     struct why *why);
/* The same for an object alone. */
int json_text_format_object(struct slice text, unsigned indent, struct text_builder *out,
                            struct why *why);
/* The length of the JSON value that text begins with, white space before it included; 0: none. */
size_t json_text_measure(struct slice text);
/* The value of an object's member, as it stands there. False: no such member, or no object. */
bool json_text_member(struct slice object, const char *key, struct slice *value);
/* Appends text as a JSON string with its quotes. */
void json_text_quote(struct slice text, struct text_builder *out);

#endif
