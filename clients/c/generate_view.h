/* clients/c/generate_view.h: the events of Generate as `quire generate` shows them: the text of an
 * answer as it comes, of several answers one below the other, of tokens a line each; with --json a
 * line an event.
 */
#ifndef QUIRE_CLIENTS_C_GENERATE_VIEW_H
#define QUIRE_CLIENTS_C_GENERATE_VIEW_H

#include "clients/c/section_order.h"

struct client_run;

struct generate_view {
    struct client_run *client; /* borrowed */
    bool with_logprobs;
    bool finished; /* all answers */
    uint32_t n, n_finished;
    struct section_order order; /* of several answers: index is the choice */
};

/* client must outlive the view, which must stay where it is; release frees what waits. */
void generate_view_init(struct generate_view *view, struct client_run *client, uint32_t n,
                        bool with_logprobs);
void generate_view_release(struct generate_view *view);
/* One packed GenerateEvent; for on_message of client_run_call. False: the output takes no more, or
 * the bytes are none (client->status says so). */
bool generate_view_take(void *view, const void *bytes, size_t len);

#endif
