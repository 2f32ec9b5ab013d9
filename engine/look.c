/* What the engine tells of itself: counts, pages by group, the tables of a sequence. */
#include "engine/engine_state.h"
#include "kvcache/kv_look.h"

#include <stdio.h>

#define LOOK_SHARE 9

static const char *const kinds[] = {
    [KV_FULL] = "global", [KV_SLIDING] = "sliding", [KV_CHUNKED] = "chunked"};

static void fill_groups(const struct engine *engine, struct engine_stats *stats)
{
    stats->n_groups = kv_look_n_groups(engine->cache);
    for (uint32_t g = 0; g < stats->n_groups; g++) {
        struct kv_group_look look;
        struct page_group *group = &stats->groups[g];
        kv_look_group(engine->cache, g, &look);
        *group = (struct page_group){.window = look.window,
                                     .n_layers = look.n_layers,
                                     .page_bytes = look.page_bytes,
                                     .n_pages = look.n_pages,
                                     .n_free = look.n_free,
                                     .n_reserved = look.n_reserved,
                                     .n_open = look.n_open,
                                     .n_full = look.n_full,
                                     .n_own = look.n_own,
                                     .n_cached = look.n_cached};
        snprintf(group->kind, sizeof group->kind, "%s", kinds[look.kind]);
        snprintf(group->dtype, sizeof group->dtype, "%s", look.dtype);
    }
}

/* Its time is that of all tables: where that is long, it is looked at less often, so that those who
 * watch take a tenth of the steps' time at most. */
static void look_groups(struct engine *engine, struct engine_stats *stats)
{
    int64_t begin_ns = clock_now(engine->clock);

    if (begin_ns - engine->looked_ns < LOOK_SHARE * engine->look_ns)
        return;
    fill_groups(engine, stats);
    engine->looked_ns = clock_now(engine->clock);
    engine->look_ns = engine->looked_ns - begin_ns;
}

static void fill_holder(const struct engine *engine, const struct sequence *sequence,
                        struct page_holder *out)
{
    *out = (struct page_holder){
        .id = sequence->kv,
        .n_tokens = (uint32_t)kv_cache_written(engine->cache, sequence->kv),
        .n_promised = (uint32_t)kv_look_promised(engine->cache, sequence->kv),
    };
    snprintf(out->state, sizeof out->state, "%s", sequence_state_name(sequence->state));
}

static void fill_holders(const struct engine *engine, struct engine_stats *stats)
{
    stats->n_holders = 0;
    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        if (!sequence_has_pages(sequence))
            continue;
        if (stats->n_holders == STATS_HOLDERS_MAX)
            return;
        fill_holder(engine, sequence, &stats->holders[stats->n_holders++]);
    }
}

void look_stats(struct engine *engine, const struct message *message)
{
    struct kv_cache_stats cache;
    struct engine_stats *stats = &engine->stats;

    kv_cache_read_stats(engine->cache, &cache);
    stats->uptime_s = (double)(clock_now(engine->clock) - engine->started_ns) / NS_PER_S;
    stats->n_pages = cache.n_pages;
    stats->n_pages_used = cache.n_used;
    stats->n_pages_reserved = cache.n_reserved;
    stats->n_pages_cached = cache.n_cached;
    stats->n_saturated = cache.n_saturated;
    stats->n_hit_tokens = cache.n_hit_tokens;
    stats->n_evicted_pages = cache.n_evicted;
    stats->n_host_pages = cache.n_host_pages;
    stats->n_host_used = cache.n_host_used;
    stats->n_spilled_pages = cache.n_spilled;
    stats->n_recalled_pages = cache.n_recalled;
    stats->n_queued = engine->counts.n[SEQUENCE_QUEUED] + engine->counts.n[SEQUENCE_WAITING_PAGES];
    stats->n_waiting_pages = engine->counts.n[SEQUENCE_WAITING_PAGES];
    stats->n_prefill = engine->counts.n[SEQUENCE_PREFILL];
    stats->n_decode = engine->counts.n[SEQUENCE_DECODE];
    stats->n_paused = engine->counts.n[SEQUENCE_PAUSED] + engine->counts.n[SEQUENCE_SPILLED];
    look_groups(engine, stats);
    fill_holders(engine, stats);
    struct event *event =
        publish_begin(engine, EVENT_STATS, message->call_id, 0, EVENT_BYTES_OF(stats));
    event->stats = *stats;
    publish_end(engine, EVENT_BYTES_OF(stats));
}

static const struct sequence *find_holder(const struct engine *engine, uint32_t id)
{
    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence_has_pages(sequence) && sequence->kv == id)
            return sequence;
    }
    return NULL;
}

static void fill_tables(const struct engine *engine, kv_seq_id seq, struct event_tables *out)
{
    uint32_t n = 0;

    out->n_groups = kv_look_n_groups(engine->cache);
    for (uint32_t g = 0; g < out->n_groups; g++) {
        struct kv_stretch stretches[TABLE_STRETCHES_MAX];
        struct kv_table_look look;
        /* each group has its part, and what those before it left */
        uint32_t room = (TABLE_STRETCHES_MAX - n) / (out->n_groups - g);
        kv_look_table(engine->cache, seq, g, stretches, room, &look);
        out->tables[g] = (struct page_table_look){look.first_page, look.n_pages,
                                                  look.n_stretches, look.n_untold};
        for (uint32_t i = 0; i < look.n_stretches; i++)
            out->stretches[n++] = (struct page_stretch){.index = stretches[i].index,
                                                        .page = stretches[i].page,
                                                        .n = stretches[i].n,
                                                        .n_holders = stretches[i].n_holders,
                                                        .is_open = stretches[i].is_open};
    }
}

void look_tables(struct engine *engine, const struct message *message)
{
    const struct sequence *sequence = find_holder(engine, message->tag);
    struct event *event =
        publish_begin(engine, EVENT_TABLES, message->call_id, 0, EVENT_BYTES_OF(tables));
    struct event_tables *out = &event->tables;

    *out = (struct event_tables){.is_there = sequence != NULL};
    if (sequence != NULL) {
        fill_holder(engine, sequence, &out->holder);
        out->n_committed = (uint32_t)kv_cache_committed(engine->cache, sequence->kv);
        fill_tables(engine, sequence->kv, out);
    }
    publish_end(engine, EVENT_BYTES_OF(tables));
}
