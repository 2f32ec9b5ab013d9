/* bench/schema_speed.c: what a JSON schema costs: tokens a second with and without it, and the time
 * of each mask.
 *
 *   calls     one after the other at a running server: an answer under the schema, then a free one
 *             of as many tokens, so that both meet the same machine
 *   masks     the ids that came under the schema, given to the model's grammar here: what the step
 *             thread does for each token, alone
 *
 * The first token of an answer is not counted: it comes with the prompt.
 */
#include "bench/client_load.h"

#include "base/clock.h"
#include "base/options.h"
#include "base/status.h"
#include "clients/c/message_codec.h"
#include "kernels/device.h"
#include "model/grammar.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWERS_MAX 10000
#define TOKENS_MAX 1500 /* of an answer */
#define SCHEMA_BYTES_MAX 65536

struct bench_options {
    const char *server, *model, *schema;
    int64_t calls;
};

#define FIELD(name) offsetof(struct bench_options, name)

static const struct option options[] = {
    {"server", 's', OPTION_TEXT, FIELD(server), "127.0.0.1:7070", "ADDRESS",
     "a running quire serve", 0, 0, NULL, 0},
    {"model", 0, OPTION_TEXT, FIELD(model), "models/SmolLM2-135M-Instruct.Q4_1.gguf", "FILE",
     "the model that it serves", 0, 0, NULL, 0},
    {"schema", 0, OPTION_TEXT, FIELD(schema), "bench/person.schema.json", "FILE", "a JSON schema",
     0, 0, NULL, 0},
    {"calls", 0, OPTION_INT, FIELD(calls), "20", "N", "answers of each kind", 1, ANSWERS_MAX, NULL,
     0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "schema_speed",
    .usage = "schema_speed [--server ADDRESS] [--model FILE] [--schema FILE] [--calls N]",
    .summary = "Measures tokens a second with and without a JSON schema, and its masks.",
    .options = options,
    .examples = "  schema_speed --server 127.0.0.1:7070 --calls 50\n",
};

/* --- calls --- */

struct answer {
    uint32_t ids[TOKENS_MAX], n_ids;
    uint32_t n_first; /* ids of the first delta */
    int64_t first_ns, last_ns;
    bool stopped;
};

static bool on_event(void *arg, const void *bytes, size_t len)
{
    struct answer *answer = arg;
    Quire__V1__GenerateEvent *event = quire__v1__generate_event__unpack(NULL, len, bytes);
    if (event == NULL)
        load_give_up("Generate", "a message that is none");
    if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA) {
        answer->last_ns = clock_now(&clock_monotonic);
        if (answer->n_ids == 0) {
            answer->first_ns = answer->last_ns;
            answer->n_first = (uint32_t)event->delta->n_tokens;
        }
        for (size_t i = 0; i < event->delta->n_tokens && answer->n_ids < TOKENS_MAX; i++)
            answer->ids[answer->n_ids++] = event->delta->tokens[i];
    } else if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED) {
        answer->stopped = event->finished->reason == QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP;
    }
    quire__v1__generate_event__free_unpacked(event, NULL);
    return true;
}

/* schema NULL: a free answer. */
static void ask(struct quire_client *client, const char *schema, uint32_t max_tokens, uint64_t seed,
                struct answer *out)
{
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    sampling.opt_seed_case = QUIRE__V1__SAMPLING__OPT_SEED_SEED;
    sampling.seed = seed;
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = message_codec_text("Here is the data as JSON:\n");
    request.sampling = &sampling;
    request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
    request.max_tokens = max_tokens;
    request.ignore_eos = schema == NULL;
    if (schema != NULL) {
        request.form_case = QUIRE__V1__GENERATE_REQUEST__FORM_JSON_SCHEMA;
        request.json_schema = message_codec_text(schema);
    }
    size_t n;
    void *bytes = message_codec_pack(&request.base, &n);
    struct quire_call_options about = {.on_message = on_event, .arg = out};
    struct quire_call *call = quire_call_open(client, "/quire.v1.Quire/Generate", &about);
    if (bytes == NULL || call == NULL)
        load_give_up("Generate", "no memory");
    *out = (struct answer){.n_ids = 0};
    quire_call_send(call, bytes, n, true);
    const struct quire_status *status = quire_call_wait(call);
    if (status->code != QUIRE_OK)
        load_give_up("Generate", status->message);
    quire_call_free(call);
    free(bytes);
}

struct rate {
    uint64_t n_tokens;
    int64_t ns;
};

static void add_answer(struct rate *rate, const struct answer *answer)
{
    rate->n_tokens += answer->n_ids - answer->n_first;
    rate->ns += answer->last_ns - answer->first_ns;
}

/* --- masks --- */

struct masks {
    struct model *model;
    struct slice schema;
    double *us; /* [n], at most n_max */
    size_t n, n_max;
    int64_t compile_ns;
};

/* of this thread alone: other programs do not count */
static int64_t thread_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static void replay(struct masks *masks, const struct answer *answer)
{
    const struct vocabulary *vocabulary = model_vocabulary(masks->model);
    struct why why = {.text = ""};
    struct grammar *grammar;
    int64_t begun_ns = thread_ns();
    if (grammar_create(vocabulary, model_token_trie(masks->model), GRAMMAR_JSON_SCHEMA,
                       masks->schema, &grammar, &why) < 0)
        load_give_up("the schema", why.text);
    masks->compile_ns += thread_ns() - begun_ns;
    for (uint32_t i = 0; i < answer->n_ids && masks->n < masks->n_max; i++) {
        if (vocabulary_is_end_of_generation(vocabulary, answer->ids[i]))
            break;
        begun_ns = thread_ns();
        if (grammar_accept(grammar, answer->ids[i], &why) < 0)
            load_give_up("a mask", why.text);
        masks->us[masks->n++] = (double)(thread_ns() - begun_ns) / 1e3;
    }
    grammar_free(grammar);
}

static void load_model(const char *path, struct device **device, struct model **model)
{
    const struct device_options cpu = {.backend = BACKEND_CPU};
    const struct model_options no_options = {.takes_vocabulary = true};
    struct why why = {.text = ""};
    if (device_open(&cpu, device, &why) < 0 ||
        model_load(*device, path, &no_options, model, &why) < 0)
        load_give_up(path, why.text);
}

static char *read_schema(const char *path)
{
    char *text = calloc(1, SCHEMA_BYTES_MAX + 1);
    FILE *file = fopen(path, "r");
    if (text == NULL || file == NULL || fread(text, 1, SCHEMA_BYTES_MAX, file) == 0)
        load_give_up(path, "cannot be read, or is empty");
    fclose(file);
    return text;
}

/* --- the whole --- */

static void report(struct masks *masks, const struct rate *bound, const struct rate *free_rate,
                   int64_t n_calls)
{
    double sum = 0, n = (double)masks->n;
    for (size_t i = 0; i < masks->n; i++)
        sum += masks->us[i];
    load_sort(masks->us, masks->n);
    printf("tokens %llu: with the schema %.1f tokens/s, without %.1f\n",
           (unsigned long long)bound->n_tokens, (double)bound->n_tokens * 1e9 / (double)bound->ns,
           (double)free_rate->n_tokens * 1e9 / (double)free_rate->ns);
    printf("masks %zu of %u tokens: mean %.1f us, p50 %.1f, p99 %.1f, most %.1f; schema compiled "
           "in %.1f ms\n",
           masks->n, vocabulary_n_tokens(model_vocabulary(masks->model)), sum / n,
           load_percentile(masks->us, masks->n, 0.5), load_percentile(masks->us, masks->n, 0.99),
           masks->us[masks->n - 1], (double)masks->compile_ns / 1e6 / (double)n_calls);
}

int main(int argc, char **argv)
{
    struct bench_options in = {0};
    load_parse_options(&command, argc, argv, &in);
    char *schema = read_schema(in.schema);
    struct quire_client *client = load_connect(in.server);
    struct answer *answer = malloc(sizeof *answer);
    struct device *device;
    struct masks masks = {.schema = slice_from(schema), .n_max = (size_t)in.calls * TOKENS_MAX};
    masks.us = malloc(masks.n_max * sizeof *masks.us);
    if (answer == NULL || masks.us == NULL)
        load_give_up("times", "no memory");
    load_model(in.model, &device, &masks.model);

    struct rate bound = {0}, free_rate = {0};
    for (int64_t i = 0; i < in.calls; i++) {
        ask(client, schema, TOKENS_MAX, (uint64_t)i, answer);
        if (!answer->stopped)
            load_give_up("an answer", "was cut at the limit of its tokens");
        add_answer(&bound, answer);
        replay(&masks, answer);
        ask(client, NULL, answer->n_ids, (uint64_t)i, answer);
        add_answer(&free_rate, answer);
    }
    if (masks.n == 0 || bound.n_tokens == 0)
        load_give_up("the schema", "its answers have one token: nothing to measure");
    report(&masks, &bound, &free_rate, in.calls);

    model_free(masks.model);
    device_close(device);
    quire_client_close(client);
    free(masks.us);
    free(answer);
    free(schema);
    return 0;
}
