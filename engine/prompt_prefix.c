#include "engine/prompt_prefix.h"

#include "engine/choices.h"
#include "engine/engine_state.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* --- keys --- */

/* The tenant's number, then what the request says: nobody reaches another tenant by a salt. */
static size_t salt_of(const struct submit *submit, uint8_t out[sizeof submit->tenant +
                                                              CACHE_SALT_BYTES_MAX])
{
    for (size_t i = 0; i < sizeof submit->tenant; i++)
        out[i] = (uint8_t)(submit->tenant >> 8 * i);
    memcpy(out + sizeof submit->tenant, submit->salt.bytes, submit->salt.n);
    return sizeof submit->tenant + submit->salt.n;
}

static bool lacks_keys(const struct engine *engine, const struct submit *submit)
{
    return !submit->has_page_keys && submit->page_keys != NULL &&
           submit->n_ids <= engine->info.max_context;
}

static void have_keys(struct submit *submit)
{
    for (; submit != NULL; submit = submit->next_choice)
        submit->has_page_keys = true; /* they share them */
}

void prompt_prefix_name(struct engine *engine, struct submit *submit)
{
    uint8_t salt[sizeof submit->tenant + CACHE_SALT_BYTES_MAX];

    if (!lacks_keys(engine, submit) || !kv_cache_is_identified(engine->cache))
        return;
    assert(submit->salt.n <= CACHE_SALT_BYTES_MAX);
    size_t n_salt = salt_of(submit, salt);
    kv_cache_name_pages(engine->cache, salt, n_salt, submit->ids, submit->n_whole_pages,
                        &submit->page_keys[0], &submit->page_keys[1]);
    have_keys(submit);
}

void engine_name_prompt(const struct engine *engine, struct submit *submit)
{
    uint8_t salt[sizeof submit->tenant + CACHE_SALT_BYTES_MAX];
    struct sha256 *hash;

    if (atomic_load_explicit(&engine->is_identified, memory_order_acquire) == 0 ||
        !lacks_keys(engine, submit) || sha256_create(&hash) < 0)
        return;
    size_t n_salt = salt_of(submit, salt);
    kv_cache_name_apart(engine->cache, hash, salt, n_salt, submit->ids, submit->n_whole_pages,
                        &submit->page_keys[0], &submit->page_keys[1]);
    have_keys(submit);
    sha256_free(hash);
}

/* What it drew is there as what it read is: named on, it is found alike. */
void prompt_prefix_name_text(struct engine *engine, struct sequence *sequence)
{
    struct submit *submit = sequence->submit;
    uint32_t n_keys = 1 + (sequence_n_text(sequence) - 1) / PAGE_TOKENS;

    prompt_prefix_name(engine, submit);
    if (sequence->n_reread == 0 || !submit->has_page_keys || submit->text_keys == NULL)
        return;
    if (submit->n_text_keys == 0) {
        memcpy(submit->text, submit->ids, submit->n_ids * sizeof *submit->text);
        submit->n_text_keys = 1 + submit->n_whole_pages;
        memcpy(submit->text_keys, submit->page_keys,
               submit->n_text_keys * sizeof *submit->text_keys);
    }
    struct page_key *last = &submit->text_keys[submit->n_text_keys - 1];
    const uint32_t *ids = submit->text + (size_t)(submit->n_text_keys - 1) * PAGE_TOKENS;
    kv_cache_name_more(engine->cache, ids, n_keys - submit->n_text_keys, last, last + 1);
    submit->n_text_keys = n_keys;
}

static struct kv_prefix prefix_of(const struct submit *submit)
{
    return (struct kv_prefix){.ids = submit->ids,
                              .keys = submit->page_keys + 1,
                              .n_pages = submit->n_whole_pages};
}

static struct kv_prefix prefix_of_text(const struct sequence *sequence)
{
    const struct submit *submit = sequence->submit;
    if (submit->n_text_keys == 0)
        return prefix_of(submit);
    return (struct kv_prefix){.ids = submit->text,
                              .keys = submit->text_keys + 1,
                              .n_pages = submit->n_text_keys - 1};
}

/* --- what is there --- */

void prompt_prefix_match(const struct engine *engine, const struct submit *submit,
                         struct kv_family *family)
{
    struct kv_prefix prefix = prefix_of(submit);
    kv_cache_match_family(engine->cache, submit->has_page_keys ? &prefix : NULL, family);
}

void prompt_prefix_match_text(const struct engine *engine, const struct sequence *sequence,
                              struct kv_family *family)
{
    struct kv_prefix prefix = prefix_of_text(sequence);
    kv_cache_match_family(engine->cache, sequence->submit->has_page_keys ? &prefix : NULL, family);
}

void prompt_prefix_verify(const struct engine *engine, const struct sequence *sequence,
                          struct kv_family *family)
{
    struct kv_prefix prefix = prefix_of_text(sequence);

    if (family->match.n_pages > 0 && !kv_cache_verify(engine->cache, &prefix, &family->match))
        kv_cache_match(engine->cache, NULL, &family->match);
}

void prompt_prefix_begin(struct engine *engine, struct sequence *sequence,
                         const struct kv_match *match)
{
    const struct submit *submit = sequence->submit;

    sequence->n_begun = sequence->n_prefilled = sequence->n_launched =
        match->n_pages * PAGE_TOKENS;
    if (sequence->n_reread == 0) {
        sequence->n_cached = sequence->n_begun;
        sequence->match_end = match->end;
    }
    if (submit->has_page_keys)
        kv_cache_chain(engine->cache, sequence->kv, &submit->page_keys[0], submit->ids);
}

bool prompt_prefix_match_again(struct engine *engine, struct sequence *first)
{
    struct kv_prefix prefix = prefix_of_text(first);
    struct kv_family family =
        choices_family(first->submit, choices_count(first), first->promised_output);
    struct kv_match match;

    if (kv_cache_is_arriving(engine->cache, first->kv))
        return true;
    bool may_recall = kv_cache_has_host(engine->cache) && !first->has_recalled;
    first->has_recalled = false;
    if (!first->submit->has_page_keys || !kv_cache_is_chained(engine->cache, first->kv))
        return false;
    kv_cache_match(engine->cache, &prefix, &match);
    if (match.n_pages * PAGE_TOKENS <= first->n_begun && !may_recall)
        return false;
    bool is_more = kv_cache_match_again(engine->cache, first->kv, &family, &prefix,
                                        flight_stream(engine->flight), &match);
    prompt_prefix_begin(engine, first, &match);
    first->has_recalled = !is_more && kv_cache_is_arriving(engine->cache, first->kv);
    return is_more || first->has_recalled;
}

/* --- what will be there --- */

/* Equal keys have equal ones before them. */
static uint32_t n_common(const struct submit *a, const struct submit *b)
{
    uint32_t common = 0, beyond = a->n_whole_pages < b->n_whole_pages ? a->n_whole_pages
                                                                       : b->n_whole_pages;
    beyond++;
    while (beyond - common > 1) {
        uint32_t middle = common + (beyond - common) / 2;
        if (page_key_equal(&a->page_keys[middle], &b->page_keys[middle]))
            common = middle;
        else
            beyond = middle;
    }
    return common;
}

/* Tokens of the prompt, beyond the first n_known, that the other is about to have read; 0: none. */
static uint32_t leads_to(const struct engine *engine, const struct sequence *other,
                         const struct submit *submit, uint32_t n_known)
{
    if (other->submit == submit || other->state != SEQUENCE_PREFILL ||
        !other->submit->has_page_keys || other->submit->priority < submit->priority ||
        other->submit->choice_idx > 0 || !kv_cache_is_chained(engine->cache, other->kv))
        return 0;
    uint32_t end = n_common(other->submit, submit) * PAGE_TOKENS;
    return end > n_known && end > other->n_prefilled ? end : 0;
}

const struct sequence *prompt_prefix_leader(const struct engine *engine,
                                            const struct submit *submit, uint32_t n_known,
                                            uint32_t *end)
{
    const struct sequence *leader = NULL;

    if (!submit->has_page_keys)
        return NULL;
    list_for_each(node, &engine->runs)
    {
        const struct sequence *other = list_entry(node, struct sequence, link);
        uint32_t its_end = leads_to(engine, other, submit, n_known);
        if (its_end == 0 ||
            (leader != NULL && its_end - other->n_prefilled <= *end - leader->n_prefilled))
            continue;
        leader = other;
        *end = its_end;
    }
    return leader;
}

bool prompt_prefix_waits(const struct engine *engine, const struct sequence *sequence)
{
    uint32_t end;

    return sequence->n_prefilled <= sequence->n_begun &&
           prompt_prefix_leader(engine, sequence->submit, sequence->n_prefilled, &end) != NULL;
}

/* --- the digest --- */

static uint8_t nibble(char digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

void prompt_prefix_identify(struct engine *engine, const char *digest_hex)
{
    struct kv_identity identity = {.n_ranks = 1};

    for (int i = 0; i < SHA256_BYTES; i++)
        identity.weights[i] =
            (uint8_t)(nibble(digest_hex[2 * i]) << 4 | nibble(digest_hex[2 * i + 1]));
    snprintf(identity.activations, sizeof identity.activations, "%s", engine->info.activations);
    kv_cache_identify(engine->cache, &identity);
    atomic_store_explicit(&engine->is_identified, kv_cache_is_identified(engine->cache),
                          memory_order_release);
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (!sequence_has_pages(sequence) || sequence->state == SEQUENCE_FINISHED ||
            sequence->n_generated > 0 || sequence->submit->choice_idx > 0)
            continue; /* what was drawn is not known any more */
        prompt_prefix_name(engine, sequence->submit);
        if (sequence->submit->has_page_keys)
            kv_cache_chain(engine->cache, sequence->kv, &sequence->submit->page_keys[0],
                           sequence->submit->ids);
    }
}
