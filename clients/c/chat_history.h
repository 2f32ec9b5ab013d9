/* clients/c/chat_history.h: a conversation as it grows, and as the request of its next turn. Owns
 * all text. Thread: one. */
#ifndef QUIRE_CLIENTS_C_CHAT_HISTORY_H
#define QUIRE_CLIENTS_C_CHAT_HISTORY_H

#include "quire/v1/quire.pb-c.h"

#include <stdbool.h>

struct chat_history {
    Quire__V1__Message *messages;       /* [n] */
    Quire__V1__Message **list;          /* [n], of a Chat */
    size_t n, cap;
};

/* A message of that role; false when memory is out. */
bool chat_history_add(struct chat_history *history, const char *role, const void *text, size_t len);
/* More text of the last message. */
bool chat_history_extend(struct chat_history *history, const void *text, size_t len);
void chat_history_drop(struct chat_history *history, size_t n_kept); /* what came after these */
void chat_history_release(struct chat_history *history);
size_t chat_history_last_bytes(const struct chat_history *history);

#endif
