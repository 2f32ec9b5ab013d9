/* clients/c/answer_output.h: what a client subcommand shows: answers on standard output, progress
 * and closing lines on standard error, and neither in the other's way.
 *
 *   standard output   text as it is; on a terminal with controls escaped (but \n and \t)
 *                     or, with --json, one object a line
 *   standard error    progress, closing line; nothing with --quiet
 *
 * A live progress line is wiped before an answer is written, and is not drawn while an unfinished
 * line of the answer stands on the same terminal. A reader that went away (EPIPE) is remembered:
 * the command cancels its call and ends quietly. Thread: one.
 */
#ifndef QUIRE_CLIENTS_C_ANSWER_OUTPUT_H
#define QUIRE_CLIENTS_C_ANSWER_OUTPUT_H

#include "base/progress.h"
#include "clients/c/json_writer.h"
#include "clients/c/quire_status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#define ANSWER_HELD_BYTES 8192

struct answer_output {
    struct progress progress;
    struct json_writer json;
    bool as_json, is_quiet;
    bool out_is_terminal, err_is_terminal;
    bool in_line;     /* the last byte of the answer was no newline */
    bool reader_gone; /* EPIPE */
    int error;        /* errno of another failure to write; 0: none */
    bool holds;
    size_t n_held;
    char held[ANSWER_HELD_BYTES]; /* gathered, not yet written */
};

void answer_output_init(struct answer_output *output, bool as_json, bool is_quiet);
void answer_output_release(struct answer_output *output);

/* Remembers a reader that went away, though nothing was written to it since. */
void answer_output_look_for_reader(struct answer_output *output);

/* All of these return false when the output takes no more. */
bool answer_output_text(struct answer_output *output, const void *bytes, size_t len);
bool answer_output_raw(struct answer_output *output, const void *bytes, size_t len); /* as it is */
bool answer_output_format(struct answer_output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool answer_output_end_line(struct answer_output *output); /* a newline unless one stands there */
/* Many small texts as few writes: what comes from now on is gathered, until flush writes it. */
void answer_output_hold(struct answer_output *output);
bool answer_output_flush(struct answer_output *output);
/* {"event":"NAME", fields of message} */
bool answer_output_event(struct answer_output *output, const char *name,
                         const ProtobufCMessage *message);

/* Progress of a phase; rate 0: computed. */
void answer_output_progress(struct answer_output *output, const char *label, uint64_t n_done,
                            uint64_t n_total, double rate);
void answer_output_end_progress(struct answer_output *output);
/* The same of a phase that is known to be done, whatever was told of it last. */
void answer_output_complete_progress(struct answer_output *output);
/* A line on standard error, after the progress; nothing when quiet. */
void answer_output_note(struct answer_output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says how a call failed: "quire: sentence" with the server's numbers on standard error, and with
 * --json an event "error". */
void answer_output_failure(struct answer_output *output, const struct quire_status *status);

/* Shows text on a terminal: controls other than \n and \t, and bytes that are no UTF-8, as \xNN.
 * out holds 4 * len bytes; returns bytes written. */
size_t answer_output_escape(const void *bytes, size_t len, char *out);

#endif
