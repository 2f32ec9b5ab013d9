/* Ends of runs. A run ends at once, and its reader hears of it when its pages are home: who asks
 * anew on that word finds them free. */
#include "engine/engine_state.h"

#include <stddef.h>
#include <stdio.h>

static double seconds(int64_t ns)
{
    return (double)ns / NS_PER_S;
}

void finish_run(struct engine *engine, struct sequence *sequence, enum sequence_end end)
{
    struct sequence *other = sequence->next_choice;

    sequence->next_choice = NULL;
    sequence->end = end;
    sequence->ended_ns = clock_now(engine->clock);
    sequence_set_state(sequence, SEQUENCE_FINISHED, &engine->counts, sequence->ended_ns);
    if (other != NULL && other->state != SEQUENCE_FINISHED)
        finish_run(engine, other, end); /* not forked: nobody would read its prompt */
}

static void publish_finished(struct engine *engine, const struct sequence *sequence)
{
    const struct submit *submit = sequence->submit;
    struct event *event = publish_begin(engine, EVENT_FINISHED, submit->call_id, submit->tag,
                                        EVENT_BYTES_OF(finished));

    event->finished = (struct event_finished){
        .reason = sequence->end == END_STOP ? FINISH_STOP : FINISH_LENGTH,
        .stop_idx = sequence->stop.matched,
        .n_prompt = submit->n_ids,
        .n_completion = sequence->n_generated,
        .n_cached = sequence->n_cached,
        .cache_end = (enum cache_end)sequence->match_end,
        .queue_s = seconds(sequence->started_ns - submit->arrived_ns),
        .prefill_s = seconds(sequence->decode_ns - sequence->started_ns),
        .decode_s = seconds(sequence->ended_ns - sequence->decode_ns - sequence->paused_ns),
        .paused_s = seconds(sequence->paused_ns),
    };
    publish_end(engine, EVENT_BYTES_OF(finished));
}

void finish_tell(struct engine *engine, const struct sequence *sequence)
{
    struct event_refused refused = {.was_accepted = true};

    switch (sequence->end) {
    case END_CANCELLED:
        return;
    case END_STOP:
    case END_LENGTH:
        publish_finished(engine, sequence);
        return;
    case END_OVERDUE:
        refused.status = STATUS_DEADLINE;
        snprintf(refused.text, sizeof refused.text,
                 "the deadline passed with %u of %u prompt tokens read and %u tokens generated",
                 sequence->n_generated > 0 ? sequence->submit->n_ids : sequence->n_prefilled,
                 sequence->submit->n_ids, sequence->n_generated);
        break;
    case END_GRAMMAR:
        refused.status = sequence->grammar_status;
        snprintf(refused.text, sizeof refused.text, "%s", sequence->grammar_why);
        break;
    case END_LOST:
        refused.status = STATUS_UNAVAILABLE;
        snprintf(refused.text, sizeof refused.text,
                 "the device failed in the middle of a step (%s) and the server is ending: send "
                 "the call again when it has been started anew",
                 status_text(stream_status(engine->flight->stream)));
        break;
    }
    publish_refused(engine, sequence->submit, &refused);
}
