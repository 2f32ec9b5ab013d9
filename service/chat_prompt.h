/* service/chat_prompt.h: a chat as token ids, the oldest of its messages left out where the request
 * wants that and the rest would not fit.
 *
 *   [system] user assistant | user assistant user      the cut stands before a message of the user
 *            '-- left out -'
 *
 * Thread: a worker.
 */
#ifndef QUIRE_SERVICE_CHAT_PROMPT_H
#define QUIRE_SERVICE_CHAT_PROMPT_H

#include "engine/engine.h"
#include "service/wire.h"

/* Tokens that the prompt of this request may have when it is truncated: what max_tokens leaves, or
 * CHAT_RESERVE_TOKENS (a quarter of a small context) when it gives none. */
uint32_t chat_prompt_room(const struct wire_generate *request, uint32_t context);

/* ids malloc'ed. With room > 0 as few messages as need be are left out, and *cut tells what that
 * was; a last question that is too long by itself is rendered as it is, for admission to refuse.
 * STATUS_* of engine_render_chat. */
int chat_prompt_render(const struct engine *engine, const struct chat *chat, size_t n_max,
                       uint32_t room, uint32_t **ids, size_t *n_ids, struct chat_cut *cut,
                       struct why *why);

#endif
