/* model/gbnf.h: grammars as people write them for llama.cpp, read into rules.
 *
 *   # a comment
 *   root  ::= "[" item ("," ws item){0,9} "]"
 *   item  ::= [0-9]+ | "\"" [^"\\\x00-\x1f]* "\""
 *   ws    ::= " "?
 *
 * Terms: "literal", [class], [^others], . (any character), (group), a rule's name of letters,
 * digits, - and _; each with * + ? {m} {m,} {m,n}, blanks between or not; alternatives by |.
 * Escapes: \n \r \t \\ \" \[ \] \- \^, \xHH, \uHHHH, \UHHHHHHHH; each is one character,
 * \xe9 an é as in llama.cpp, never a byte. A rule ends with its line, except inside a group and
 * behind ::= or |. The root is the rule "root".
 */
#ifndef QUIRE_MODEL_GBNF_H
#define QUIRE_MODEL_GBNF_H

#include "base/slice.h"
#include "model/grammar_rules.h"

/* Fills initialised rules, whose names point into `text`. STATUS_INVALID with line and column (in
 * characters, from 1): not UTF-8, not of this form, a rule that is missing or defined twice, more
 * than GRAMMAR_NESTING_MAX groups in each other, a bound over GRAMMAR_REPEAT_MAX; and what
 * grammar_rules_why says. STATUS_NO_MEMORY. */
int gbnf_parse(struct slice text, struct grammar_rules *rules, struct why *why);

#endif
