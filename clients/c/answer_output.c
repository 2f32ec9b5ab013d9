#include "clients/c/answer_output.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "clients/c/client_signals.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 8192
#define ESCAPE_TURN_BYTES 4096
#define SHORT_PHASE_NS NS_PER_S

void answer_output_init(struct answer_output *output, bool as_json, bool is_quiet)
{
    memset(output, 0, sizeof *output);
    output->as_json = as_json;
    output->is_quiet = is_quiet;
    output->out_is_terminal = isatty(STDOUT_FILENO) == 1;
    output->err_is_terminal = isatty(STDERR_FILENO) == 1;
    json_writer_init(&output->json);
    progress_init(&output->progress, &clock_monotonic, "tokens", is_quiet);
}

void answer_output_release(struct answer_output *output)
{
    json_writer_release(&output->json);
}

/* --- standard output --- */

void answer_output_look_for_reader(struct answer_output *output)
{
    struct pollfd look = {.fd = STDOUT_FILENO}; /* POLLERR comes unasked */
    if (poll(&look, 1, 0) > 0 && (look.revents & POLLERR) != 0)
        output->reader_gone = true;
}

/* False, and the reason kept: standard output takes no more. */
static bool may_go_on(struct answer_output *output, int error)
{
    struct pollfd wait = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (error == EINTR)
        return true;
    if (error == EAGAIN) /* somebody else made it non-blocking */
        return poll(&wait, 1, -1) >= 0 || errno == EINTR;
    output->reader_gone = error == EPIPE;
    output->error = output->reader_gone ? 0 : error;
    return false;
}

static bool write_now(struct answer_output *output, const char *bytes, size_t len)
{
    if (len > 0 && output->out_is_terminal)
        progress_clear(&output->progress);
    for (size_t at = 0; at < len;) {
        ssize_t n = write(STDOUT_FILENO, bytes + at, len - at);
        if (n < 0 && !may_go_on(output, errno))
            return false;
        at += n > 0 ? (size_t)n : 0;
        if (at < len && client_signals_caught() != 0)
            return false; /* who does not read may be interrupted */
    }
    return true;
}

static bool write_all(struct answer_output *output, const char *bytes, size_t len)
{
    if (output->reader_gone || output->error != 0)
        return false;
    if (len == 0)
        return true;
    output->in_line = bytes[len - 1] != '\n';
    if (output->holds && len <= sizeof output->held - output->n_held) {
        memcpy(output->held + output->n_held, bytes, len);
        output->n_held += len;
        return true;
    }
    size_t n_held = output->n_held;
    output->n_held = 0;
    return write_now(output, output->held, n_held) && write_now(output, bytes, len);
}

void answer_output_hold(struct answer_output *output)
{
    output->holds = true;
}

bool answer_output_flush(struct answer_output *output)
{
    size_t n_held = output->n_held;
    output->holds = false;
    output->n_held = 0;
    if (output->reader_gone || output->error != 0)
        return false;
    return write_now(output, output->held, n_held);
}

static bool is_control(uint8_t byte)
{
    return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
}

/* Bytes of the character that begins here and may be shown as it is; 0 for a control (those of
 * U+0080..U+009F too) or a stray byte. */
static size_t shown_bytes(const uint8_t *at, size_t left)
{
    if (at[0] < 0x80)
        return is_control(at[0]) ? 0 : 1;
    size_t n = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    if (n > left || !utf8_is_valid(at, n, NULL))
        return 0;
    return at[0] == 0xC2 && at[1] < 0xA0 ? 0 : n;
}

size_t answer_output_escape(const void *bytes, size_t len, char *out)
{
    const uint8_t *at = bytes;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t shown = shown_bytes(at + i, len - i);
        if (shown == 0)
            n += (size_t)sprintf(out + n, "\\x%02X", at[i]);
        else
            memcpy(out + n, at + i, shown);
        n += shown;
        i += shown == 0 ? 1 : shown;
    }
    return n;
}

bool answer_output_text(struct answer_output *output, const void *bytes, size_t len)
{
    char shown[4 * ESCAPE_TURN_BYTES + 1];
    const uint8_t *at = bytes;
    if (!output->out_is_terminal)
        return write_all(output, bytes, len);
    while (len > 0) {
        size_t turn = len <= ESCAPE_TURN_BYTES ? len : utf8_complete_len(at, ESCAPE_TURN_BYTES);
        if (!write_all(output, shown, answer_output_escape(at, turn, shown)))
            return false;
        at += turn;
        len -= turn;
    }
    return true;
}

bool answer_output_raw(struct answer_output *output, const void *bytes, size_t len)
{
    return write_all(output, bytes, len);
}

bool answer_output_format(struct answer_output *output, const char *format, ...)
{
    char text[LINE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return answer_output_text(output, text, len);
}

bool answer_output_end_line(struct answer_output *output)
{
    return !output->in_line || write_all(output, "\n", 1);
}

static bool write_json(struct answer_output *output)
{
    size_t len;
    const char *line = json_writer_line(&output->json, &len);
    if (line == NULL) {
        output->error = ENOMEM;
        return false;
    }
    return write_all(output, line, len);
}

static void begin_event(struct json_writer *json, const char *name)
{
    json_writer_clear(json);
    json_writer_open(json, NULL, '{');
    json_writer_text(json, "event", name, strlen(name));
}

bool answer_output_event(struct answer_output *output, const char *name,
                         const ProtobufCMessage *message)
{
    begin_event(&output->json, name);
    json_writer_fields(&output->json, message);
    json_writer_close(&output->json, '}');
    return write_json(output);
}

/* --- standard error --- */

void answer_output_progress(struct answer_output *output, const char *label, uint64_t n_done,
                            uint64_t n_total, double rate)
{
    bool would_break_line = output->in_line && output->out_is_terminal && output->err_is_terminal;
    if (!would_break_line)
        progress_update(&output->progress, label, n_done, n_total, rate);
}

void answer_output_end_progress(struct answer_output *output)
{
    bool would_break_line = output->in_line && output->out_is_terminal && output->err_is_terminal;
    struct progress *progress = &output->progress;
    bool was_short = clock_now(&clock_monotonic) - progress->started_ns < SHORT_PHASE_NS;
    if (progress->live && was_short)
        progress_clear(progress); /* no line of it stays */
    if (would_break_line || (progress->live && was_short))
        progress->open = false; /* its line was wiped */
    else
        progress_end(progress);
}

void answer_output_complete_progress(struct answer_output *output)
{
    const struct progress *progress = &output->progress;
    if (progress->open && progress->n_total > 0)
        answer_output_progress(output, progress->label, progress->n_total, progress->n_total,
                               progress->rate);
    answer_output_end_progress(output);
}

/* What comes next begins a line of its own, whatever stands on the terminal. */
static void begin_error_line(struct answer_output *output)
{
    answer_output_end_progress(output);
    if (output->out_is_terminal && output->err_is_terminal)
        answer_output_end_line(output);
}

void answer_output_note(struct answer_output *output, const char *format, ...)
{
    char text[LINE_BYTES];
    va_list args;
    if (output->is_quiet)
        return;
    begin_error_line(output);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s\n", text);
}

static void write_error_event(struct answer_output *output, const struct quire_status *status)
{
    struct json_writer *json = &output->json;
    const char *name = quire_status_name(status->code);
    begin_event(json, "error");
    json_writer_int(json, "code", status->code);
    json_writer_text(json, "status", name, strlen(name));
    json_writer_text(json, "message", status->message, strlen(status->message));
    if (status->reason[0] != 0)
        json_writer_text(json, "reason", status->reason, strlen(status->reason));
    if (status->n_details > 0) {
        json_writer_open(json, "details", '{');
        for (size_t i = 0; i < status->n_details; i++)
            json_writer_text(json, status->details[i].key, status->details[i].value,
                             strlen(status->details[i].value));
        json_writer_close(json, '}');
    }
    json_writer_close(json, '}');
    write_json(output);
}

void answer_output_failure(struct answer_output *output, const struct quire_status *status)
{
    char shown[4 * QUIRE_MESSAGE_BYTES + 1], numbers[4096] = "", shown_numbers[4 * 4096 + 1];
    size_t n = 0;
    if (output->as_json)
        write_error_event(output, status);
    begin_error_line(output);
    shown[answer_output_escape(status->message, strlen(status->message), shown)] = 0;
    if (shown[0] == 0)
        snprintf(shown, sizeof shown, "the server refused without a reason (%s)",
                 quire_status_name(status->code));
    fprintf(stderr, "quire: %s\n", shown);
    if (status->reason[0] == 0)
        return;
    for (size_t i = 0; i < status->n_details && n < sizeof numbers; i++)
        n += (size_t)snprintf(numbers + n, sizeof numbers - n, " %s=%s", status->details[i].key,
                              status->details[i].value);
    shown_numbers[answer_output_escape(numbers, strlen(numbers), shown_numbers)] = 0;
    fprintf(stderr, "       (%s %s%s%s)\n", quire_status_name(status->code), status->reason,
            n > 0 ? ":" : "", shown_numbers);
}
