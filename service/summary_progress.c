#include "service/summary_progress.h"

#include "base/clock.h"

bool summary_progress_tell(struct summary_progress *progress, int64_t now_ns,
                           enum wire_phase phase, uint64_t n_done, uint64_t n_total,
                           struct wire_progress *out)
{
    bool is_first = !progress->has_begun;
    if (is_first || progress->phase != phase || n_done < progress->phase_done) {
        progress->phase = phase;
        progress->phase_ns = now_ns;
        progress->phase_done = n_done;
        progress->has_begun = true;
    }
    if (!is_first && now_ns - progress->told_ns < SUMMARY_PROGRESS_NS)
        return false;
    progress->told_ns = now_ns;

    double seconds = (double)(now_ns - progress->phase_ns) / (double)NS_PER_S;
    *out = (struct wire_progress){.phase = phase, .n_done = n_done, .n_total = n_total};
    if (seconds > 0)
        out->per_s = (double)(n_done - progress->phase_done) / seconds;
    if (out->per_s > 0 && n_total > n_done)
        out->left_s = (double)(n_total - n_done) / out->per_s;
    return true;
}
