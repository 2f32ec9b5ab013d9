/* model/json_pattern.h: a regular expression over the value of a string, as a grammar of how JSON
 * spells that value.
 *
 * Of ECMA 262: characters, . [class] [^class] \d \w \s and their inverses, \t \n \r \f \v \0 \xHH
 * \uHHHH and escaped marks, (group) (?:group), |, * + ? {m} {m,} {m,n} with or without a lazy ?,
 * ^ at the beginning and $ at the end of the whole or of an alternative at its top; without them
 * anything may come before, or behind. What looks around or back is refused by name. What \d \w \s
 * and their inverses write holds by ASCII and by Unicode, so for any validator.
 */
#ifndef QUIRE_MODEL_JSON_PATTERN_H
#define QUIRE_MODEL_JSON_PATTERN_H

#include "model/json_compile.h"

/* What stands between the quotes, of min to max characters (GRAMMAR_UNBOUNDED: any). Refuses at
 * "pattern" with the place in it; at `keyword`, where the pattern is from, if no text of such a
 * length is found. */
uint32_t json_pattern_expr(struct json_compile *c, const char *keyword, struct slice pattern,
                           uint32_t min, uint32_t max);

#endif
