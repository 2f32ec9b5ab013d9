/* service/sections.h: where a document may be cut.
 *
 *   text   |........................|----------------------|.............
 *          0                     limit/2                 limit          len
 *                              '- the last best cut of these: behind a blank line, else a line,
 *                                 else a sentence, else a word, else a character
 *
 * A cut never parts a character, nor the bytes that one U+FFFD stands for; so sections repaired one
 * by one are the document repaired whole. Nothing is left out at a cut: blanks stay with what they
 * follow. Pure functions of their arguments.
 */
#ifndef QUIRE_SERVICE_SECTIONS_H
#define QUIRE_SERVICE_SECTIONS_H

#include "base/slice.h"

/* Bytes of the first section of text: text.len when that is at most limit; else 1 to limit, and
 * more only when the first character alone is longer. Text may be invalid UTF-8; text.len > 0. */
size_t sections_cut(struct slice text, size_t limit);

/* The byte of text that stands at byte `repaired` of utf8_repair's output, rounded down to the
 * begin of a character. */
size_t sections_unrepaired(struct slice text, size_t repaired);

#endif
