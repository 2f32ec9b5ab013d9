/* Arrays: the items of prefixItems, then those of items, between minItems and maxItems. */
#include "base/status.h"
#include "model/json_compile.h"

struct items {
    const json_t *prefix; /* list of schemas or NULL */
    uint32_t n_prefix, min, max;
    bool has_rest;
    uint32_t rest; /* an item behind the prefix */
};

static void read_rest(struct json_compile *c, const json_t *schema, struct items *items)
{
    const json_t *rest = json_object_get(schema, "items");

    if (json_is_array(rest)) {
        json_refuse(c, "items", "a list of schemas is of older drafts: name it prefixItems");
        return;
    }
    items->has_rest = !json_is_false(rest) && items->max > items->n_prefix;
    if (items->has_rest)
        items->rest = rest == NULL ? c->value
                                   : json_named(c, json_schema_below(c, "items", -1, NULL, rest));
    if (!items->has_rest && items->max > items->n_prefix)
        items->max = items->n_prefix;
}

/* Items from number `n_before` on, each behind a comma. */
static uint32_t rest_behind(struct json_compile *c, const struct items *items, uint32_t n_before)
{
    uint32_t min = items->min > n_before ? items->min - n_before : 0;
    uint32_t max = items->max == GRAMMAR_UNBOUNDED ? items->max : items->max - n_before;

    if (!items->has_rest || max == 0)
        return rules_empty(c->rules);
    return rules_repeat(c->rules, json_named(c, JSON_JOIN(c, c->comma, items->rest)), min, max);
}

static uint32_t items_expr(struct json_compile *c, const struct items *items)
{
    struct grammar_rules *rules = c->rules;
    uint32_t n_prefix = items->n_prefix < items->max ? items->n_prefix : items->max;

    if (n_prefix == 0 && items->max == 0)
        return rules_empty(rules);
    if (n_prefix == 0) {
        uint32_t all = JSON_JOIN(c, items->rest, rest_behind(c, items, 1));
        return items->min == 0 ? rules_repeat(rules, all, 0, 1) : all;
    }
    uint32_t all = rest_behind(c, items, n_prefix);
    for (uint32_t i = n_prefix; i-- > 0 && c->status == STATUS_OK;) {
        uint32_t item = json_schema_below(c, "prefixItems", (long)i, NULL,
                                          json_array_get(items->prefix, i));
        all = i == 0 ? JSON_JOIN(c, item, all) : JSON_JOIN(c, c->comma, item, all);
        all = json_named(c, i >= items->min ? rules_repeat(rules, all, 0, 1) : all);
    }
    return all;
}

uint32_t json_array_expr(struct json_compile *c, const json_t *schema)
{
    struct items items = {.prefix = json_object_get(schema, "prefixItems")};

    if (json_is_true(json_object_get(schema, "uniqueItems")))
        return json_refuse(c, "uniqueItems", "a grammar cannot hold items apart");
    if (items.prefix != NULL && json_array_size(items.prefix) == 0)
        return json_refuse(c, "prefixItems", "it takes a list of one schema or more");
    items.n_prefix = (uint32_t)json_array_size(items.prefix);
    items.min = json_count(c, schema, "minItems", 0);
    items.max = json_count(c, schema, "maxItems", GRAMMAR_UNBOUNDED);
    if (c->status == STATUS_OK)
        read_rest(c, schema, &items);
    if (c->status == STATUS_OK && items.min > items.max)
        return json_refuse(c, "minItems", "there are at least %u items and at most %u", items.min,
                           items.max);
    uint32_t inside = c->status == STATUS_OK ? items_expr(c, &items) : 0;
    return JSON_JOIN(c, rules_text(c->rules, "["), c->blank, inside, c->blank,
                     rules_text(c->rules, "]"));
}
