/* What any thread may ask of an engine: text, tokens, names. Thin over model/, all of it read-only
 * after load. */
#include "engine/engine_state.h"

#include "model/chat_calls.h"
#include "model/chat_family.h"
#include "model/chat_template.h"
#include "model/detok.h"
#include "model/grammar.h"
#include "model/model.h"
#include "model/token_buffer.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#define DETOKENIZED_BYTES_MAX (64u << 20)

void engine_model_info(const struct engine *engine, struct engine_model_info *out)
{
    *out = engine->info;
}

bool engine_weights_sha256(const struct engine *engine, char out[65])
{
    if (atomic_load_explicit(&engine->has_digest, memory_order_acquire) != 1)
        return false;
    memcpy(out, engine->digest_hex, sizeof engine->digest_hex);
    return true;
}

/* Hands the buffer's arrays to the caller. */
static int give(struct token_buffer *buffer, int status, uint32_t **ids, struct token_span **spans,
                size_t *n)
{
    if (status < 0) {
        token_buffer_release(buffer);
        return status;
    }
    *ids = buffer->ids;
    if (spans != NULL)
        *spans = buffer->spans;
    *n = buffer->n;
    return STATUS_OK;
}

int engine_tokenize(const struct engine *engine, struct slice text, int add_bos, bool parse_special,
                    size_t n_max, uint32_t **ids, struct token_span **spans, size_t *n,
                    struct why *why)
{
    const struct vocabulary *vocabulary = model_vocabulary(engine->model);
    int64_t bos = vocabulary_bos_id(vocabulary);
    struct token_buffer buffer;
    int status = STATUS_OK;

    token_buffer_init(&buffer, n_max, spans != NULL);
    if (add_bos == 1 && bos >= 0) /* asked for, whatever the file says */
        status = token_buffer_push(&buffer, (uint32_t)bos, (struct token_span){0, 0}, why);
    if (status == STATUS_OK)
        status = tokenizer_encode(vocabulary, text, add_bos < 0, parse_special, &buffer, why);
    return give(&buffer, status, ids, spans, n);
}

bool engine_says_byte(const struct engine *engine, uint8_t byte)
{
    return vocabulary_says_byte(model_vocabulary(engine->model), byte);
}

int engine_detokenize(const struct engine *engine, const uint32_t *ids, size_t n, bool special,
                      uint8_t **out, size_t *len, struct why *why)
{
    const struct vocabulary *vocabulary = model_vocabulary(engine->model);
    struct detok detok;
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= engine->info.vocabulary)
            return refuse(why, STATUS_INVALID,
                          "token id %u at position %zu is beyond the vocabulary of %u", ids[i], i,
                          engine->info.vocabulary);
        if (special || !vocabulary_is_control(vocabulary, ids[i]))
            bytes += vocabulary_bytes(vocabulary, ids[i]).len;
        if (bytes > DETOKENIZED_BYTES_MAX)
            return refuse(why, STATUS_TOO_LARGE,
                          "%zu tokens are more than %u bytes of text: send fewer at once", n,
                          DETOKENIZED_BYTES_MAX);
    }
    uint8_t *text = malloc(bytes + 1);
    if (text == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu bytes of text", bytes);
    *len = 0;
    detok_init(&detok, vocabulary, special, true);
    for (size_t i = 0; i < n; i++) {
        struct slice token = detok_bytes(&detok, ids[i]);
        if (token.len > 0)
            memcpy(text + *len, token.bytes, token.len);
        *len += token.len;
    }
    *out = text;
    return STATUS_OK;
}

struct slice engine_token_bytes(const struct engine *engine, uint32_t id)
{
    return id < engine->info.vocabulary ? vocabulary_bytes(model_vocabulary(engine->model), id)
                                        : slice_of(NULL, 0);
}

int engine_render_chat(const struct engine *engine, const struct chat *chat, size_t n_max,
                       uint32_t **ids, size_t *n_ids, struct why *why)
{
    const struct chat_template *chat_template = model_chat_template(engine->model);
    struct token_buffer buffer;

    if (chat_template == NULL)
        return refuse(why, STATUS_UNSUPPORTED, "%s", model_chat_refusal(engine->model));
    token_buffer_init(&buffer, n_max, false);
    int status = chat_template_render(chat_template, model_vocabulary(engine->model), chat, true,
                                      &buffer, why);
    return give(&buffer, status, ids, NULL, n_ids);
}

int engine_check_chat_format(const char *name, struct why *why)
{
    enum chat_family family;
    return name[0] == '\0' ? STATUS_OK : chat_family_named(slice_from(name), &family, why);
}

size_t engine_read_calls(const struct engine *engine, struct slice text, struct chat_call *calls,
                         size_t max)
{
    return chat_calls_read(engine->info.chat_tools, text, calls, max);
}

int engine_compile_grammar(const struct engine *engine, enum engine_grammar form,
                           struct slice text, struct grammar **out, struct why *why)
{
    bool is_schema = form == ENGINE_GRAMMAR_JSON_SCHEMA;
    int status = grammar_create(model_vocabulary(engine->model), model_token_trie(engine->model),
                                is_schema ? GRAMMAR_JSON_SCHEMA : GRAMMAR_GBNF, text, out, why);

    return status < 0 ? refuse_prefix(why, status, is_schema ? "json_schema" : "grammar") : status;
}

void engine_free_grammar(struct grammar *grammar)
{
    grammar_free(grammar);
}
