/* clients/c/chat_command.c: `quire chat`: a conversation, line by line. */
#include "clients/c/chat_history.h"
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/client_signals.h"
#include "clients/c/line_input.h"
#include "clients/c/message_codec.h"
#include "clients/c/sampling_options.h"
#include "clients/c/text_input.h"
#include "limits.h"

#include "base/text.h"
#include "base/utf8.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define METHOD "/quire.v1.Quire/Generate"

struct chat_options {
    struct client_options client; /* first */
    struct sampling_options sampling;
    const char *system;
    bool max_tokens_given;
    int64_t max_tokens;
    int truncate;
};

#define FIELD(name) offsetof(struct chat_options, name)

static const struct option options[] = {
    {"system", 0, OPTION_TEXT, FIELD(system), NULL, "TEXT|@FILE", "the system's message", 0, 0,
     NULL, 0},
    {"max-tokens", 'n', OPTION_INT, FIELD(max_tokens), NULL, "N",
     "tokens of each answer at most; as many as fit when not given", 1, 4294967295.0, NULL,
     FIELD(max_tokens_given)},
    {"truncate", 0, OPTION_CHOICE, FIELD(truncate), "never", "WHAT",
     "when the conversation outgrows the context: never (the turn is refused), or oldest (the "
     "oldest messages are left out, and you are told how many tokens that were)",
     0, 0, "never|oldest", 0},
    SAMPLING_OPTION_ROWS(struct chat_options, "1", "1"),
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "chat",
    .usage = "quire chat [options]",
    .summary = "A conversation: each line you type is answered, with all lines before it in mind. "
               "Ctrl-C cancels an answer, or the line you type; Ctrl-D, or /exit, ends. /clear "
               "forgets what was said, /help shows this.",
    .options = options,
    .examples = "  quire chat --model model.gguf\n"
                "  quire chat --server 127.0.0.1:7070 --system 'Be brief.' --temperature 0.7\n"
                "  printf 'Hi\\nAnd again?\\n' | quire chat --quiet --truncate oldest\n",
};

struct chat_run {
    struct client_run client; /* first */
    const struct chat_options *in;
    Quire__V1__Sampling sampling;
    struct chat_history history;
    bool has_begun, finished, is_full; /* the answer, twice; memory is out */
    bool is_typed;                     /* on a terminal */
};

/* --- one turn --- */

static bool take_delta(struct chat_run *run, const Quire__V1__Delta *delta)
{
    struct answer_output *output = &run->client.output;
    answer_output_complete_progress(output);
    run->is_full = !chat_history_extend(&run->history, delta->text.data, delta->text.len);
    return !run->is_full && answer_output_text(output, delta->text.data, delta->text.len);
}

static void tell_cut(struct answer_output *output, const Quire__V1__Accepted *accepted)
{
    char tokens[TEXT_NUMBER_BYTES];
    if (accepted->truncated_messages > 0)
        answer_output_note(output, "left out: the oldest %u messages, %s tokens",
                           accepted->truncated_messages,
                           text_count(tokens, accepted->truncated_tokens));
}

static bool take_event(struct chat_run *run, const Quire__V1__GenerateEvent *event)
{
    struct answer_output *output = &run->client.output;
    switch (event->event_case) {
    case QUIRE__V1__GENERATE_EVENT__EVENT_ACCEPTED:
        tell_cut(output, event->accepted);
        return true;
    case QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS:
        answer_output_progress(output, "reading", event->progress->done, event->progress->total,
                               event->progress->per_second);
        return true;
    case QUIRE__V1__GENERATE_EVENT__EVENT_DELTA:
        return take_delta(run, event->delta);
    case QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED:
        run->finished = true;
        return true;
    default:
        return true;
    }
}

static bool write_event(struct chat_run *run, const Quire__V1__GenerateEvent *event)
{
    static const struct {
        Quire__V1__GenerateEvent__EventCase kind;
        const char *name;
    } names[] = {
        {QUIRE__V1__GENERATE_EVENT__EVENT_ACCEPTED, "accepted"},
        {QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS, "progress"},
        {QUIRE__V1__GENERATE_EVENT__EVENT_DELTA, "delta"},
        {QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED, "finished"},
    };
    if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA)
        run->is_full = !chat_history_extend(&run->history, event->delta->text.data,
                                            event->delta->text.len);
    if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED)
        run->finished = true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].kind == event->event_case) /* all members are pointers to messages */
            return !run->is_full && answer_output_event(&run->client.output, names[i].name,
                                                        &event->accepted->base);
    return true;
}

static bool on_event(void *arg, const void *bytes, size_t len)
{
    struct chat_run *run = arg;
    Quire__V1__GenerateEvent *event =
        client_run_unpack(&run->client, &quire__v1__generate_event__descriptor, bytes, len);
    if (event == NULL)
        return false;
    run->has_begun = true;
    return run->client.options->json ? write_event(run, event) : take_event(run, event);
}

/* A person may think for longer than a server keeps a connection without calls, or than it runs. */
static bool call(struct chat_run *run, const void *packed, size_t len)
{
    struct client_run *client = &run->client;
    run->has_begun = false;
    if (client_run_call_packed(client, METHOD, packed, len, on_event, run))
        return true;
    bool was_lost = client->status.code == QUIRE_UNAVAILABLE && client->status.is_local;
    return was_lost && !run->has_begun && client_run_reopen(client) &&
           client_run_call_packed(client, METHOD, packed, len, on_event, run);
}

static bool ask(struct chat_run *run)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__Chat chat = QUIRE__V1__CHAT__INIT;

    chat.messages = run->history.list;
    chat.n_messages = run->history.n;
    chat.truncate = run->in->truncate == 1 ? QUIRE__V1__TRUNCATE__TRUNCATE_OLDEST
                                           : QUIRE__V1__TRUNCATE__TRUNCATE_NEVER;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
    request.chat = &chat;
    request.content = QUIRE__V1__CONTENT__CONTENT_TEXT;
    request.sampling = &run->sampling;
    if (run->in->max_tokens_given) {
        request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
        request.max_tokens = (uint32_t)run->in->max_tokens;
    }
    /* the answer is appended behind what is sent, which is packed by then */
    size_t len;
    void *packed = message_codec_pack(&request.base, &len);
    bool ok = packed != NULL && chat_history_add(&run->history, "assistant", NULL, 0);
    run->is_full = !ok;
    run->finished = false;
    ok = ok && call(run, packed, len);
    free(packed);
    if (ok && !run->finished)
        quire_status_set(&run->client.status, QUIRE_INTERNAL,
                         "the server ended the stream without its last event");
    return ok && run->finished;
}

/* A pipe has nobody who would start the server again. */
static bool is_over(const struct chat_run *run, bool was_cancelled)
{
    const struct client_run *client = &run->client;
    bool has_no_server = client->status.code == QUIRE_UNAVAILABLE && client->status.is_local;
    return client->output.reader_gone || client->output.error != 0 ||
           (client_signals_caught() != 0 && !was_cancelled) ||
           (has_no_server && (!run->is_typed || client->options->model != NULL));
}

/* What the failed or cancelled turn leaves: a part of an answer stays; of a turn without any, the
 * question goes too. False: there is no going on. */
static bool settle(struct chat_run *run, size_t n_before)
{
    struct quire_status *status = &run->client.status;
    bool was_cancelled = client_signals_caught() == SIGINT;

    answer_output_end_progress(&run->client.output);
    answer_output_end_line(&run->client.output);
    if (run->is_full)
        quire_status_set(status, QUIRE_RESOURCE_EXHAUSTED, "no memory for this conversation");
    if (chat_history_last_bytes(&run->history) == 0 || run->is_full)
        chat_history_drop(&run->history, n_before);
    if (is_over(run, was_cancelled))
        return false;
    if (was_cancelled)
        answer_output_note(&run->client.output, "cancelled");
    else
        answer_output_failure(&run->client.output, status);
    quire_status_set(status, QUIRE_OK, "%s", "");
    client_signals_forget();
    return true;
}

static bool take_turn(struct chat_run *run, const char *line, size_t len)
{
    size_t n_before = run->history.n;
    if (!chat_history_add(&run->history, "user", line, len)) {
        quire_status_set(&run->client.status, QUIRE_RESOURCE_EXHAUSTED,
                         "no memory for this conversation");
        return false;
    }
    if (!ask(run))
        return settle(run, n_before);
    answer_output_end_progress(&run->client.output); /* an answer may be empty */
    answer_output_end_line(&run->client.output);
    return true;
}

/* --- the conversation --- */

static bool is_word(const char *line, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(line, word, len) == 0;
}

/* There is nothing to cancel while a line is awaited: signals end the program, but for Ctrl-C on a
 * terminal, even where it meant the answer and came after its end. NULL: no more lines. */
static const char *await_line(struct line_input *input, size_t *len)
{
    line_input_prepare(input);
    if (line_input_is_terminal(input)) {
        if (client_signals_caught() == SIGINT)
            client_signals_forget();
        client_signals_release_but_interrupt();
    } else {
        client_signals_release();
    }
    const char *line = client_signals_caught() == 0 ? line_input_next(input, len) : NULL;
    client_signals_catch();
    return line;
}

static void converse(struct chat_run *run, struct line_input *input, size_t n_kept)
{
    size_t len, bad;

    for (;;) {
        const char *line = await_line(input, &len);
        if (line == NULL)
            break;
        if (len == 0)
            continue;
        if (is_word(line, len, "/exit"))
            return;
        if (is_word(line, len, "/help")) {
            answer_output_note(&run->client.output, "%s", command.summary);
        } else if (is_word(line, len, "/clear")) {
            chat_history_drop(&run->history, n_kept);
            answer_output_note(&run->client.output, "forgotten");
        } else if (!utf8_is_valid((const uint8_t *)line, len, &bad)) {
            answer_output_note(&run->client.output, "this line is not UTF-8 at byte %zu", bad);
        } else if (!take_turn(run, line, len)) {
            return;
        }
    }
    if (line_input_is_terminal(input))
        answer_output_note(&run->client.output, "%s", "");
}

static int begin(struct chat_run *run, struct line_input **input, struct why *why)
{
    struct text_input system = {.bytes = NULL};
    int status = STATUS_OK;

    if (run->in->system != NULL)
        status = text_input_argument(run->in->system, GENERATE_MESSAGE_BYTES_MAX, &system, why);
    if (status == STATUS_OK && run->in->system != NULL)
        status = text_input_check(&system, "the system's message", why);
    if (status == STATUS_OK && run->in->system != NULL &&
        !chat_history_add(&run->history, "system", system.bytes, system.len))
        status = refuse(why, STATUS_NO_MEMORY, "no memory for the system's message");
    text_input_release(&system);
    return status == STATUS_OK ? line_input_open("> ", input, why) : status;
}

int chat_command(int argc, char **argv)
{
    struct chat_options in = {.system = NULL};
    struct chat_run run = {.in = &in};
    struct line_input *input = NULL;
    struct why why = {.text = ""};
    int n_operands, exit_status;

    if (!client_run_parse(&run.client, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    quire__v1__sampling__init(&run.sampling);
    if (in.system != NULL && strcmp(in.system, "-") == 0)
        refuse(&why, STATUS_INVALID,
               "--system - is standard input, where the lines come from: give the text, or @FILE");
    if (why.text[0] != '\0' || sampling_options_fill(&in.sampling, &run.sampling, &why) < 0)
        return client_run_refuse_usage(&run.client, &why);
    int status = begin(&run, &input, &why);
    if (status < 0) {
        chat_history_release(&run.history);
        return client_run_refuse(&run.client, status, &why);
    }
    run.is_typed = line_input_is_terminal(input);
    if (client_run_open(&run.client))
        converse(&run, input, run.history.n);
    line_input_close(input);
    chat_history_release(&run.history);
    return client_run_close(&run.client);
}
