#include "clients/c/generate_view.h"

#include "base/text.h"
#include "clients/c/client_run.h"
#include "quire/v1/quire.pb-c.h"

#include <inttypes.h>

static const char *phase_name(Quire__V1__Phase phase)
{
    switch (phase) {
    case QUIRE__V1__PHASE__PHASE_WAITING:
        return "waiting";
    case QUIRE__V1__PHASE__PHASE_PREFILL:
        return "prefill";
    case QUIRE__V1__PHASE__PHASE_ANSWER:
        return "answer";
    default:
        return "working";
    }
}

/* The bytes of a token as a JSON string: one word, whatever they are. */
static bool show_bytes(struct answer_output *output, struct json_writer *json,
                       const ProtobufCBinaryData *bytes)
{
    json_writer_clear(json);
    json_writer_text(json, NULL, bytes->data, bytes->len);
    return !json->failed && answer_output_text(output, json->text, json->n);
}

/* id, log-probability, text, alternatives; parted by tabs */
static bool show_logprob(struct answer_output *output, const Quire__V1__TokenLogprob *token)
{
    struct json_writer json;
    json_writer_init(&json);
    answer_output_hold(output);
    bool ok = answer_output_format(output, "%" PRIu32 "\t%.6f\t", token->token,
                                   (double)token->logprob) &&
              show_bytes(output, &json, &token->bytes);
    for (size_t i = 0; ok && i < token->n_top; i++) {
        const Quire__V1__TopLogprob *top = token->top[i];
        ok = answer_output_format(output, "%c%" PRIu32 " %.6f ", i == 0 ? '\t' : ' ', top->token,
                                  (double)top->logprob) &&
             show_bytes(output, &json, &top->bytes);
    }
    json_writer_release(&json);
    ok = ok && answer_output_text(output, "\n", 1);
    return answer_output_flush(output) && ok;
}

/* Of several answers: what is due, under a heading each. */
static bool show_piece(void *arg, const struct section_piece *piece)
{
    struct generate_view *view = arg;
    struct answer_output *output = &view->client->output;
    bool ok = true;
    if (piece->first)
        ok = answer_output_end_line(output) &&
             answer_output_format(output, "--- answer %" PRIu32 " of %" PRIu32 "\n",
                                  piece->index + 1, view->n);
    return ok && answer_output_text(output, piece->text, piece->len) &&
           (!piece->last || answer_output_end_line(output));
}

static bool add_piece(struct generate_view *view, uint32_t choice, ProtobufCBinaryData text,
                      bool last)
{
    struct section_piece piece = {
        .index = choice, .text = text.data, .len = text.len, .last = last};
    return section_order_add(&view->order, &piece);
}

static bool show_delta(struct generate_view *view, const Quire__V1__Delta *delta)
{
    struct answer_output *output = &view->client->output;
    bool ok = true;
    answer_output_complete_progress(output); /* also of one that had to be read again */
    if (view->n > 1)
        return add_piece(view, delta->choice, delta->text, false);
    if (!view->with_logprobs)
        return answer_output_text(output, delta->text.data, delta->text.len);
    for (size_t i = 0; ok && i < delta->n_logprobs; i++)
        ok = show_logprob(output, delta->logprobs[i]);
    return ok;
}

static void tell_end(struct answer_output *output, const Quire__V1__Finished *finished)
{
    char prompt[TEXT_NUMBER_BYTES], answer[TEXT_NUMBER_BYTES], reason[64];
    Quire__V1__Usage usage = QUIRE__V1__USAGE__INIT;
    Quire__V1__Timings timings = QUIRE__V1__TIMINGS__INIT;
    if (finished->usage != NULL)
        usage = *finished->usage;
    if (finished->timings != NULL)
        timings = *finished->timings;
    json_writer_enum_name(&quire__v1__finish_reason__descriptor, (int)finished->reason, reason);
    answer_output_note(output, "%s prompt tokens (%.1f/s), %s of answer (%.1f/s), ended by %s",
                       text_count(prompt, usage.prompt_tokens), timings.prefill_tokens_per_second,
                       text_count(answer, usage.completion_tokens),
                       timings.decode_tokens_per_second, reason);
}

static void count_finished(struct generate_view *view)
{
    view->finished = ++view->n_finished == view->n;
}

static bool show_finished(struct generate_view *view, const Quire__V1__Finished *finished)
{
    ProtobufCBinaryData nothing = {0, NULL};
    count_finished(view);
    if (view->n > 1 && !add_piece(view, finished->choice, nothing, true))
        return false;
    if (view->finished)
        tell_end(&view->client->output, finished);
    return true;
}

static bool show_event(struct generate_view *view, const Quire__V1__GenerateEvent *event)
{
    const Quire__V1__Progress *progress = event->progress;
    switch (event->event_case) {
    case QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS:
        answer_output_progress(&view->client->output, phase_name(progress->phase), progress->done,
                               progress->total, progress->per_second);
        return true;
    case QUIRE__V1__GENERATE_EVENT__EVENT_DELTA:
        return show_delta(view, event->delta);
    case QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED:
        return show_finished(view, event->finished);
    default:
        return true; /* accepted, and what later servers may say */
    }
}

static bool write_event(struct generate_view *view, const Quire__V1__GenerateEvent *event)
{
    struct answer_output *output = &view->client->output;
    switch (event->event_case) {
    case QUIRE__V1__GENERATE_EVENT__EVENT_ACCEPTED:
        return answer_output_event(output, "accepted", &event->accepted->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS:
        return answer_output_event(output, "progress", &event->progress->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_DELTA:
        return answer_output_event(output, "delta", &event->delta->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED:
        count_finished(view);
        return answer_output_event(output, "finished", &event->finished->base);
    default:
        return true;
    }
}

bool generate_view_take(void *arg, const void *bytes, size_t len)
{
    struct generate_view *view = arg;
    Quire__V1__GenerateEvent *event =
        client_run_unpack(view->client, &quire__v1__generate_event__descriptor, bytes, len);
    if (event == NULL)
        return false;
    return view->client->options->json ? write_event(view, event) : show_event(view, event);
}

void generate_view_init(struct generate_view *view, struct client_run *client, uint32_t n,
                        bool with_logprobs)
{
    *view = (struct generate_view){.client = client, .n = n, .with_logprobs = with_logprobs};
    section_order_init(&view->order, show_piece, view);
}

void generate_view_release(struct generate_view *view)
{
    section_order_release(&view->order);
}
