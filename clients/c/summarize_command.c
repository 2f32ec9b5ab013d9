/* clients/c/summarize_command.c: `quire summarize`: a document of any size to its summary. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/message_codec.h"
#include "clients/c/sampling_options.h"
#include "clients/c/section_order.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define METHOD "/quire.v1.Quire/Summarize"
#define PIECE_BYTES 65536

struct summarize_options {
    struct client_options client; /* first */
    struct sampling_options sampling;
    const char *instruction;
    bool section_tokens_given, max_tokens_given, section_max_tokens_given, replace_invalid;
    int64_t section_tokens, max_tokens, section_max_tokens;
};

#define FIELD(name) offsetof(struct summarize_options, name)

static const struct option options[] = {
    {"section-tokens", 0, OPTION_INT, FIELD(section_tokens), NULL, "N",
     "read sections of about this many tokens; when not given, the whole document where it fits",
     SECTION_TOKENS_MIN, 4294967295.0, NULL, FIELD(section_tokens_given)},
    {"instruction", 0, OPTION_TEXT, FIELD(instruction), NULL, "TEXT",
     "what the summary is wanted for", 0, 0, NULL, 0},
    {"max-tokens", 'n', OPTION_INT, FIELD(max_tokens), NULL, "N",
     "tokens of the final summary at most; 512 when not given", 1, 4294967295.0, NULL,
     FIELD(max_tokens_given)},
    {"section-max-tokens", 0, OPTION_INT, FIELD(section_max_tokens), NULL, "N",
     "tokens of each section's summary at most; 160 when not given", 1, 4294967295.0, NULL,
     FIELD(section_max_tokens_given)},
    {"replace-invalid", 0, OPTION_FLAG, FIELD(replace_invalid), NULL, NULL,
     "read bytes that are no UTF-8 as U+FFFD, and count them, instead of refusing the document", 0,
     0, NULL, 0},
    SAMPLING_OPTION_ROWS(struct summarize_options, "0", "1.1"),
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "summarize",
    .usage = "quire summarize FILE|- [options]",
    .summary = "Summarizes a document of any size: section by section where it is too long to be "
               "read whole, and then the whole. The last line on standard error says how much of "
               "it went through the model.",
    .options = options,
    .examples = "  quire summarize report.txt\n"
                "  pdftotext book.pdf - | quire summarize - --section-tokens 2000\n"
                "  quire summarize notes.md --instruction 'What was decided?' --json\n",
    .operands_min = 1,
    .operands_max = 1,
};

struct summarize_run {
    struct client_run client;
    struct section_order sections;
    bool any_section, any_summary, finished;
    uint64_t covered_bytes, total_bytes;
};

/* --- events --- */

static const char *phase_name(Quire__V1__Phase phase)
{
    switch (phase) {
    case QUIRE__V1__PHASE__PHASE_UPLOAD:
        return "upload";
    case QUIRE__V1__PHASE__PHASE_WAITING:
        return "waiting";
    case QUIRE__V1__PHASE__PHASE_PREFILL:
        return "prefill";
    case QUIRE__V1__PHASE__PHASE_SECTIONS:
        return "sections";
    case QUIRE__V1__PHASE__PHASE_ANSWER:
        return "summary";
    default:
        return "working";
    }
}

static void show_progress(struct summarize_run *run, const Quire__V1__Progress *progress)
{
    struct answer_output *output = &run->client.output;
    if (run->any_summary && output->out_is_terminal)
        return; /* the summary itself is seen to grow */
    const char *unit = progress->phase == QUIRE__V1__PHASE__PHASE_UPLOAD    ? "bytes"
                       : progress->phase == QUIRE__V1__PHASE__PHASE_WAITING ? "calls"
                                                                            : "tokens";
    if (strcmp(unit, output->progress.unit) != 0)
        answer_output_end_progress(output); /* it is told in its own unit */
    output->progress.unit = unit;
    answer_output_progress(output, phase_name(progress->phase), progress->done, progress->total,
                           progress->per_second);
}

static bool begin_part(struct answer_output *output, bool is_first)
{
    return answer_output_end_line(output) && (is_first || answer_output_text(output, "\n", 1));
}

/* section_order shows: */
static bool show_section(void *arg, const struct section_piece *piece)
{
    struct summarize_run *run = arg;
    struct answer_output *output = &run->client.output;
    char level[32] = "";
    bool ok = true;
    if (piece->first) {
        if (piece->level > 0)
            snprintf(level, sizeof level, "level %" PRIu32 ", ", piece->level + 1);
        ok =
            begin_part(output, !run->any_section) &&
            answer_output_format(output, "[%ssection %" PRIu32 ", bytes %" PRIu64 "-%" PRIu64 "]\n",
                                 level, piece->index + 1, piece->begin, piece->end);
        run->any_section = true;
    }
    ok = ok && answer_output_text(output, piece->text, piece->len);
    return ok && (!piece->last || answer_output_end_line(output));
}

static bool add_section(struct summarize_run *run, const Quire__V1__SectionDelta *delta)
{
    struct section_piece piece = {.level = delta->level,
                                  .index = delta->index,
                                  .begin = delta->begin,
                                  .end = delta->end,
                                  .text = delta->text.data,
                                  .len = delta->text.len,
                                  .last = delta->last};
    const struct answer_output *output = &run->client.output;
    bool ok = section_order_add(&run->sections, &piece);
    if (!ok && !output->reader_gone && output->error == 0)
        quire_status_set(&run->client.status, QUIRE_INTERNAL,
                         "section %" PRIu32 " of level %" PRIu32 " came out of order", piece.index,
                         piece.level);
    return ok;
}

static bool show_summary(struct summarize_run *run, const Quire__V1__SummaryDelta *delta)
{
    struct answer_output *output = &run->client.output;
    bool ok = true;
    if (!run->any_summary) {
        answer_output_complete_progress(output); /* the first token: all was read */
        ok = section_order_flush(&run->sections);
    }
    if (ok && !run->any_summary && run->any_section)
        ok = begin_part(output, false) && answer_output_format(output, "[summary]\n");
    run->any_summary = true;
    return ok && answer_output_text(output, delta->text.data, delta->text.len);
}

static bool show_end(struct summarize_run *run, const Quire__V1__SummarizeFinished *finished)
{
    struct answer_output *output = &run->client.output;
    char time[TEXT_NUMBER_BYTES], reason[64], prompt[TEXT_NUMBER_BYTES], answer[TEXT_NUMBER_BYTES];
    Quire__V1__Usage usage = QUIRE__V1__USAGE__INIT;
    if (finished->usage != NULL)
        usage = *finished->usage;
    if (!section_order_flush(&run->sections) || !answer_output_end_line(output))
        return false;
    json_writer_enum_name(&quire__v1__finish_reason__descriptor, (int)finished->reason, reason);
    answer_output_note(output,
                       "covered %" PRIu64 " of %" PRIu64 " bytes in %" PRIu32
                       " section%s: %s tokens read, %s written in %s, ended by %s",
                       finished->covered_bytes, finished->total_bytes, finished->sections,
                       finished->sections == 1 ? "" : "s", text_count(prompt, usage.prompt_tokens),
                       text_count(answer, usage.completion_tokens),
                       text_duration(time, finished->seconds), reason);
    if (finished->replaced_bytes > 0)
        answer_output_note(output,
                           "%" PRIu64 " invalid sequence%s of bytes became U+FFFD",
                           finished->replaced_bytes, finished->replaced_bytes == 1 ? "" : "s");
    return true;
}

static bool show_event(struct summarize_run *run, const Quire__V1__SummarizeEvent *event)
{
    switch (event->event_case) {
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_PROGRESS:
        show_progress(run, event->progress);
        return true;
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_SECTION:
        return add_section(run, event->section);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_DELTA:
        return show_summary(run, event->delta);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED:
        return show_end(run, event->finished);
    default:
        return true; /* accepted, and what later servers may say */
    }
}

static bool write_event(struct answer_output *output, const Quire__V1__SummarizeEvent *event)
{
    switch (event->event_case) {
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_ACCEPTED:
        return answer_output_event(output, "accepted", &event->accepted->base);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_PROGRESS:
        return answer_output_event(output, "progress", &event->progress->base);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_SECTION:
        return answer_output_event(output, "section", &event->section->base);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_DELTA:
        return answer_output_event(output, "delta", &event->delta->base);
    case QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED:
        return answer_output_event(output, "finished", &event->finished->base);
    default:
        return true;
    }
}

static bool on_event(void *arg, const void *bytes, size_t len)
{
    struct summarize_run *run = arg;
    Quire__V1__SummarizeEvent *event =
        client_run_unpack(&run->client, &quire__v1__summarize_event__descriptor, bytes, len);
    if (event == NULL)
        return false;
    if (event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED) {
        run->finished = true;
        run->covered_bytes = event->finished->covered_bytes;
        run->total_bytes = event->finished->total_bytes;
    }
    return run->client.options->json ? write_event(&run->client.output, event)
                                     : show_event(run, event);
}

/* --- the document --- */

/* *total_bytes: 0 when it is not known before the end. */
static int open_document(const char *path, int *fd, uint64_t *total_bytes, struct why *why)
{
    struct stat about;
    bool is_pipe = strcmp(path, "-") == 0;
    *total_bytes = 0;
    *fd = is_pipe ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &about) < 0)
        return refuse(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                      "cannot read %.200s: %s", is_pipe ? "standard input" : path, strerror(errno));
    if (S_ISDIR(about.st_mode))
        return refuse(why, STATUS_IO, "cannot read %.200s: it is a folder", path);
    off_t at = lseek(*fd, 0, SEEK_CUR);
    if (S_ISREG(about.st_mode) && at >= 0 && about.st_size >= at)
        *total_bytes = (uint64_t)(about.st_size - at);
    return STATUS_OK;
}

static bool send_request(struct client_run *run, struct quire_call *call,
                         const Quire__V1__SummarizeRequest *request)
{
    size_t len;
    void *bytes = message_codec_pack(&request->base, &len);
    if (bytes == NULL) {
        quire_status_set(&run->status, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
        return false;
    }
    bool sent = quire_call_send(call, bytes, len, false);
    free(bytes);
    return sent;
}

/* Pieces as they can be read; what the server says meanwhile is shown. */
static void upload(struct client_run *run, struct quire_call *call, int fd)
{
    static uint8_t piece[PIECE_BYTES];
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT;
    while (quire_call_wait_readable(call, fd)) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0) {
            quire_status_set(&run->status, QUIRE_UNKNOWN, "cannot read the document: %s",
                             strerror(errno));
            return;
        }
        if (n == 0) {
            quire_call_send_end(call);
            return;
        }
        request.text = message_codec_bytes(piece, (size_t)n);
        if (!send_request(run, call, &request))
            return;
    }
}

static void fill_options(const struct summarize_options *in, uint64_t total_bytes,
                         Quire__V1__SummarizeOptions *out)
{
    if (in->instruction != NULL) {
        out->opt_instruction_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_INSTRUCTION_INSTRUCTION;
        out->instruction = message_codec_text(in->instruction);
    }
    if (in->section_tokens_given) {
        out->opt_section_tokens_case =
            QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_TOKENS_SECTION_TOKENS;
        out->section_tokens = (uint32_t)in->section_tokens;
    }
    if (in->max_tokens_given) {
        out->opt_max_tokens_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_MAX_TOKENS_MAX_TOKENS;
        out->max_tokens = (uint32_t)in->max_tokens;
    }
    if (in->section_max_tokens_given) {
        out->opt_section_max_tokens_case =
            QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_MAX_TOKENS_SECTION_MAX_TOKENS;
        out->section_max_tokens = (uint32_t)in->section_max_tokens;
    }
    out->replace_invalid = in->replace_invalid;
    if (total_bytes > 0) {
        out->opt_total_bytes_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_TOTAL_BYTES_TOTAL_BYTES;
        out->total_bytes = total_bytes;
    }
}

/* The end of a stream that said OK proves nothing alone. */
static void check_end(struct summarize_run *run)
{
    if (run->client.status.code != QUIRE_OK)
        return;
    if (!run->finished)
        quire_status_set(&run->client.status, QUIRE_INTERNAL,
                         "the server ended the stream without its last event");
    else if (run->covered_bytes != run->total_bytes)
        quire_status_set(&run->client.status, QUIRE_INTERNAL,
                         "only %" PRIu64 " of %" PRIu64 " bytes went through the model",
                         run->covered_bytes, run->total_bytes);
}

static void call_server(struct summarize_run *run, Quire__V1__SummarizeOptions *first, int fd)
{
    struct quire_call_options call_options = client_run_call_options(&run->client);
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    call_options.on_message = on_event;
    call_options.arg = run;
    struct quire_call *call = quire_call_open(run->client.client, METHOD, &call_options);
    if (call == NULL) {
        quire_status_set(&run->client.status, QUIRE_RESOURCE_EXHAUSTED, "no memory for a call");
        return;
    }
    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_OPTIONS;
    request.options = first;
    if (send_request(&run->client, call, &request))
        upload(&run->client, call, fd);
    if (run->client.status.code != QUIRE_OK)
        quire_call_cancel(call);
    const struct quire_status *status = quire_call_wait(call);
    if (run->client.status.code == QUIRE_OK)
        run->client.status = *status;
    quire_call_free(call);
    check_end(run);
}

int summarize_command(int argc, char **argv)
{
    struct summarize_options in = {.instruction = NULL};
    struct summarize_run run = {.finished = false};
    struct why why = {.text = ""};
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    Quire__V1__SummarizeOptions first = QUIRE__V1__SUMMARIZE_OPTIONS__INIT;
    const char *path;
    uint64_t total_bytes;
    int n_operands, exit_status, fd;
    if (!client_run_parse(&run.client, &command, argc, argv, &in, &path, &n_operands, &exit_status))
        return exit_status;
    if (sampling_options_fill(&in.sampling, &sampling, &why) < 0)
        return client_run_refuse_usage(&run.client, &why);
    int status = open_document(path, &fd, &total_bytes, &why);
    if (status < 0) {
        if (fd > STDIN_FILENO)
            close(fd);
        return client_run_refuse(&run.client, status, &why);
    }
    section_order_init(&run.sections, show_section, &run);
    fill_options(&in, total_bytes, &first);
    first.sampling = &sampling;
    if (client_run_open(&run.client))
        call_server(&run, &first, fd);
    section_order_release(&run.sections);
    if (fd != STDIN_FILENO)
        close(fd);
    return client_run_close(&run.client);
}
