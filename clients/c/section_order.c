#include "clients/c/section_order.h"

#include <stdlib.h>
#include <string.h>

struct waiting_section {
    struct waiting_section *next; /* by level, then index */
    struct section_piece piece;   /* begin, end, last; the text is below */
    char *text;                   /* owned */
    size_t len, cap;
};

void section_order_init(struct section_order *order,
                        bool (*show)(void *arg, const struct section_piece *piece), void *arg)
{
    memset(order, 0, sizeof *order);
    order->show = show;
    order->arg = arg;
}

static void drop_first(struct section_order *order)
{
    struct waiting_section *first = order->waiting;
    order->waiting = first->next;
    free(first->text);
    free(first);
}

void section_order_release(struct section_order *order)
{
    while (order->waiting != NULL)
        drop_first(order);
}

static bool comes_before(const struct section_piece *a, const struct section_piece *b)
{
    return a->level != b->level ? a->level < b->level : a->index < b->index;
}

/* The place of a section in the list; NULL when memory is out. */
static struct waiting_section *find_or_make(struct section_order *order,
                                            const struct section_piece *piece)
{
    struct waiting_section **at = &order->waiting;
    while (*at != NULL && comes_before(&(*at)->piece, piece))
        at = &(*at)->next;
    if (*at != NULL && !comes_before(piece, &(*at)->piece))
        return *at;
    struct waiting_section *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->piece = *piece;
    made->next = *at;
    *at = made;
    return made;
}

static bool keep(struct section_order *order, const struct section_piece *piece)
{
    struct waiting_section *section = find_or_make(order, piece);
    if (section == NULL)
        return false;
    size_t cap = section->cap != 0 ? section->cap : 256;
    while (cap < section->len + piece->len)
        cap *= 2;
    if (cap != section->cap) {
        char *grown = realloc(section->text, cap);
        if (grown == NULL)
            return false;
        section->text = grown;
        section->cap = cap;
    }
    if (piece->len > 0)
        memcpy(section->text + section->len, piece->text, piece->len);
    section->len += piece->len;
    section->piece.last = piece->last;
    return true;
}

static bool pass(struct section_order *order, const struct section_piece *piece, bool first)
{
    struct section_piece shown = *piece;
    shown.first = first;
    order->is_open = !piece->last;
    order->open_level = piece->level;
    if (piece->last)
        order->next[piece->level] = piece->index + 1;
    return order->show(order->arg, &shown);
}

/* Opens what is due among the waiting ones, until one stays open; all: whatever is due. */
static bool open_due(struct section_order *order, bool all)
{
    bool ok = true;
    struct waiting_section **at = &order->waiting;
    while (ok && *at != NULL && (all || !order->is_open)) {
        struct waiting_section *section = *at;
        if (!all && section->piece.index != order->next[section->piece.level]) {
            at = &section->next;
            continue;
        }
        struct section_piece whole = section->piece;
        whole.text = section->text;
        whole.len = section->len;
        *at = section->next;
        order->next[whole.level] = whole.index;
        ok = pass(order, &whole, true);
        free(section->text);
        free(section);
        at = &order->waiting;
    }
    return ok;
}

bool section_order_add(struct section_order *order, const struct section_piece *piece)
{
    if (piece->level >= SECTION_LEVELS_MAX || piece->index < order->next[piece->level])
        return false;
    bool is_due = piece->index == order->next[piece->level];
    if (order->is_open && is_due && piece->level == order->open_level)
        return pass(order, piece, false) && open_due(order, false);
    if (!order->is_open && is_due)
        return pass(order, piece, true) && open_due(order, false);
    return keep(order, piece);
}

bool section_order_flush(struct section_order *order)
{
    order->is_open = false;
    return open_due(order, true);
}
