#include "model/json_place.h"

#include <stdbool.h>
#include <string.h>

static int byte_at(struct slice text, size_t at)
{
    return at < text.len ? text.bytes[at] : -1;
}

static size_t behind_blanks(struct slice text, size_t at)
{
    while (byte_at(text, at) > 0 && strchr(" \t\r\n", byte_at(text, at)) != NULL)
        at++;
    return at;
}

static size_t behind_string(struct slice text, size_t at)
{
    for (at++; at < text.len && text.bytes[at] != '"'; at++)
        at += text.bytes[at] == '\\';
    return at < text.len ? at + 1 : text.len;
}

static size_t behind_value(struct slice text, size_t at)
{
    size_t depth = 0;
    for (; at < text.len; at++) {
        uint8_t byte = text.bytes[at];
        bool is_end = byte == '}' || byte == ']';
        if (depth == 0 && (is_end || byte == ','))
            break;
        if (byte == '"')
            at = behind_string(text, at) - 1;
        depth += byte == '{' || byte == '[';
        depth -= is_end;
    }
    return at;
}

/* A step of a pointer, ~0 and ~1 being ~ and /. */
static bool is_step(struct slice name, struct slice step)
{
    size_t at = 0;
    for (size_t i = 0; i < step.len; i++, at++) {
        uint8_t byte = step.bytes[i];
        if (byte == '~' && i + 1 < step.len)
            byte = step.bytes[++i] == '0' ? '~' : '/';
        if (at >= name.len || name.bytes[at] != byte)
            return false;
    }
    return at == name.len;
}

static bool is_index(size_t index, struct slice step)
{
    size_t number = 0;
    for (size_t i = 0; i < step.len; i++) {
        if (step.bytes[i] < '0' || step.bytes[i] > '9' || number > SIZE_MAX / 20)
            return false;
        number = number * 10 + step.bytes[i] - '0';
    }
    return step.len > 0 && number == index;
}

/* Into the object or array at *value: where what the step names begins, and its value. */
static bool step_into(struct slice text, struct slice step, size_t *place, size_t *value)
{
    int opening = byte_at(text, *value);
    size_t at = *value;

    for (size_t index = 0; opening == '{' || opening == '['; index++) {
        size_t begin = at = behind_blanks(text, at + 1);
        bool is_it = is_index(index, step);
        if (opening == '{') {
            size_t end = behind_string(text, begin);
            if (byte_at(text, begin) != '"' || end - begin < 2)
                return false;
            is_it = is_step(slice_of(text.bytes + begin + 1, end - begin - 2), step);
            at = behind_blanks(text, behind_blanks(text, end) + 1); /* and the colon */
        }
        size_t end = behind_value(text, at);
        if (is_it && end > at) {
            *place = begin;
            *value = at;
            return true;
        }
        at = end;
        if (byte_at(text, at) != ',')
            return false;
    }
    return false;
}

size_t json_place(struct slice text, struct slice pointer)
{
    size_t value = behind_blanks(text, 0), place = value;

    for (size_t at = 0; at < pointer.len;) {
        size_t begin = ++at; /* behind the / */
        while (at < pointer.len && pointer.bytes[at] != '/')
            at++;
        if (!step_into(text, slice_of(pointer.bytes + begin, at - begin), &place, &value))
            break;
    }
    return place;
}
