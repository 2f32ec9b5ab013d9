#include "clients/c/chat_history.h"

#include "clients/c/message_codec.h"

#include <stdlib.h>
#include <string.h>

static bool make_room(struct chat_history *history)
{
    if (history->n < history->cap)
        return true;
    size_t cap = history->cap == 0 ? 16 : 2 * history->cap;
    Quire__V1__Message *messages = realloc(history->messages, cap * sizeof *messages);
    if (messages == NULL)
        return false;
    history->messages = messages;
    Quire__V1__Message **list = realloc(history->list, cap * sizeof *list);
    if (list == NULL)
        return false;
    history->list = list;
    history->cap = cap;
    return true;
}

bool chat_history_add(struct chat_history *history, const char *role, const void *text, size_t len)
{
    if (!make_room(history))
        return false;
    Quire__V1__Message *message = &history->messages[history->n++];
    quire__v1__message__init(message);
    message->role = message_codec_text(role);
    message->content = message_codec_bytes(NULL, 0);
    for (size_t i = 0; i < history->n; i++) /* they may have moved */
        history->list[i] = &history->messages[i];
    if (chat_history_extend(history, text, len))
        return true;
    history->n--;
    return false;
}

bool chat_history_extend(struct chat_history *history, const void *text, size_t len)
{
    ProtobufCBinaryData *content = &history->messages[history->n - 1].content;
    if (len == 0)
        return true;
    uint8_t *bytes = realloc(content->len > 0 ? content->data : NULL, content->len + len);
    if (bytes == NULL)
        return false;
    memcpy(bytes + content->len, text, len);
    *content = message_codec_bytes(bytes, content->len + len);
    return true;
}

void chat_history_drop(struct chat_history *history, size_t n_kept)
{
    while (history->n > n_kept) {
        ProtobufCBinaryData *content = &history->messages[--history->n].content;
        if (content->len > 0)
            free(content->data);
    }
}

void chat_history_release(struct chat_history *history)
{
    chat_history_drop(history, 0);
    free(history->messages);
    free(history->list);
    *history = (struct chat_history){.n = 0};
}

size_t chat_history_last_bytes(const struct chat_history *history)
{
    return history->n > 0 ? history->messages[history->n - 1].content.len : 0;
}
