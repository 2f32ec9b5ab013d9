#include "service/wire.h"
#include "service/wire_memory.h"
#include "service/wire_request.h"

#include "limits.h"

#define TEMPERATURE_MAX 100.0
#define REPETITION_MIN 0.01f /* what a float field can say */
#define REPETITION_MAX 100.0
#define TYPICAL_MIN 1e-6f /* the same */
#define PENALTY_MAX 2.0 /* of frequency and presence, either way */

static bool has_bias(const struct sampling *sampling, uint32_t id)
{
    for (uint32_t i = 0; i < sampling->n_biases; i++)
        if (sampling->biases[i].id == id)
            return true;
    return false;
}

static int read_biases(const Quire__V1__Sampling *in, struct sampling *out, struct why *why)
{
    if (in->n_logit_bias > LOGIT_BIASES_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)in->n_logit_bias, LOGIT_BIASES_MAX, "biases", NULL},
            "sampling.logit_bias has %zu tokens; at most %d are taken", in->n_logit_bias,
            LOGIT_BIASES_MAX);
    for (size_t i = 0; i < in->n_logit_bias; i++) {
        const Quire__V1__LogitBias *bias = in->logit_bias[i];
        if (wire_check_real("sampling.logit_bias.bias", bias->bias, -LOGIT_BIAS_MAX,
                            LOGIT_BIAS_MAX, why) < 0)
            return STATUS_INVALID;
        if (has_bias(out, bias->token))
            return refuse(why, STATUS_INVALID, "sampling.logit_bias names token %u twice",
                          bias->token);
        out->biases[out->n_biases++] =
            (struct logit_bias){.id = bias->token, .bias = bias->bias};
    }
    return STATUS_OK;
}

static int read_penalties(const Quire__V1__Sampling *in, struct sampling *out, struct why *why)
{
    if (in->opt_repetition_penalty_case) {
        if (wire_check_real("sampling.repetition_penalty", in->repetition_penalty, REPETITION_MIN,
                            REPETITION_MAX, why) < 0)
            return STATUS_INVALID;
        out->repetition = in->repetition_penalty;
    }
    if (in->opt_frequency_penalty_case) {
        if (wire_check_real("sampling.frequency_penalty", in->frequency_penalty, -PENALTY_MAX,
                            PENALTY_MAX, why) < 0)
            return STATUS_INVALID;
        out->frequency = in->frequency_penalty;
    }
    if (in->opt_presence_penalty_case) {
        if (wire_check_real("sampling.presence_penalty", in->presence_penalty, -PENALTY_MAX,
                            PENALTY_MAX, why) < 0)
            return STATUS_INVALID;
        out->presence = in->presence_penalty;
    }
    return STATUS_OK;
}

int wire_read_sampling(const Quire__V1__Sampling *in, struct sampling *out, struct why *why)
{
    if (in == NULL)
        return STATUS_OK;
    if (in->opt_temperature_case) {
        if (wire_check_real("sampling.temperature", in->temperature, 0, TEMPERATURE_MAX, why) < 0)
            return STATUS_INVALID;
        out->temperature = in->temperature;
    }
    if (in->opt_top_p_case) {
        if (wire_check_real("sampling.top_p", in->top_p, 0, 1, why) < 0)
            return STATUS_INVALID;
        out->top_p = in->top_p;
    }
    if (in->opt_min_p_case) {
        if (wire_check_real("sampling.min_p", in->min_p, 0, 1, why) < 0)
            return STATUS_INVALID;
        out->min_p = in->min_p;
    }
    if (in->opt_typical_p_case) {
        if (wire_check_real("sampling.typical_p", in->typical_p, TYPICAL_MIN, 1, why) < 0)
            return STATUS_INVALID;
        out->typical_p = in->typical_p;
    }
    if (in->opt_top_k_case)
        out->top_k = in->top_k;
    if (in->opt_seed_case) {
        out->has_seed = true;
        out->seed = in->seed;
    }
    int status = read_penalties(in, out, why);
    return status == STATUS_OK ? read_biases(in, out, why) : status;
}

int wire_read_salt(ProtobufCBinaryData in, struct cache_salt *out, struct why *why)
{
    if (in.len > CACHE_SALT_BYTES_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)in.len, CACHE_SALT_BYTES_MAX, "bytes", NULL},
            "cache_salt has %zu bytes; it takes %d at most", in.len, CACHE_SALT_BYTES_MAX);
    out->n = (uint32_t)in.len;
    if (in.len > 0)
        memcpy(out->bytes, in.data, in.len);
    return wire_check_text("cache_salt", in, why);
}

static int read_stops(const Quire__V1__GenerateRequest *in, struct stop_list *out, struct why *why)
{
    if (in->n_stop > STOP_STRINGS_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)in->n_stop, STOP_STRINGS_MAX, "stop strings", NULL},
            "%zu stop strings; at most %d are taken", in->n_stop, STOP_STRINGS_MAX);
    for (size_t i = 0; i < in->n_stop; i++) {
        ProtobufCBinaryData text = in->stop[i];
        if (text.len == 0 || text.len > STOP_BYTES_MAX)
            return refuse_numbers(
                why, STATUS_INVALID,
                (struct why_numbers){(double)text.len, text.len == 0 ? 1 : STOP_BYTES_MAX, "bytes",
                                     NULL},
                "stop[%zu] has %zu bytes; it takes 1 to %d", i, text.len, STOP_BYTES_MAX);
        if (wire_check_text("stop", text, why) < 0)
            return STATUS_INVALID;
        out->len[i] = (uint16_t)text.len;
        memcpy(out->bytes[i], text.data, text.len);
    }
    out->n = (uint32_t)in->n_stop;
    return STATUS_OK;
}

static int read_form(const Quire__V1__GenerateRequest *in, struct wire_generate *out,
                     struct why *why)
{
    bool is_schema = in->form_case == QUIRE__V1__GENERATE_REQUEST__FORM_JSON_SCHEMA;

    if (in->form_case == QUIRE__V1__GENERATE_REQUEST__FORM__NOT_SET)
        return STATUS_OK;
    ProtobufCBinaryData text = is_schema ? in->json_schema : in->grammar;
    out->has_grammar = true;
    out->grammar_form = is_schema ? ENGINE_GRAMMAR_JSON_SCHEMA : ENGINE_GRAMMAR_GBNF;
    out->grammar = wire_slice(text);
    return wire_check_text(is_schema ? "json_schema" : "grammar", text, why);
}

static int read_ends(const Quire__V1__GenerateRequest *in, struct wire_generate *out,
                     struct why *why)
{
    if (in->n_stop_tokens > STOP_TOKENS_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)in->n_stop_tokens, STOP_TOKENS_MAX, "stop tokens", NULL},
            "%zu stop tokens; at most %d are taken", in->n_stop_tokens, STOP_TOKENS_MAX);
    out->stop_tokens = in->stop_tokens;
    out->n_stop_tokens = (uint32_t)in->n_stop_tokens;
    out->min_tokens = in->min_tokens;
    return STATUS_OK;
}

static int refuse_choices(const char *name, uint32_t got, uint32_t least, struct why *why)
{
    return refuse_numbers(
        why, STATUS_INVALID,
        (struct why_numbers){got, got < least ? least : CHOICES_MAX, "answers", NULL},
        "%s is %u; it takes %u to %d", name, got, least, CHOICES_MAX);
}

static int read_choices(const Quire__V1__GenerateRequest *in, struct wire_generate *out,
                        struct why *why)
{
    uint32_t max_tokens = in->opt_max_tokens_case ? in->max_tokens : 0;

    out->n = in->opt_n_case ? in->n : 1;
    if (out->n < 1 || out->n > CHOICES_MAX)
        return refuse_choices("n", out->n, 1, why);
    out->best_of = in->opt_best_of_case ? in->best_of : out->n;
    if (out->best_of < out->n || out->best_of > CHOICES_MAX)
        return refuse_choices("best_of", out->best_of, out->n, why);
    if (out->best_of == out->n)
        return STATUS_OK;
    if (max_tokens == 0)
        return refuse(why, STATUS_INVALID,
                      "best_of holds answers until the best is known: give max_tokens, %u at most",
                      BEST_OF_TOKENS_MAX / out->best_of);
    if (max_tokens > BEST_OF_TOKENS_MAX / out->best_of)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){max_tokens, BEST_OF_TOKENS_MAX / out->best_of, "tokens", NULL},
            "best_of holds answers until the best is known: %u of %u tokens are more than %d "
            "together; max_tokens may be %u",
            out->best_of, max_tokens, BEST_OF_TOKENS_MAX, BEST_OF_TOKENS_MAX / out->best_of);
    return STATUS_OK;
}

static int read_prompt(struct arena *arena, const Quire__V1__GenerateRequest *in,
                       struct wire_generate *out, struct why *why)
{
    switch (in->prompt_case) {
    case QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT:
        out->prompt = WIRE_TEXT;
        out->text = wire_slice(in->text);
        return wire_check_text("text", in->text, why);
    case QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS:
        out->prompt = WIRE_TOKENS;
        out->ids = in->tokens->ids;
        out->n_ids = in->tokens->n_ids;
        if (out->n_ids == 0)
            return refuse(why, STATUS_INVALID,
                          "tokens.ids is empty; a prompt needs at least one token");
        return STATUS_OK;
    case QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT:
        out->prompt = WIRE_CHAT;
        return wire_read_chat(arena, in->chat, out, why);
    default:
        return refuse(why, STATUS_INVALID, "no prompt: set one of text, tokens, chat");
    }
}

static int read_request(struct arena *arena, const Quire__V1__GenerateRequest *in,
                        struct wire_generate *out, struct why *why)
{
    *out = (struct wire_generate){.sampling = SAMPLING_DEFAULT, .add_bos = -1};
    int status = read_prompt(arena, in, out, why);
    if (status == STATUS_OK)
        status = wire_read_sampling(in->sampling, &out->sampling, why);
    if (status == STATUS_OK)
        status = read_stops(in, &out->stop, why);
    if (status == STATUS_OK)
        status = read_ends(in, out, why);
    if (status == STATUS_OK)
        status = read_form(in, out, why);
    if (status == STATUS_OK)
        status = read_choices(in, out, why);
    if (status == STATUS_OK)
        status = wire_read_salt(in->cache_salt, &out->cache_salt, why);
    if (status < 0)
        return status;

    out->has_max_tokens = in->opt_max_tokens_case != 0;
    out->max_tokens = out->has_max_tokens ? in->max_tokens : 0;
    if (out->has_max_tokens && out->max_tokens == 0)
        return refuse_numbers(why, STATUS_INVALID, (struct why_numbers){0, 1, "tokens", NULL},
                              "max_tokens is 0; it takes 1 or more, or leave it out");
    out->want_logprobs = in->opt_logprobs_case != 0;
    out->n_top = out->want_logprobs ? in->logprobs : 0;
    if (out->n_top > TOP_LOGPROBS_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){out->n_top, TOP_LOGPROBS_MAX, "logprobs", NULL},
            "logprobs is %u; it takes 0 to %d", out->n_top, TOP_LOGPROBS_MAX);
    if ((uint32_t)in->content > QUIRE__V1__CONTENT__CONTENT_TOKENS)
        return refuse_numbers(why, STATUS_INVALID,
                              (struct why_numbers){(int)in->content, 2, "content", NULL},
                              "content is %d; it takes 0 to 2", (int)in->content);
    out->want_text = in->content != QUIRE__V1__CONTENT__CONTENT_TOKENS;
    out->want_ids = in->content != QUIRE__V1__CONTENT__CONTENT_TEXT;
    out->ignore_eos = in->ignore_eos;
    if (in->opt_add_bos_case)
        out->add_bos = in->add_bos ? 1 : 0;
    return STATUS_OK;
}

int wire_unpack_generate(struct arena *arena, struct slice body, struct wire_generate *out,
                         struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&quire__v1__generate_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;
    return read_request(arena, (const Quire__V1__GenerateRequest *)message, out, why);
}

int wire_unpack_estimate(struct arena *arena, struct slice body, struct wire_estimate *out,
                         struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&quire__v1__estimate_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;

    const Quire__V1__EstimateRequest *in = (const Quire__V1__EstimateRequest *)message;
    *out = (struct wire_estimate){.has_max_tokens = in->opt_max_tokens_case != 0};
    out->max_tokens = out->has_max_tokens ? in->max_tokens : 0;
    switch (in->prompt_case) {
    case QUIRE__V1__ESTIMATE_REQUEST__PROMPT_REQUEST:
        out->has_request = true;
        if (out->has_max_tokens)
            return refuse(why, STATUS_INVALID,
                          "max_tokens stands beside a request, which has its own: leave it out");
        return read_request(arena, in->request, &out->request, why);
    case QUIRE__V1__ESTIMATE_REQUEST__PROMPT_PROMPT_TOKENS:
        out->n_prompt = in->prompt_tokens;
        return STATUS_OK;
    default:
        return refuse(why, STATUS_INVALID, "no prompt: set one of request, prompt_tokens");
    }
}
