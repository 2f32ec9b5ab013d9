#include "service/wire.h"
#include "service/wire_memory.h"
#include "service/wire_request.h"

#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <string.h>

static int read_options(const Quire__V1__SummarizeOptions *in, struct wire_summary_options *out,
                        struct why *why)
{
    *out = (struct wire_summary_options){
        .sampling = SAMPLING_DEFAULT,
        .max_tokens = DEFAULT_SUMMARY_TOKENS,
        .section_max_tokens = DEFAULT_SECTION_SUMMARY_TOKENS,
    };
    out->sampling.temperature = 0;
    out->sampling.repetition = SUMMARY_REPETITION_PENALTY;
    if (in->opt_instruction_case) {
        out->instruction = wire_slice(in->instruction);
        if (wire_check_text("instruction", in->instruction, why) < 0)
            return STATUS_INVALID;
    }
    if (in->opt_section_tokens_case) {
        out->section_tokens = in->section_tokens;
        if (out->section_tokens < SECTION_TOKENS_MIN)
            return refuse_numbers(
                why, STATUS_INVALID,
                (struct why_numbers){out->section_tokens, SECTION_TOKENS_MIN, "tokens", NULL},
                "section_tokens is %u; it takes %d or more, or leave it out",
                out->section_tokens, SECTION_TOKENS_MIN);
    }
    if (in->opt_max_tokens_case)
        out->max_tokens = in->max_tokens;
    if (in->opt_section_max_tokens_case)
        out->section_max_tokens = in->section_max_tokens;
    if (out->max_tokens == 0 || out->section_max_tokens == 0)
        return refuse_numbers(why, STATUS_INVALID, (struct why_numbers){0, 1, "tokens", NULL},
                              "%s is 0; it takes 1 or more, or leave it out",
                              out->max_tokens == 0 ? "max_tokens" : "section_max_tokens");
    if (in->opt_total_bytes_case)
        out->total_bytes = in->total_bytes;
    out->replaces_invalid = in->replace_invalid;
    if (wire_read_salt(in->cache_salt, &out->cache_salt, why) < 0)
        return STATUS_INVALID;
    return wire_read_sampling(in->sampling, &out->sampling, why);
}

int wire_unpack_summarize(struct arena *arena, struct slice body, struct wire_summarize *out,
                          struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&quire__v1__summarize_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;

    const Quire__V1__SummarizeRequest *in = (const Quire__V1__SummarizeRequest *)message;
    *out = (struct wire_summarize){.has_options = false};
    switch (in->part_case) {
    case QUIRE__V1__SUMMARIZE_REQUEST__PART_OPTIONS:
        out->has_options = true;
        return read_options(in->options, &out->options, why);
    case QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT:
        out->text = wire_slice(in->text);
        return STATUS_OK;
    default:
        return refuse(why, STATUS_INVALID,
                      "the message holds neither options nor text: send options first, then text");
    }
}

/* --- events --- */

static size_t pack_event(uint8_t *out, size_t cap, Quire__V1__SummarizeEvent__EventCase kind,
                         void *part)
{
    Quire__V1__SummarizeEvent event = QUIRE__V1__SUMMARIZE_EVENT__INIT;
    event.event_case = kind;
    event.accepted = part; /* all members of the union are pointers to messages */
    return wire_pack(out, cap, &event.base);
}

size_t wire_pack_summary_accepted(uint8_t *out, size_t cap, const char *id, uint64_t seed)
{
    Quire__V1__SummarizeAccepted accepted = QUIRE__V1__SUMMARIZE_ACCEPTED__INIT;
    accepted.id = wire_bytes(id, strlen(id));
    accepted.seed = seed;
    return pack_event(out, cap, QUIRE__V1__SUMMARIZE_EVENT__EVENT_ACCEPTED, &accepted);
}

size_t wire_pack_summary_progress(uint8_t *out, size_t cap, const struct wire_progress *progress)
{
    static const Quire__V1__Phase phases[] = {
        [WIRE_PHASE_UPLOAD] = QUIRE__V1__PHASE__PHASE_UPLOAD,
        [WIRE_PHASE_WAITING] = QUIRE__V1__PHASE__PHASE_WAITING,
        [WIRE_PHASE_PREFILL] = QUIRE__V1__PHASE__PHASE_PREFILL,
        [WIRE_PHASE_SECTIONS] = QUIRE__V1__PHASE__PHASE_SECTIONS,
        [WIRE_PHASE_ANSWER] = QUIRE__V1__PHASE__PHASE_ANSWER,
    };
    Quire__V1__Progress message = QUIRE__V1__PROGRESS__INIT;
    message.phase = phases[progress->phase];
    message.done = progress->n_done;
    message.total = progress->n_total;
    message.per_second = progress->per_s;
    message.seconds_left = progress->left_s;
    return pack_event(out, cap, QUIRE__V1__SUMMARIZE_EVENT__EVENT_PROGRESS, &message);
}

size_t wire_pack_section(uint8_t *out, size_t cap, const struct wire_section *section)
{
    Quire__V1__SectionDelta delta = QUIRE__V1__SECTION_DELTA__INIT;
    delta.level = section->level;
    delta.index = section->index;
    delta.begin = section->begin;
    delta.end = section->end;
    delta.text = wire_bytes(section->text.bytes, section->text.len);
    delta.last = section->is_last;
    return pack_event(out, cap, QUIRE__V1__SUMMARIZE_EVENT__EVENT_SECTION, &delta);
}

size_t wire_pack_summary_delta(uint8_t *out, size_t cap, struct slice text)
{
    Quire__V1__SummaryDelta delta = QUIRE__V1__SUMMARY_DELTA__INIT;
    delta.text = wire_bytes(text.bytes, text.len);
    return pack_event(out, cap, QUIRE__V1__SUMMARIZE_EVENT__EVENT_DELTA, &delta);
}

size_t wire_pack_summary_finished(uint8_t *out, size_t cap, const struct wire_summary *summary)
{
    Quire__V1__SummarizeFinished finished = QUIRE__V1__SUMMARIZE_FINISHED__INIT;
    Quire__V1__Usage usage = QUIRE__V1__USAGE__INIT;

    finished.reason = summary->reason == FINISH_STOP
                          ? QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP
                          : QUIRE__V1__FINISH_REASON__FINISH_REASON_LENGTH;
    finished.covered_bytes = summary->n_covered;
    finished.total_bytes = summary->n_total;
    finished.sections = summary->n_sections;
    finished.levels = summary->n_levels;
    finished.replaced_bytes = summary->n_replaced;
    usage.prompt_tokens = summary->n_prompt;
    usage.completion_tokens = summary->n_completion;
    finished.usage = &usage;
    finished.seconds = summary->seconds;
    return pack_event(out, cap, QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED, &finished);
}
