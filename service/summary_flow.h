/* service/summary_flow.h: from held text to prompts in the engine: what is done next, and by whom.
 * Thread: the loop; the text itself is worked through on workers (summary_work.h).
 */
#ifndef QUIRE_SERVICE_SUMMARY_FLOW_H
#define QUIRE_SERVICE_SUMMARY_FLOW_H

#include "service/summary_state.h"

/* Measures the prompts; then the upload may come. */
int summary_flow_begin(struct summarize *state, struct why *why);
/* Begins the next piece of work, if there is one and the engine has room for its prompt. Call it
 * after every change. */
int summary_flow_advance(struct summarize *state, struct why *why);
/* Lets the peer send more when there is room for it. May end the call: touch it no more. */
void summary_flow_open_window(struct summarize *state);
/* The engine has no room: the run is sent again in a while. */
void summary_flow_retry(struct summarize *state, struct summary_run *run);

#endif
