#include "tools/inspect_list.h"

#include "base/text.h"
#include "kernels/tensor_type.h"
#include "model/gguf_parse.h"
#include "tools/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define UNUSED_SHOWN 8
#define VALUE_SHOWN 100 /* bytes of a string */
#define ELEMENTS_SHOWN 4

/* A fixed-size value at unaligned bytes. */
static void print_scalar(enum gguf_kind kind, const uint8_t *bytes)
{
    uint64_t bits = 0;
    float real;
    double wide;

    memcpy(&bits, bytes, gguf_kind_bytes(kind));
    switch (kind) {
    case GGUF_F32:
        memcpy(&real, bytes, sizeof real);
        printf("%.9g", (double)real);
        break;
    case GGUF_F64:
        memcpy(&wide, bytes, sizeof wide);
        printf("%.17g", wide);
        break;
    case GGUF_BOOL:
        printf(bits != 0 ? "true" : "false");
        break;
    case GGUF_I8:
        printf("%d", (int8_t)bits);
        break;
    case GGUF_I16:
        printf("%d", (int16_t)bits);
        break;
    case GGUF_I32:
        printf("%" PRId32, (int32_t)bits);
        break;
    case GGUF_I64:
        printf("%" PRId64, (int64_t)bits);
        break;
    default:
        printf("%" PRIu64, bits);
    }
}

static void print_string(struct slice text)
{
    putchar('"');
    output_text(stdout, text, VALUE_SHOWN);
    putchar('"');
}

static void print_array(const struct gguf_value *value)
{
    char n[TEXT_NUMBER_BYTES];

    printf("%s x %s: ", text_count(n, value->n), gguf_kind_name(value->element));
    for (uint64_t i = 0; i < value->n && i < ELEMENTS_SHOWN; i++) {
        if (i > 0)
            printf(", ");
        if (value->element == GGUF_STRING)
            print_string(gguf_string_at(value, i));
        else
            print_scalar(value->element, value->bytes + i * gguf_kind_bytes(value->element));
    }
    if (value->n > ELEMENTS_SHOWN)
        printf(", ...");
}

void inspect_list_keys(const struct gguf *file)
{
    printf("\nkeys\n");
    for (uint64_t i = 0; i < gguf_n_values(file); i++) {
        const struct gguf_value *value = gguf_value_at(file, i);
        uint64_t len;
        printf("  ");
        output_text(stdout, value->key, VALUE_SHOWN);
        printf(" = ");
        if (value->kind == GGUF_STRING) {
            memcpy(&len, value->bytes, sizeof len);
            print_string(slice_of(value->bytes + sizeof len, len));
        } else if (value->kind == GGUF_ARRAY) {
            print_array(value);
        } else {
            print_scalar(value->kind, value->bytes);
        }
        putchar('\n');
    }
}

void inspect_list_tensors(const struct file_facts *facts)
{
    char bytes[TEXT_NUMBER_BYTES];

    printf("\nevery tensor\n");
    for (uint64_t i = 0; i < gguf_n_tensors(facts->file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(facts->file, i);
        printf("  %-5s %14s  ", tensor_type_info(tensor->type)->name,
               text_count(bytes, tensor->n_bytes));
        output_text(stdout, tensor->name, 0);
        printf(" [");
        for (uint32_t d = 0; d < tensor->n_dims; d++)
            printf("%s%" PRIu64, d > 0 ? ", " : "", tensor->dims[d]);
        printf("]%s\n", facts->has_plan && !facts->plan.uses_tensor[i] ? "  not used" : "");
    }
}

void inspect_list_unused(const struct file_facts *facts)
{
    uint64_t n_shown = 0;

    for (uint64_t i = 0; facts->n_unused > 0 && i < gguf_n_tensors(facts->file); i++) {
        if (facts->plan.uses_tensor[i])
            continue;
        if (n_shown++ == UNUSED_SHOWN) {
            printf("    ... (--tensors lists all)\n");
            return;
        }
        printf("    ");
        output_text(stdout, gguf_tensor_at(facts->file, i)->name, 0);
        putchar('\n');
    }
}
