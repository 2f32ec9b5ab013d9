#include "service/wire.h"
#include "service/wire_memory.h"
#include "service/wire_request.h"

static int no_memory(size_t n, const char *what, struct why *why)
{
    return refuse(why, STATUS_EXHAUSTED, "%zu %s take more memory than the request may", n, what);
}

static int read_calls(struct arena *arena, const Quire__V1__Message *in, struct chat_message *out,
                      struct why *why)
{
    struct chat_call *calls = arena_alloc(arena, in->n_tool_calls * sizeof *calls);

    if (calls == NULL)
        return no_memory(in->n_tool_calls, "calls", why);
    for (size_t i = 0; i < in->n_tool_calls; i++) {
        const Quire__V1__ToolCall *call = in->tool_calls[i];
        if (wire_check_text("tool_calls.id", call->id, why) < 0 ||
            wire_check_text("tool_calls.name", call->name, why) < 0 ||
            wire_check_text("tool_calls.arguments", call->arguments, why) < 0)
            return STATUS_INVALID;
        calls[i] = (struct chat_call){wire_slice(call->id), wire_slice(call->name),
                                      wire_slice(call->arguments)};
    }
    out->calls = calls;
    out->n_calls = in->n_tool_calls;
    return STATUS_OK;
}

static int read_message(struct arena *arena, const Quire__V1__Message *in,
                        struct chat_message *out, struct why *why)
{
    if (wire_check_text("chat.messages.role", in->role, why) < 0 ||
        wire_check_text("chat.messages.content", in->content, why) < 0 ||
        wire_check_text("chat.messages.tool_call_id", in->tool_call_id, why) < 0)
        return STATUS_INVALID;
    out->role = wire_slice(in->role);
    out->content = wire_slice(in->content);
    out->call_id = wire_slice(in->tool_call_id);
    return in->n_tool_calls > 0 ? read_calls(arena, in, out, why) : STATUS_OK;
}

static int read_messages(struct arena *arena, const Quire__V1__Chat *in, struct chat *out,
                         struct why *why)
{
    if (in->n_messages == 0)
        return refuse(why, STATUS_INVALID, "chat.messages is empty; it needs at least one message");
    struct chat_message *messages = arena_alloc(arena, in->n_messages * sizeof *messages);
    if (messages == NULL)
        return no_memory(in->n_messages, "messages", why);
    for (size_t i = 0; i < in->n_messages; i++) {
        int status = read_message(arena, in->messages[i], &messages[i], why);
        if (status < 0)
            return refuse_prefix(why, status, "message %zu", i);
    }
    out->messages = messages;
    out->n_messages = in->n_messages;
    return STATUS_OK;
}

static int read_tools(struct arena *arena, const Quire__V1__Chat *in, struct chat *out,
                      struct why *why)
{
    struct chat_tool *tools = arena_alloc(arena, in->n_tools * sizeof *tools);

    if (tools == NULL)
        return no_memory(in->n_tools, "tools", why);
    for (size_t i = 0; i < in->n_tools; i++) {
        const Quire__V1__Tool *tool = in->tools[i];
        if (wire_check_text("tools.name", tool->name, why) < 0 ||
            wire_check_text("tools.description", tool->description, why) < 0 ||
            wire_check_text("tools.parameters", tool->parameters, why) < 0)
            return refuse_prefix(why, STATUS_INVALID, "tool %zu", i);
        tools[i] = (struct chat_tool){wire_slice(tool->name), wire_slice(tool->description),
                                      wire_slice(tool->parameters)};
    }
    out->tools = tools;
    out->n_tools = in->n_tools;
    return STATUS_OK;
}

int wire_read_chat(struct arena *arena, const Quire__V1__Chat *in, struct wire_generate *out,
                   struct why *why)
{
    if ((uint32_t)in->truncate > QUIRE__V1__TRUNCATE__TRUNCATE_OLDEST)
        return refuse_numbers(why, STATUS_INVALID,
                              (struct why_numbers){(int)in->truncate, 1, "truncate", NULL},
                              "chat.truncate is %d; it takes 0 or 1", (int)in->truncate);
    out->truncates_oldest = in->truncate == QUIRE__V1__TRUNCATE__TRUNCATE_OLDEST;
    out->chat.thinking = in->opt_thinking_case ? (in->thinking ? 1 : 0) : -1;
    int status = read_messages(arena, in, &out->chat, why);
    return status == STATUS_OK ? read_tools(arena, in, &out->chat, why) : status;
}
