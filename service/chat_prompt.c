#include "service/chat_prompt.h"

#include "limits.h"

#include <stdlib.h>

uint32_t chat_prompt_room(const struct wire_generate *request, uint32_t context)
{
    uint32_t reserve = context / 4 < CHAT_RESERVE_TOKENS ? context / 4 : CHAT_RESERVE_TOKENS;
    if (request->has_max_tokens)
        reserve = request->max_tokens;
    return reserve < context ? context - reserve : 1;
}

static bool is_role(const struct chat_message *message, const char *role)
{
    return slice_equal(message->role, slice_from(role));
}

/* The conversation from message `first` on, behind the system's. */
static int render_from(const struct engine *engine, const struct chat *chat, size_t first,
                       size_t n_max, uint32_t **ids, size_t *n_ids, struct why *why)
{
    size_t n_kept = is_role(&chat->messages[0], "system") ? 1 : 0;
    struct chat part = *chat;
    struct chat_message *messages = malloc(chat->n_messages * sizeof *messages);

    if (messages == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu messages", chat->n_messages);
    memcpy(messages, chat->messages, n_kept * sizeof *messages);
    memcpy(messages + n_kept, chat->messages + first,
           (chat->n_messages - first) * sizeof *messages);
    part.messages = messages;
    part.n_messages = n_kept + chat->n_messages - first;
    int status = engine_render_chat(engine, &part, n_max, ids, n_ids, why);
    free(messages);
    return status;
}

/* Places where a cut may be: the user's messages but for the first. Returns how many; places may
 * hold as many as there are messages. */
static size_t find_places(const struct chat *chat, size_t *places)
{
    size_t n = 0;
    bool is_first = true;
    for (size_t i = 0; i < chat->n_messages; i++)
        if (is_role(&chat->messages[i], "user")) {
            if (!is_first)
                places[n++] = i;
            is_first = false;
        }
    return n;
}

/* Between places [low, high): the first whose rest fits, else the last. */
static int cut_oldest(const struct engine *engine, const struct chat *chat, const size_t *places,
                      size_t n_places, size_t n_max, uint32_t room, uint32_t **ids, size_t *n_ids,
                      size_t *first, struct why *why)
{
    size_t low = 0, high = n_places - 1;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int status = render_from(engine, chat, places[middle], n_max, ids, n_ids, why);
        if (status < 0)
            return status;
        free(*ids);
        *ids = NULL;
        if (*n_ids <= room)
            high = middle;
        else
            low = middle + 1;
    }
    *first = places[low];
    return render_from(engine, chat, *first, n_max, ids, n_ids, why);
}

int chat_prompt_render(const struct engine *engine, const struct chat *chat, size_t n_max,
                       uint32_t room, uint32_t **ids, size_t *n_ids, struct chat_cut *cut,
                       struct why *why)
{
    size_t n_kept = is_role(&chat->messages[0], "system") ? 1 : 0, first;

    *cut = (struct chat_cut){0};
    int status = engine_render_chat(engine, chat, n_max, ids, n_ids, why);
    if (status < 0 || room == 0 || *n_ids <= room)
        return status;
    size_t *places = malloc(chat->n_messages * sizeof *places), n_whole = *n_ids;
    size_t n_places = places != NULL ? find_places(chat, places) : 0;
    if (n_places > 0) {
        free(*ids);
        *ids = NULL;
        status = cut_oldest(engine, chat, places, n_places, n_max, room, ids, n_ids, &first, why);
        if (status == STATUS_OK)
            *cut = (struct chat_cut){(uint32_t)(n_whole - *n_ids), (uint32_t)(first - n_kept)};
    }
    free(places);
    return status;
}
