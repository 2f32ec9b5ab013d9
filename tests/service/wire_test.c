/* Requests from the wire: every range, bad UTF-8, messages that unpack to more than they are. */
#include "tests/service/handler_stage.h"

#include "google/rpc/details.pb-c.h"
#include "service/wire.h"
#include "service/wire_memory.h"

#include <math.h>

#define ALL_BYTES_MAX (2u << 20)

static uint8_t packed[ALL_BYTES_MAX];
static struct why why;
static struct arena arena;

static struct slice pack(const void *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    assert_true(n <= sizeof packed);
    protobuf_c_message_pack(message, packed);
    return slice_of(packed, n);
}

static ProtobufCBinaryData text_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static int unpack(const Quire__V1__GenerateRequest *request, struct wire_generate *out)
{
    struct slice body = pack(request);
    why.text[0] = '\0';
    arena_release(&arena);
    arena_init(&arena, wire_arena_bytes(body.len));
    return wire_unpack_generate(&arena, body, out, &why);
}

static void expect(const Quire__V1__GenerateRequest *request, int status, const char *part)
{
    struct wire_generate out;
    assert_int_equal(unpack(request, &out), status);
    if (status < 0 && strstr(why.text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why.text, part);
}

static Quire__V1__GenerateRequest request_of(const char *text)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = text_of(text);
    return request;
}

/* --- generate --- */

static void test_wire__absent_fields_take_the_defaults_of_the_proto(void **state)
{
    Quire__V1__GenerateRequest request = request_of("hello");
    struct wire_generate out;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.prompt, WIRE_TEXT);
    assert_true(slice_equal(out.text, slice_from("hello")));
    assert_true(out.sampling.temperature == 1 && out.sampling.top_p == 1);
    assert_true(out.sampling.min_p == 0 && out.sampling.repetition == 1);
    assert_int_equal(out.sampling.top_k, 0);
    assert_false(out.sampling.has_seed || out.has_max_tokens || out.ignore_eos);
    assert_false(out.want_logprobs);
    assert_true(out.want_text && out.want_ids);
    assert_int_equal(out.add_bos, -1);
}

static void test_wire__nul_is_text_like_any_other(void **state)
{
    Quire__V1__GenerateRequest request = request_of("");
    request.text = (ProtobufCBinaryData){5, (uint8_t *)"a\0b\0c"};
    struct wire_generate out;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.text.len, 5);
    assert_memory_equal(out.text.bytes, "a\0b\0c", 5);
}

static void test_wire__bad_utf8_is_refused_with_field_and_byte(void **state)
{
    static const char *const bad[] = {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\x80",
                                      "ab\xf4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Quire__V1__GenerateRequest request = request_of(bad[i]);
        expect(&request, STATUS_INVALID, "text is not UTF-8 at byte 2");
    }
    Quire__V1__GenerateRequest request = request_of("fine");
    ProtobufCBinaryData stop = text_of("\x80");
    request.stop = &stop;
    request.n_stop = 1;
    expect(&request, STATUS_INVALID, "stop");
}

static void test_wire__a_prompt_there_must_be(void **state)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__TokenIds none = QUIRE__V1__TOKEN_IDS__INIT;
    Quire__V1__Chat silence = QUIRE__V1__CHAT__INIT;
    expect(&request, STATUS_INVALID, "text, tokens, chat");
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    request.tokens = &none;
    expect(&request, STATUS_INVALID, "at least one token");
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
    request.chat = &silence;
    expect(&request, STATUS_INVALID, "at least one message");
}

static void test_wire__ids_and_messages_arrive_as_they_were(void **state)
{
    uint32_t ids[] = {1, 0, 4294967295u, 7};
    Quire__V1__TokenIds tokens = QUIRE__V1__TOKEN_IDS__INIT;
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    struct wire_generate out;
    tokens.ids = ids;
    tokens.n_ids = 4;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    request.tokens = &tokens;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.n_ids, 4);
    assert_memory_equal(out.ids, ids, sizeof ids);

    Quire__V1__Message messages[2] = {QUIRE__V1__MESSAGE__INIT, QUIRE__V1__MESSAGE__INIT};
    Quire__V1__Message *list[2] = {&messages[0], &messages[1]};
    Quire__V1__Chat chat = QUIRE__V1__CHAT__INIT;
    messages[0].role = text_of("system");
    messages[0].content = text_of("Be brief.");
    messages[1].role = text_of("user");
    messages[1].content = text_of("Hi");
    chat.messages = list;
    chat.n_messages = 2;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
    request.chat = &chat;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.chat.n_messages, 2);
    assert_true(slice_equal(out.chat.messages[1].role, slice_from("user")));
    assert_true(slice_equal(out.chat.messages[0].content, slice_from("Be brief.")));

    messages[1].content = text_of("\xff");
    expect(&request, STATUS_INVALID, "message 1");
}

struct range {
    double low, high;
    const char *name;
};

static void set_sampling(Quire__V1__Sampling *sampling, int which, double value)
{
    *sampling = (Quire__V1__Sampling)QUIRE__V1__SAMPLING__INIT;
    if (which == 0) {
        sampling->opt_temperature_case = QUIRE__V1__SAMPLING__OPT_TEMPERATURE_TEMPERATURE;
        sampling->temperature = (float)value;
    } else if (which == 1) {
        sampling->opt_top_p_case = QUIRE__V1__SAMPLING__OPT_TOP_P_TOP_P;
        sampling->top_p = (float)value;
    } else if (which == 2) {
        sampling->opt_min_p_case = QUIRE__V1__SAMPLING__OPT_MIN_P_MIN_P;
        sampling->min_p = (float)value;
    } else if (which == 3) {
        sampling->opt_typical_p_case = QUIRE__V1__SAMPLING__OPT_TYPICAL_P_TYPICAL_P;
        sampling->typical_p = (float)value;
    } else {
        sampling->opt_repetition_penalty_case =
            QUIRE__V1__SAMPLING__OPT_REPETITION_PENALTY_REPETITION_PENALTY;
        sampling->repetition_penalty = (float)value;
    }
}

static void test_wire__each_sampling_number_has_its_range(void **state)
{
    static const struct range ranges[] = {{0, 100, "temperature"},
                                          {0, 1, "top_p"},
                                          {0, 1, "min_p"},
                                          {1e-6, 1, "typical_p"},
                                          {0.0101, 100, "repetition_penalty"}};
    for (int i = 0; i < 5; i++) {
        const struct range *range = &ranges[i];
        Quire__V1__GenerateRequest request = request_of("x");
        Quire__V1__Sampling sampling;
        request.sampling = &sampling;
        const double in[] = {range->low, range->high};
        const double out[] = {-0.001, nextafterf((float)range->high, INFINITY), NAN, INFINITY,
                              -INFINITY};
        for (size_t k = 0; k < 2; k++) {
            set_sampling(&sampling, i, in[k]);
            expect(&request, STATUS_OK, "");
        }
        for (size_t k = 0; k < 5; k++) {
            set_sampling(&sampling, i, out[k]);
            expect(&request, STATUS_INVALID, range->name);
        }
    }
}

static void test_wire__numbers_at_their_limits_and_one_beyond(void **state)
{
    Quire__V1__GenerateRequest request = request_of("x");
    request.opt_logprobs_case = QUIRE__V1__GENERATE_REQUEST__OPT_LOGPROBS_LOGPROBS;
    request.logprobs = TOP_LOGPROBS_MAX;
    expect(&request, STATUS_OK, "");
    request.logprobs = TOP_LOGPROBS_MAX + 1;
    expect(&request, STATUS_INVALID, "logprobs is 21");

    request = request_of("x");
    request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
    request.max_tokens = 1;
    expect(&request, STATUS_OK, "");
    request.max_tokens = 0;
    expect(&request, STATUS_INVALID, "max_tokens is 0");

    request = request_of("x");
    request.content = (Quire__V1__Content)2;
    expect(&request, STATUS_OK, "");
    request.content = (Quire__V1__Content)3;
    expect(&request, STATUS_INVALID, "content is 3");
}

static void test_wire__stop_strings_at_their_limits_and_one_beyond(void **state)
{
    static char longest[STOP_BYTES_MAX + 2];
    ProtobufCBinaryData stops[STOP_STRINGS_MAX + 1];
    Quire__V1__GenerateRequest request = request_of("x");
    struct wire_generate out;
    memset(longest, 's', STOP_BYTES_MAX + 1);
    for (int i = 0; i <= STOP_STRINGS_MAX; i++)
        stops[i] = (ProtobufCBinaryData){STOP_BYTES_MAX, (uint8_t *)longest};
    request.stop = stops;
    request.n_stop = STOP_STRINGS_MAX;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.stop.n, STOP_STRINGS_MAX);
    assert_int_equal(out.stop.len[STOP_STRINGS_MAX - 1], STOP_BYTES_MAX);
    request.n_stop = STOP_STRINGS_MAX + 1;
    expect(&request, STATUS_INVALID, "17 stop strings");
    request.n_stop = 1;
    stops[0].len = STOP_BYTES_MAX + 1;
    expect(&request, STATUS_INVALID, "stop[0] has 257 bytes");
    stops[0].len = 0;
    expect(&request, STATUS_INVALID, "stop[0] has 0 bytes");
}

static void test_wire__a_cache_salt_of_the_limit_and_one_more_byte(void **state)
{
    static char longest[CACHE_SALT_BYTES_MAX + 2];
    Quire__V1__GenerateRequest request = request_of("x");
    struct wire_generate out;
    memset(longest, 's', CACHE_SALT_BYTES_MAX + 1);
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.cache_salt.n, 0);
    request.cache_salt = (ProtobufCBinaryData){CACHE_SALT_BYTES_MAX, (uint8_t *)longest};
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.cache_salt.n, CACHE_SALT_BYTES_MAX);
    assert_memory_equal(out.cache_salt.bytes, longest, CACHE_SALT_BYTES_MAX);
    request.cache_salt.len = CACHE_SALT_BYTES_MAX + 1;
    expect(&request, STATUS_INVALID, "cache_salt has 129 bytes; it takes 128 at most");
}

/* --- what does not parse, or grows --- */

static void test_wire__biases_and_stop_tokens_at_their_limits_and_one_beyond(void **state)
{
    static Quire__V1__LogitBias biases[LOGIT_BIASES_MAX + 1];
    static Quire__V1__LogitBias *list[LOGIT_BIASES_MAX + 1];
    static uint32_t ids[STOP_TOKENS_MAX + 1];
    Quire__V1__GenerateRequest request = request_of("x");
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    struct wire_generate out;
    for (uint32_t i = 0; i <= LOGIT_BIASES_MAX; i++) {
        quire__v1__logit_bias__init(&biases[i]);
        biases[i].token = i;
        biases[i].bias = i % 2 == 0 ? LOGIT_BIAS_MAX : -LOGIT_BIAS_MAX;
        list[i] = &biases[i];
    }
    request.sampling = &sampling;
    sampling.logit_bias = list;
    sampling.n_logit_bias = LOGIT_BIASES_MAX;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_int_equal(out.sampling.n_biases, LOGIT_BIASES_MAX);
    assert_true(out.sampling.biases[LOGIT_BIASES_MAX - 1].bias == -LOGIT_BIAS_MAX);
    sampling.n_logit_bias = LOGIT_BIASES_MAX + 1;
    expect(&request, STATUS_INVALID, "logit_bias has 301 tokens");
    sampling.n_logit_bias = 2;
    biases[1].bias = LOGIT_BIAS_MAX + 1;
    expect(&request, STATUS_INVALID, "sampling.logit_bias.bias");
    biases[1].bias = NAN;
    expect(&request, STATUS_INVALID, "sampling.logit_bias.bias");
    biases[1] = biases[0];
    expect(&request, STATUS_INVALID, "names token 0 twice");
    sampling.n_logit_bias = 0;

    request.stop_tokens = ids;
    request.n_stop_tokens = STOP_TOKENS_MAX;
    expect(&request, STATUS_OK, "");
    request.n_stop_tokens = STOP_TOKENS_MAX + 1;
    expect(&request, STATUS_INVALID, "65 stop tokens");
}

static void test_wire__choices_at_their_limits_and_one_beyond(void **state)
{
    Quire__V1__GenerateRequest request = request_of("x");
    struct wire_generate out;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_true(out.n == 1 && out.best_of == 1);
    request.opt_n_case = QUIRE__V1__GENERATE_REQUEST__OPT_N_N;
    request.n = CHOICES_MAX;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_true(out.n == CHOICES_MAX && out.best_of == CHOICES_MAX);
    request.n = CHOICES_MAX + 1;
    expect(&request, STATUS_INVALID, "n is 17; it takes 1 to 16");
    request.n = 0;
    expect(&request, STATUS_INVALID, "n is 0");
    request.n = 3;
    request.opt_best_of_case = QUIRE__V1__GENERATE_REQUEST__OPT_BEST_OF_BEST_OF;
    request.best_of = 2;
    expect(&request, STATUS_INVALID, "best_of is 2; it takes 3 to 16");
    request.best_of = CHOICES_MAX + 1;
    expect(&request, STATUS_INVALID, "best_of is 17");
    request.best_of = CHOICES_MAX;
    expect(&request, STATUS_INVALID, "give max_tokens, 4096 at most");
    request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
    request.max_tokens = BEST_OF_TOKENS_MAX / CHOICES_MAX;
    expect(&request, STATUS_OK, "");
    request.max_tokens++;
    expect(&request, STATUS_INVALID, "16 of 4097 tokens");
}

static void test_wire__a_schema_or_a_grammar_is_text(void **state)
{
    Quire__V1__GenerateRequest request = request_of("x");
    struct wire_generate out;
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_false(out.has_grammar);
    request.form_case = QUIRE__V1__GENERATE_REQUEST__FORM_JSON_SCHEMA;
    request.json_schema = text_of("{}");
    assert_int_equal(unpack(&request, &out), STATUS_OK);
    assert_true(out.has_grammar && out.grammar_form == ENGINE_GRAMMAR_JSON_SCHEMA);
    assert_true(slice_equal(out.grammar, slice_from("{}")));
    request.form_case = QUIRE__V1__GENERATE_REQUEST__FORM_GRAMMAR;
    request.grammar = text_of("root ::= \"\xff\"");
    expect(&request, STATUS_INVALID, "grammar");
}

static void test_wire__a_message_that_does_not_parse_is_told(void **state)
{
    struct wire_generate out;
    arena_release(&arena);
    arena_init(&arena, wire_arena_bytes(3));
    assert_int_equal(
        wire_unpack_generate(&arena, slice_of("\x0a\x7f\x01", 3), &out, &why), STATUS_INTERNAL);
    assert_non_null(strstr(why.text, "quire.v1.GenerateRequest"));
}

/* n empty chat messages: two bytes on the wire, a struct and a pointer each in memory. */
static struct slice amplifying(size_t n)
{
    uint8_t *at = packed;
    size_t inner = 2 * n;
    *at++ = 0x1a; /* chat, length-delimited */
    for (size_t rest = inner; rest > 0 || at == packed + 1; rest >>= 7)
        *at++ = (uint8_t)((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0));
    for (size_t i = 0; i < n; i++) {
        *at++ = 0x0a;
        *at++ = 0x00;
    }
    return slice_of(packed, (size_t)(at - packed));
}

static void test_wire__an_amplifying_message_is_refused_within_its_memory(void **state)
{
    struct wire_generate out;
    struct slice body = amplifying(500000);
    arena_release(&arena);
    arena_init(&arena, wire_arena_bytes(body.len));
    assert_int_equal(wire_unpack_generate(&arena, body, &out, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "1000004-byte message"));
    assert_true(arena.used <= arena.cap);

    body = amplifying(100); /* as many as fit are only judged for what they say */
    arena_release(&arena);
    arena_init(&arena, wire_arena_bytes(body.len));
    assert_int_equal(wire_unpack_generate(&arena, body, &out, &why), STATUS_OK);
}

static void test_wire__unknown_fields_in_crowds_are_refused_within_their_memory(void **state)
{
    struct wire_generate out;
    for (size_t i = 0; i + 3 <= sizeof packed; i += 3)
        memcpy(packed + i, "\xc0\x3e\x01", 3); /* field 1000, varint 1 */
    struct slice body = slice_of(packed, sizeof packed / 3 * 3);
    arena_release(&arena);
    arena_init(&arena, wire_arena_bytes(body.len));
    assert_int_equal(wire_unpack_generate(&arena, body, &out, &why), STATUS_EXHAUSTED);
}

static void test_wire__random_bytes_never_do_harm(void **state)
{
    uint32_t n = 99;
    for (int turn = 0; turn < 20000; turn++) {
        size_t len = (n >> 8) % 60;
        for (size_t i = 0; i < len; i++) {
            n = n * 1664525u + 1013904223u;
            packed[i] = (n >> 28) > 9 ? (uint8_t)((n >> 20) % 12 << 3 | 2) : (uint8_t)(n >> 20);
        }
        struct wire_generate out;
        struct wire_summarize summary;
        arena_release(&arena);
        arena_init(&arena, wire_arena_bytes(len));
        int status = wire_unpack_generate(&arena, slice_of(packed, len), &out, &why);
        assert_true(status == STATUS_OK || status == STATUS_INTERNAL || status == STATUS_INVALID);
        wire_unpack_summarize(&arena, slice_of(packed, len), &summary, &why);
        n = n * 1664525u + 1013904223u;
    }
}

/* --- other requests --- */

static void test_wire__the_interval_of_stats_has_its_range(void **state)
{
    static const struct {
        uint32_t interval;
        int status;
    } cases[] = {{99, STATUS_INVALID}, {100, STATUS_OK}, {60000, STATUS_OK},
                 {60001, STATUS_INVALID}};
    Quire__V1__WatchStatsRequest request = QUIRE__V1__WATCH_STATS_REQUEST__INIT;
    struct wire_watch_stats out;
    arena_release(&arena);
    arena_init(&arena, 1 << 20);
    assert_int_equal(wire_unpack_watch_stats(&arena, pack(&request), &out, &why), STATUS_OK);
    assert_int_equal(out.interval_ms, 1000);
    assert_false(out.has_sequence);
    request.opt_interval_ms_case = QUIRE__V1__WATCH_STATS_REQUEST__OPT_INTERVAL_MS_INTERVAL_MS;
    for (size_t i = 0; i < 4; i++) {
        request.interval_ms = cases[i].interval;
        assert_int_equal(wire_unpack_watch_stats(&arena, pack(&request), &out, &why),
                         cases[i].status);
    }
}

static void test_wire__a_summary_without_options_in_its_options_has_the_defaults(void **state)
{
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    Quire__V1__SummarizeOptions options = QUIRE__V1__SUMMARIZE_OPTIONS__INIT;
    struct wire_summarize out;
    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_OPTIONS;
    request.options = &options;
    arena_release(&arena);
    arena_init(&arena, 1 << 20);
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_OK);
    assert_true(out.has_options && out.options.sampling.temperature == 0);
    assert_true(out.options.sampling.repetition == SUMMARY_REPETITION_PENALTY);
    assert_int_equal(out.options.max_tokens, 512);
    assert_int_equal(out.options.section_max_tokens, 160);
    assert_int_equal(out.options.section_tokens, 0);
    assert_int_equal(out.options.total_bytes, 0);
    assert_false(out.options.replaces_invalid);

    options.replace_invalid = true;
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_OK);
    assert_true(out.options.replaces_invalid);

    options.opt_section_max_tokens_case =
        QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_MAX_TOKENS_SECTION_MAX_TOKENS;
    options.section_max_tokens = 0;
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_INVALID);
    options.section_max_tokens = 1;
    options.opt_instruction_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_INSTRUCTION_INSTRUCTION;
    options.instruction = text_of("\xff");
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "instruction is not UTF-8 at byte 0"));

    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART__NOT_SET;
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_INVALID);
    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT;
    request.text = (ProtobufCBinaryData){3, (uint8_t *)"\xff\0a"};
    assert_int_equal(wire_unpack_summarize(&arena, pack(&request), &out, &why), STATUS_OK);
    assert_true(slice_equal(out.text, slice_of("\xff\0a", 3)));
}

/* --- events --- */

static void test_wire__the_worst_event_fits_its_buffer(void **state)
{
    static uint8_t room[sizeof(struct event_delta) + EVENT_TEXT_BYTES_MAX];
    static uint8_t out[WIRE_EVENT_BYTES_MAX];
    struct event_delta *delta = (struct event_delta *)room;
    bool empty;
    delta->has_token = delta->has_logprob = true;
    delta->logprob = -1;
    delta->n_top = TOP_LOGPROBS_MAX; /* id 0 has the longest bytes that a vocabulary may hold */
    delta->text_bytes = EVENT_TEXT_BYTES_MAX;
    memset(delta->text, 't', EVENT_TEXT_BYTES_MAX);
    size_t bytes = wire_pack_delta(out, sizeof out, delta, 3, NULL, true, true, &empty);
    assert_false(empty);
    assert_in_range(bytes, TOP_LOGPROBS_MAX * TOKEN_BYTES_MAX, WIRE_EVENT_BYTES_MAX);
    Quire__V1__GenerateEvent *event = quire__v1__generate_event__unpack(NULL, bytes, out);
    assert_non_null(event);
    assert_int_equal(event->delta->n_logprobs, 1);
    assert_int_equal(event->delta->logprobs[0]->n_top, TOP_LOGPROBS_MAX);
    assert_int_equal(event->delta->text.len, EVENT_TEXT_BYTES_MAX);
    quire__v1__generate_event__free_unpacked(event, NULL);
}

static void test_wire__a_delta_of_which_nothing_is_wanted_is_empty(void **state)
{
    struct event_delta delta = {.has_token = true, .id = 3};
    uint8_t out[64];
    bool empty;
    wire_pack_delta(out, sizeof out, &delta, 0, NULL, true, false, &empty);
    assert_true(empty);
    assert_true(wire_pack_delta(out, sizeof out, &delta, 0, NULL, false, true, &empty) > 0);
    assert_false(empty);
}

static void test_wire__details_hold_code_message_and_pairs(void **state)
{
    static const struct wire_detail pairs[] = {{"requested", "1"}, {"available", "20.5"}};
    size_t bytes = wire_pack_details(packed, sizeof packed, 4, "too late", "DEADLINE", pairs, 2);
    Google__Rpc__Status *status = google__rpc__status__unpack(NULL, bytes, packed);
    assert_non_null(status);
    assert_int_equal(status->code, 4);
    assert_memory_equal(status->message.data, "too late", 8);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(
        NULL, status->details[0]->value.len, status->details[0]->value.data);
    assert_non_null(info);
    assert_memory_equal(info->reason.data, "DEADLINE", 8);
    assert_int_equal(info->n_metadata, 2);
    assert_memory_equal(info->metadata[1]->value.data, "20.5", 4);
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(status, NULL);
}

static void test_wire__a_refusal_is_packed_with_its_numbers(void **state)
{
    int status = refuse_numbers(&why, STATUS_TOO_LARGE,
                                (struct why_numbers){20.5, 8, "bytes", "--kv-memory"}, "too much");
    refuse_prefix(&why, status, "here");
    size_t bytes = wire_pack_refusal(packed, sizeof packed, status, why.text, &why.numbers);
    Google__Rpc__Status *told = google__rpc__status__unpack(NULL, bytes, packed);
    assert_int_equal(told->code, 8);
    assert_memory_equal(told->message.data, "here: too much", 14);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(
        NULL, told->details[0]->value.len, told->details[0]->value.data);
    assert_memory_equal(info->reason.data, "TOO_LARGE", 9);
    assert_int_equal(info->n_metadata, 4);
    assert_memory_equal(info->metadata[0]->value.data, "20.5", 4);
    assert_memory_equal(info->metadata[3]->value.data, "--kv-memory", 11);
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(told, NULL);

    refuse(&why, STATUS_INVALID, "no numbers"); /* those of before are gone */
    bytes = wire_pack_refusal(packed, sizeof packed, STATUS_INVALID, why.text, &why.numbers);
    told = google__rpc__status__unpack(NULL, bytes, packed);
    info = google__rpc__error_info__unpack(NULL, told->details[0]->value.len,
                                           told->details[0]->value.data);
    assert_int_equal(info->n_metadata, 0);
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(told, NULL);
}

static int release_arena(void **state)
{
    arena_release(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire__absent_fields_take_the_defaults_of_the_proto),
        cmocka_unit_test(test_wire__nul_is_text_like_any_other),
        cmocka_unit_test(test_wire__bad_utf8_is_refused_with_field_and_byte),
        cmocka_unit_test(test_wire__a_prompt_there_must_be),
        cmocka_unit_test(test_wire__ids_and_messages_arrive_as_they_were),
        cmocka_unit_test(test_wire__each_sampling_number_has_its_range),
        cmocka_unit_test(test_wire__numbers_at_their_limits_and_one_beyond),
        cmocka_unit_test(test_wire__stop_strings_at_their_limits_and_one_beyond),
        cmocka_unit_test(test_wire__a_cache_salt_of_the_limit_and_one_more_byte),
        cmocka_unit_test(test_wire__biases_and_stop_tokens_at_their_limits_and_one_beyond),
        cmocka_unit_test(test_wire__a_schema_or_a_grammar_is_text),
        cmocka_unit_test(test_wire__a_message_that_does_not_parse_is_told),
        cmocka_unit_test(test_wire__an_amplifying_message_is_refused_within_its_memory),
        cmocka_unit_test(test_wire__unknown_fields_in_crowds_are_refused_within_their_memory),
        cmocka_unit_test(test_wire__random_bytes_never_do_harm),
        cmocka_unit_test(test_wire__the_interval_of_stats_has_its_range),
        cmocka_unit_test(test_wire__a_summary_without_options_in_its_options_has_the_defaults),
        cmocka_unit_test(test_wire__the_worst_event_fits_its_buffer),
        cmocka_unit_test(test_wire__a_delta_of_which_nothing_is_wanted_is_empty),
        cmocka_unit_test(test_wire__details_hold_code_message_and_pairs),
        cmocka_unit_test(test_wire__a_refusal_is_packed_with_its_numbers),
        cmocka_unit_test(test_wire__choices_at_their_limits_and_one_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, release_arena);
}
