#include "service/call.h"

#include "limits.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct call_slot {
    struct call *call;   /* NULL: free */
    /* of the call that is or was last here; ids of earlier ones do not match */
    uint32_t generation;
    uint32_t next_free;
};

struct call_table {
    uint32_t n_slots;
    uint32_t n_calls;
    uint32_t first_free; /* n_slots: none */
    struct call_slot slots[];
};

#define SLOT_OF(id) ((uint32_t)(id))
#define GENERATION_OF(id) ((uint32_t)((id) >> 32))

int call_table_create(uint32_t calls_max, struct call_table **out, struct why *why)
{
    if (calls_max == 0 || calls_max > CALLS_MAX)
        return refuse(why, STATUS_INVALID, "%u calls at once; allowed are 1 to %u", calls_max,
                      CALLS_MAX);
    struct call_table *table = calloc(1, sizeof(*table) + calls_max * sizeof(table->slots[0]));
    if (table == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a table of %u calls", calls_max);
    table->n_slots = calls_max;
    for (uint32_t i = 0; i < calls_max; i++)
        table->slots[i].next_free = i + 1;
    *out = table;
    return STATUS_OK;
}

void call_table_free(struct call_table *table)
{
    if (table == NULL)
        return;
    assert(table->n_calls == 0);
    free(table);
}

uint32_t call_table_count(const struct call_table *table)
{
    return table->n_calls;
}

struct call *call_find(struct call_table *table, uint64_t id)
{
    uint32_t slot = SLOT_OF(id);
    if (slot >= table->n_slots || table->slots[slot].generation != GENERATION_OF(id))
        return NULL;
    return table->slots[slot].call;
}

struct call *call_next(struct call_table *table, const struct call *after)
{
    for (uint32_t i = after == NULL ? 0 : SLOT_OF(after->id) + 1; i < table->n_slots; i++)
        if (table->slots[i].call != NULL)
            return table->slots[i].call;
    return NULL;
}

static int table_add(struct call_table *table, struct call *call)
{
    if (table->first_free == table->n_slots)
        return STATUS_EXHAUSTED;
    uint32_t slot = table->first_free;
    struct call_slot *row = &table->slots[slot];
    table->first_free = row->next_free;
    table->n_calls++;
    if (++row->generation == 0)
        row->generation = 1; /* so that no id is 0 */
    row->call = call;
    call->id = (uint64_t)row->generation << 32 | slot;
    return STATUS_OK;
}

static void table_remove(struct call_table *table, struct call *call)
{
    struct call_slot *row = &table->slots[SLOT_OF(call->id)];
    assert(row->call == call && row->generation == GENERATION_OF(call->id));
    row->call = NULL;
    row->next_free = table->first_free;
    table->first_free = SLOT_OF(call->id);
    table->n_calls--;
}

static void name_request(struct call *call)
{
    uint8_t bytes[16] = {0};
    if (call->request_id[0] != '\0')
        return;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        memcpy(bytes, &call->id, sizeof call->id); /* unique within this process at least */
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(call->request_id + 2 * i, 3, "%02x", bytes[i]);
}

int call_enter(struct call *call, struct call_table *table, struct why *why)
{
    const struct method *method = call->method;
    assert(call->codec != NULL && method != NULL && method->handler->on_message != NULL);
    call->state = CALL_OPEN;
    call->table = table;
    call->handler_state = NULL;
    if (method->state_bytes != 0) {
        call->handler_state = calloc(1, method->state_bytes);
        if (call->handler_state == NULL)
            return refuse(why, STATUS_NO_MEMORY, "no memory for another call");
    }
    if (table_add(table, call) < 0) {
        free(call->handler_state);
        call->handler_state = NULL;
        return refuse_numbers(
            why, STATUS_EXHAUSTED,
            (struct why_numbers){table->n_slots + 1.0, table->n_slots, "calls", NULL},
            "the server holds %u calls, its limit; try again when some have ended",
            table->n_slots);
    }
    name_request(call);
    call->usage = (struct call_usage){.n_prompt = 0};
    arena_init(&call->arena, (size_t)method->message_bytes_max * UNPACK_ARENA_FACTOR +
                                 UNPACK_ARENA_EXTRA);
    return STATUS_OK;
}

void call_leave(struct call *call)
{
    assert(call->state == CALL_FINISHED);
    arena_release(&call->arena);
    free(call->handler_state);
    call->handler_state = NULL;
}

const char *call_state_name(enum call_state state)
{
    static const char *const names[] = {"OPEN", "SENDING", "FINISHED"};
    return names[state];
}

void call_set_state(struct call *call, enum call_state next)
{
    static const bool legal[3][3] = {
        [CALL_OPEN] = {[CALL_SENDING] = true, [CALL_FINISHED] = true},
        [CALL_SENDING] = {[CALL_FINISHED] = true},
    };
    assert(legal[call->state][next]);
    call->state = next;
    if (next == CALL_FINISHED)
        table_remove(call->table, call);
}

void call_cancel(struct call *call, bool handler_knows)
{
    if (call->state == CALL_FINISHED)
        return;
    call_set_state(call, CALL_FINISHED);
    if (handler_knows && call->method->handler->on_cancel != NULL)
        call->method->handler->on_cancel(call);
}

int call_send(struct call *call, struct slice message)
{
    assert(call->state != CALL_FINISHED);
    int status = call->codec->send(call, message);
    if (status == STATUS_OK && call->state == CALL_OPEN)
        call_set_state(call, CALL_SENDING);
    return status;
}

void call_open_reply(struct call *call)
{
    assert(call->state != CALL_FINISHED);
    if (call->state == CALL_SENDING)
        return;
    call->codec->open_reply(call);
    call_set_state(call, CALL_SENDING);
}

void call_finish_details(struct call *call, int status, const char *message, struct slice details)
{
    assert(call->state != CALL_FINISHED);
    call_set_state(call, CALL_FINISHED);
    call->codec->finish(call, status, message == NULL ? "" : message, details);
}

void call_finish(struct call *call, int status, const char *message)
{
    call_finish_details(call, status, message, slice_of(NULL, 0));
}

void call_want_more(struct call *call)
{
    assert(call->state != CALL_FINISHED);
    call->codec->want_more(call);
}

size_t call_unsent_bytes(const struct call *call)
{
    return call->codec->unsent_bytes(call);
}

size_t call_waiting_bytes(const struct call *call)
{
    return call->codec->waiting_bytes(call);
}
