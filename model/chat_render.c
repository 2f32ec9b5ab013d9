#include "model/chat_render.h"

#include "base/status.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* --- pieces --- */

void chat_render_flush(struct chat_rendering *rendering)
{
    struct text_builder *pending = &rendering->pending;
    size_t n_done = 0;

    if (rendering->status == STATUS_OK && pending->status < 0)
        chat_render_refuse(rendering, pending->status, "the rendered text has more than %zu bytes",
                           pending->max);
    if (rendering->status == STATUS_OK && pending->len > 0) {
        rendering->encoder.parse_special =
            !rendering->is_body && !rendering->chat_template->shape->joins;
        rendering->encoder.wants_prefix = false; /* formats write their blanks themselves */
        rendering->status =
            text_encoder_advance(&rendering->encoder, text_builder_text(pending), true,
                                 rendering->n_bytes, rendering->out, &n_done, rendering->why);
        rendering->n_bytes += pending->len;
    }
    pending->len = 0;
}

static void add(struct chat_rendering *rendering, struct slice text, bool is_body)
{
    if (is_body != rendering->is_body && !rendering->chat_template->shape->joins)
        chat_render_flush(rendering);
    rendering->is_body = is_body;
    text_builder_add(&rendering->pending, text);
}

void chat_render_words(struct chat_rendering *rendering, const char *words)
{
    add(rendering, slice_from(words), false);
}

void chat_render_body(struct chat_rendering *rendering, struct slice text)
{
    add(rendering, text, true);
}

static void push(struct chat_rendering *rendering, uint32_t id, size_t n_bytes)
{
    chat_render_flush(rendering);
    if (rendering->status < 0)
        return;
    struct token_span span = {rendering->n_bytes, rendering->n_bytes + n_bytes};
    rendering->n_bytes += n_bytes;
    rendering->status = token_buffer_push(rendering->out, id, span, rendering->why);
}

void chat_render_mark(struct chat_rendering *rendering, const char *mark)
{
    uint32_t id;
    if (vocabulary_find_special(rendering->vocabulary, slice_from(mark), &id))
        push(rendering, id, strlen(mark));
    else
        chat_render_words(rendering, mark);
}

void chat_render_bos(struct chat_rendering *rendering)
{
    if (rendering->chat_template->begins_with_bos) /* no byte of the rendered text */
        push(rendering, (uint32_t)vocabulary_bos_id(rendering->vocabulary), 0);
}

void chat_render_eos(struct chat_rendering *rendering)
{
    int64_t id = vocabulary_eos_id(rendering->vocabulary);
    if (id >= 0)
        push(rendering, (uint32_t)id, 0);
}

void chat_render_built(struct chat_rendering *rendering, struct text_builder *body)
{
    if (body->status < 0)
        chat_render_refuse(rendering, body->status,
                           "the tools and calls of one turn take more than %zu bytes: send fewer, "
                           "or shorter ones",
                           body->max);
    chat_render_body(rendering, text_builder_text(body));
    text_builder_release(body);
}

int chat_render_refuse(struct chat_rendering *rendering, int status, const char *format, ...)
{
    char text[WHY_BYTES];
    va_list values;
    if (rendering->status < 0)
        return rendering->status;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    return rendering->status = refuse(rendering->why, status, "%s", text);
}

/* --- contents --- */

bool chat_render_is(const struct chat_message *message, const char *role)
{
    return slice_equal(message->role, slice_from(role));
}

static bool starts_with(struct slice text, const char *part)
{
    size_t len = strlen(part);
    return text.len >= len && memcmp(text.bytes, part, len) == 0;
}

/* White space as Python's str.strip sees it: the length of the one at the start of text, or 0. */
static size_t white_space_len(struct slice text)
{
    static const char *const wide[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                       "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                       "\xE2\x81\x9F", "\xE3\x80\x80"};
    if (text.len == 0)
        return 0;
    uint8_t byte = text.bytes[0];
    if ((byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 32))
        return 1;
    if (text.len >= 3 && byte == 0xE2 && text.bytes[1] == 0x80 && text.bytes[2] <= 0x8A)
        return 3; /* U+2000 to U+200A */
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        if (starts_with(text, wide[i]))
            return strlen(wide[i]);
    return 0;
}

struct slice chat_render_trimmed(struct slice text)
{
    for (size_t n = white_space_len(text); n > 0; n = white_space_len(text))
        text = slice_of(text.bytes + n, text.len - n);
    while (text.len > 0) {
        size_t n = 1;
        while (n < text.len && (text.bytes[text.len - n] & 0xC0) == 0x80)
            n++;
        if (white_space_len(slice_of(text.bytes + text.len - n, n)) != n)
            break;
        text.len -= n;
    }
    return text;
}

struct slice chat_render_content(const struct chat_rendering *rendering,
                                 const struct chat_message *message)
{
    const struct chat_template *of = rendering->chat_template;
    bool trims = of->trims || (of->trims_answers && chat_render_is(message, "assistant"));
    return trims ? chat_render_trimmed(message->content) : message->content;
}

struct slice chat_render_today(bool is_iso, char out[CHAT_DATE_BYTES])
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm day = {.tm_mday = 1};
    localtime_r(&now, &day);
    int n = is_iso ? snprintf(out, CHAT_DATE_BYTES, "%04d-%02d-%02d", day.tm_year + 1900,
                              day.tm_mon + 1, day.tm_mday)
                   : snprintf(out, CHAT_DATE_BYTES, "%02d %s %04d", day.tm_mday,
                              months[day.tm_mon % 12], day.tm_year + 1900);
    return slice_of(out, (size_t)n);
}
