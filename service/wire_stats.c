/* WatchStats: counts of the engine, its pages, and the tables of a sequence. */
#include "service/wire.h"
#include "service/wire_memory.h"

#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <string.h>

#define INTERVAL_MS_MIN 100
#define INTERVAL_MS_MAX 60000
#define INTERVAL_MS_DEFAULT 1000

/* What a message points to. */
struct stats_parts {
    Quire__V1__PageGroup groups[KV_GROUPS_MAX], *group_list[KV_GROUPS_MAX];
    Quire__V1__SequenceStats holders[STATS_HOLDERS_MAX], *holder_list[STATS_HOLDERS_MAX], sequence;
    Quire__V1__SequenceTable tables[KV_GROUPS_MAX], *table_list[KV_GROUPS_MAX];
    Quire__V1__PageStretch stretches[TABLE_STRETCHES_MAX], *stretch_list[TABLE_STRETCHES_MAX];
};

static ProtobufCBinaryData text_of(const char *text)
{
    return wire_bytes(text, strlen(text));
}

int wire_unpack_watch_stats(struct arena *arena, struct slice body,
                            struct wire_watch_stats *out, struct why *why)
{
    ProtobufCMessage *message;
    int status =
        wire_unpack(&quire__v1__watch_stats_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;

    const Quire__V1__WatchStatsRequest *in = (const Quire__V1__WatchStatsRequest *)message;
    *out = (struct wire_watch_stats){
        .interval_ms = in->opt_interval_ms_case ? in->interval_ms : INTERVAL_MS_DEFAULT,
        .has_sequence = in->opt_sequence_case,
        .sequence = in->sequence,
    };
    return wire_check_real("interval_ms", out->interval_ms, INTERVAL_MS_MIN, INTERVAL_MS_MAX, why);
}

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static void fill_groups(const struct engine_stats *stats, struct stats_parts *parts)
{
    for (uint32_t g = 0; g < stats->n_groups; g++) {
        const struct page_group *from = &stats->groups[g];
        Quire__V1__PageGroup *to = &parts->groups[g];
        quire__v1__page_group__init(to);
        to->kind = text_of(from->kind);
        to->window = from->window;
        to->layers = from->n_layers;
        to->dtype = text_of(from->dtype);
        to->page_bytes = from->page_bytes;
        to->pages = from->n_pages;
        to->free = from->n_free;
        to->reserved = from->n_reserved;
        to->open = from->n_open;
        to->full = from->n_full;
        to->own = from->n_own;
        to->cached = from->n_cached;
        parts->group_list[g] = to;
    }
}

static void fill_holder(const struct page_holder *from, Quire__V1__SequenceStats *to)
{
    quire__v1__sequence_stats__init(to);
    to->id = from->id;
    to->state = text_of(from->state);
    to->tokens = from->n_tokens;
    to->promised = from->n_promised;
}

static void fill_holders(const struct engine_stats *stats, struct stats_parts *parts)
{
    for (uint32_t i = 0; i < stats->n_holders; i++) {
        fill_holder(&stats->holders[i], &parts->holders[i]);
        parts->holder_list[i] = &parts->holders[i];
    }
}

static void fill_tables(const struct event_tables *from, struct stats_parts *parts)
{
    uint32_t n = 0;

    fill_holder(&from->holder, &parts->sequence);
    parts->sequence.committed = from->n_committed;
    for (uint32_t g = 0; g < from->n_groups; g++) {
        Quire__V1__SequenceTable *table = &parts->tables[g];
        quire__v1__sequence_table__init(table);
        table->first_page = from->tables[g].first_page;
        table->pages = from->tables[g].n_pages;
        table->untold = from->tables[g].n_untold;
        table->n_stretches = from->tables[g].n_stretches;
        table->stretches = &parts->stretch_list[n];
        for (uint32_t end = n + from->tables[g].n_stretches; n < end; n++) {
            const struct page_stretch *stretch = &from->stretches[n];
            quire__v1__page_stretch__init(&parts->stretches[n]);
            parts->stretches[n].index = stretch->index;
            parts->stretches[n].page = stretch->page;
            parts->stretches[n].pages = stretch->n;
            parts->stretches[n].open = stretch->is_open;
            parts->stretches[n].holders = stretch->n_holders;
            parts->stretch_list[n] = &parts->stretches[n];
        }
        parts->table_list[g] = table;
    }
    parts->sequence.n_tables = from->n_groups;
    parts->sequence.tables = parts->table_list;
}

size_t wire_pack_stats(uint8_t *out, size_t cap, const struct wire_stats *stats)
{
    const struct engine_stats *now = stats->now, *before = stats->before;
    double seconds = now->uptime_s - before->uptime_s;
    Quire__V1__Stats message = QUIRE__V1__STATS__INIT;
    struct stats_parts parts;

    message.uptime_seconds = now->uptime_s;
    message.pages = now->n_pages;
    message.pages_used = now->n_pages_used;
    message.pages_reserved = now->n_pages_reserved;
    message.queued = now->n_queued;
    message.waiting_pages = now->n_waiting_pages;
    message.prefill = now->n_prefill;
    message.decode = now->n_decode;
    message.paused = now->n_paused;
    message.prompt_tokens = now->n_prompt_tokens;
    message.generated_tokens = now->n_generated_tokens;
    message.prefill_tokens_per_second =
        rate(now->n_prompt_tokens - before->n_prompt_tokens, seconds);
    message.decode_tokens_per_second =
        rate(now->n_generated_tokens - before->n_generated_tokens, seconds);
    message.calls = now->n_admitted;
    message.refused = now->n_refused;
    message.cancelled = now->n_cancelled;
    message.steps = now->n_steps;
    if (now->n_steps > before->n_steps)
        message.step_ms =
            1e3 * (now->busy_s - before->busy_s) / (double)(now->n_steps - before->n_steps);
    message.resident_bytes = stats->resident_bytes;
    message.connections = stats->n_connections;
    message.kv_saturated = now->n_saturated;
    message.pages_cached = now->n_pages_cached;
    message.cached_prompt_tokens = now->n_hit_tokens;
    message.pages_evicted = now->n_evicted_pages;
    message.preempted = now->n_preempted;
    message.reread_tokens = now->n_reread_tokens;
    message.host_pages = now->n_host_pages;
    message.host_pages_used = now->n_host_used;
    message.pages_spilled = now->n_spilled_pages;
    message.pages_recalled = now->n_recalled_pages;
    fill_groups(now, &parts);
    message.n_groups = now->n_groups;
    message.groups = parts.group_list;
    fill_holders(now, &parts);
    message.n_sequences = now->n_holders;
    message.sequences = parts.holder_list;
    if (stats->tables != NULL && stats->tables->is_there) {
        fill_tables(stats->tables, &parts);
        message.sequence = &parts.sequence;
    }
    return wire_pack(out, cap, &message.base);
}
