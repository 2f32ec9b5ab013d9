/* clients/c/stats_view.h: statistics as people read them: a table that is drawn over itself, a
 * line, and the tables of one sequence.
 *
 * Words of the server are shown letter by letter: what is no letter, digit, _ or - becomes '?'.
 */
#ifndef QUIRE_CLIENTS_C_STATS_VIEW_H
#define QUIRE_CLIENTS_C_STATS_VIEW_H

#include "clients/c/answer_output.h"
#include "quire/v1/quire.pb-c.h"

/* Draws over the *n_lines lines that stand on the terminal; *n_lines is what stands there then.
 * These three return false when the output takes no more. */
bool stats_view_table(struct answer_output *output, const Quire__V1__Stats *stats, int *n_lines);
bool stats_view_line(struct answer_output *output, const Quire__V1__Stats *stats);
/* stats->sequence is there. */
bool stats_view_sequence(struct answer_output *output, const Quire__V1__Stats *stats);

#endif
