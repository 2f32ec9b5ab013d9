/* model/json_schema.h: a JSON schema as a grammar: every text of it is JSON that is valid under the
 * schema. Not every valid JSON is a text of it:
 *
 *   objects    members in the order of `properties`; others only where additionalProperties is
 *              given and not false, or where neither properties nor required names a member; names
 *              of others beside properties are spelled without escapes
 *   numbers    at most 16 digits, 16 behind the point, an exponent of 2; with bounds at most 6
 *              behind the point, as far as whole parts between the bounds go, and no exponent
 *   strings    of a pattern or format beside lengths some, not all (json_length.c)
 *   blanks     between tokens one blank, or a line's end and up to 20 blanks
 *
 * Keywords (models.md 8.5; draft 2020-12): type, enum, const, properties, required,
 * additionalProperties, propertyNames, minProperties, maxProperties, items, prefixItems, minItems,
 * maxItems, minLength, maxLength, pattern (json_pattern.h), minimum, maximum, exclusiveMinimum,
 * exclusiveMaximum, anyOf, oneOf of which at most one can hold, allOf of one, $ref within the
 * schema (a JSON pointer, %HH for a byte), $defs, definitions; format of strings, as far as
 * json_string.c knows it. Annotations (title, description, default, ...) and x-... say nothing.
 * Every other keyword is refused by its name.
 */
#ifndef QUIRE_MODEL_JSON_SCHEMA_H
#define QUIRE_MODEL_JSON_SCHEMA_H

#include "base/slice.h"

struct grammar_rules;
struct why;

/* Fills initialised rules, which point into `text`. STATUS_INVALID with line and column (in
 * characters, from 1): no JSON; what cannot be compiled, or has no value, with its JSON pointer
 * too; more than GRAMMAR_NESTING_MAX schemas in each other, a bound over GRAMMAR_REPEAT_MAX; and
 * what grammar_rules_why says. STATUS_NO_MEMORY. */
int json_schema_compile(struct slice text, struct grammar_rules *rules, struct why *why);

#endif
