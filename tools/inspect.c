/* `quire inspect`: what a GGUF file holds, what its keys and values cost, and whether this build
 * runs it. A sound file that cannot be run is described and ends 0; a bad one ends 1. */
#include "tools/tools.h"

#include "base/options.h"
#include "base/text.h"
#include "kernels/tensor_type.h"
#include "model/chat_template.h"
#include "model/vocabulary.h"
#include "tools/file_facts.h"
#include "tools/inspect_json.h"
#include "tools/inspect_list.h"
#include "tools/output.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 160 /* of a text in the file */

struct inspect_options {
    bool json, keys, tensors;
};

#define FIELD(name) offsetof(struct inspect_options, name)

static const struct option options[] = {
    {"json", 0, OPTION_FLAG, FIELD(json), NULL, NULL, "print one JSON object", 0, 0, NULL, 0},
    {"keys", 0, OPTION_FLAG, FIELD(keys), NULL, NULL, "list every key and its value too", 0, 0,
     NULL, 0},
    {"tensors", 0, OPTION_FLAG, FIELD(tensors), NULL, NULL, "list every tensor too", 0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "inspect",
    .usage = "quire inspect FILE [options]",
    .summary = "Tells what a GGUF file holds, what its keys and values cost, and what of it this "
               "build\ncannot run. Of a split model give the first file.",
    .options = options,
    .examples = "  quire inspect model.gguf\n"
                "  quire inspect --json model-00001-of-00003.gguf\n",
    .operands_min = 1,
    .operands_max = 1,
};

/* --- text --- */

static void print_files(const struct file_facts *facts)
{
    const struct gguf *file = facts->file;
    char bytes[TEXT_NUMBER_BYTES];

    output_text(stdout, slice_from(gguf_file_path(file, 0)), 0);
    printf("\n  format         GGUF v%u, %s bytes", gguf_version(file),
           text_count(bytes, facts->n_bytes));
    if (gguf_n_files(file) > 1)
        printf(" in %u files", gguf_n_files(file));
    printf("; %" PRIu64 " keys, %" PRIu64 " tensors\n", gguf_n_values(file), gguf_n_tensors(file));
}

static void print_text_key(const struct file_facts *facts, const char *label, const char *key)
{
    struct slice text;
    if (gguf_string(facts->file, key, &text, NULL) != 1)
        return;
    printf("  %-14s ", label);
    output_text(stdout, text, SHOWN_BYTES);
    putchar('\n');
}

static void print_plan(const struct file_facts *facts)
{
    char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];
    const struct model_plan *plan = &facts->plan;

    print_text_key(facts, "name", "general.name");
    print_text_key(facts, "architecture", "general.architecture");
    if (facts->is_vocabulary)
        return;
    printf("  parameters     %s in %s\n", text_count(a, facts->n_parameters),
           text_bytes(b, facts->weight_bytes));
    if (!facts->has_plan)
        return;
    const struct layer_plan *layer = &plan->layers[0];
    printf("  shape          %u layers of width %u, feed-forward %u\n", plan->n_layers, plan->width,
           layer->n_ff);
    printf("  attention      %u heads of %u over %u of keys and values\n", layer->n_heads,
           layer->kv.k_dim, layer->kv.n_kv_heads);
    printf("  context        %s tokens as trained\n", text_count(a, plan->context));
    printf("  vocabulary     %s; the output matrix is %s\n", text_count(a, plan->vocabulary),
           plan->tied_output ? "that of the embedding" : "its own");
}

static void print_types(const struct file_facts *facts)
{
    char n[TEXT_NUMBER_BYTES], bytes[TEXT_NUMBER_BYTES];

    printf("\ntensors   number       parameters          bytes  read by this build\n");
    for (uint32_t i = 0; i < facts->n_types; i++) {
        const struct type_facts *type = &facts->types[i];
        const struct tensor_type_info *info = tensor_type_info(type->type);
        printf("  %-7s %6" PRIu64 " %16s %14s  %s\n", info->name, type->n_tensors,
               text_count(n, type->n_parameters), text_count(bytes, type->n_bytes),
               info->is_read ? "yes" : "no");
    }
    if (facts->n_unused > 0)
        printf("  not used by this architecture: %" PRIu64 " tensors\n", facts->n_unused);
    inspect_list_unused(facts);
}

static void print_geometry(const struct file_facts *facts)
{
    static const struct {
        const char *label;
        uint64_t n_tokens;
    } rows[] = {{"1 token", 1}, {"128 Ki tokens", 131072}, {"1 Mi tokens", 1048576}};

    if (!facts->has_geometry) {
        printf("\nkeys and values: the file does not say how many heads they have\n");
        return;
    }
    printf("\nkeys and values          f16          f32%s\n",
           facts->has_plan ? "" : "   (if every layer keeps all tokens)");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char f16[TEXT_NUMBER_BYTES], f32[TEXT_NUMBER_BYTES];
        uint64_t values = facts->kv_values * rows[i].n_tokens;
        printf("  %-13s %12s %12s", rows[i].label, text_bytes(f16, values * kv_dtype_bytes(KV_F16)),
               text_bytes(f32, values * kv_dtype_bytes(KV_F32)));
        if (rows[i].n_tokens == 1)
            printf("   %s and %s bytes", text_count(f16, values * kv_dtype_bytes(KV_F16)),
                   text_count(f32, values * kv_dtype_bytes(KV_F32)));
        putchar('\n');
    }
}

static void print_id(const char *label, int64_t id)
{
    if (id >= 0)
        printf(", %s %" PRId64, label, id);
}

static void print_words(const struct file_facts *facts)
{
    char n[TEXT_NUMBER_BYTES];
    const struct vocabulary *vocabulary = facts->vocabulary;

    printf("\ntext\n");
    print_text_key(facts, "tokenizer", "tokenizer.ggml.model");
    print_text_key(facts, "pre-tokenizer", "tokenizer.ggml.pre");
    if (vocabulary != NULL) {
        printf("  tokens         %s", text_count(n, vocabulary_n_tokens(vocabulary)));
        print_id("begin", vocabulary_bos_id(vocabulary));
        print_id("end", vocabulary_eos_id(vocabulary));
        printf("%s%s\n", vocabulary_adds_bos(vocabulary) ? ", begin is added" : "",
               vocabulary_adds_eos(vocabulary) ? ", end is added" : "");
    }
    printf("  chat template  ");
    if (facts->chat_template != NULL)
        printf("recognised: %s", chat_template_family(facts->chat_template));
    else if (facts->chat_refusal.text[0] != '\0')
        output_text(stdout, slice_from(facts->chat_refusal.text), 0);
    else
        printf("not looked at: the tokenizer cannot be read");
    putchar('\n');
}

static void print_verdict(const struct file_facts *facts)
{
    if (facts->status < 0)
        return; /* the refusal follows on standard error */
    if (facts->is_vocabulary && facts->n_unsupported == 0) {
        printf("\nA vocabulary without a model: served, it answers Tokenize, Detokenize and "
               "GetModel only.\n");
        return;
    }
    if (facts->n_unsupported == 0) {
        printf("\nThis build runs this model%s.\n",
               facts->chat_template == NULL ? " on raw text; chat is unsupported" : "");
        return;
    }
    printf("\nunsupported: this build does not run this file\n");
    for (uint32_t i = 0; i < facts->n_unsupported; i++) {
        printf("  - ");
        output_text(stdout, slice_from(facts->unsupported[i].text), 0);
        putchar('\n');
    }
}

static void print_facts(const struct file_facts *facts, const struct inspect_options *in)
{
    print_files(facts);
    print_plan(facts);
    if (!facts->is_vocabulary) {
        print_types(facts);
        print_geometry(facts);
    }
    print_words(facts);
    if (in->keys)
        inspect_list_keys(facts->file);
    if (in->tensors)
        inspect_list_tensors(facts);
    print_verdict(facts);
}

/* Status of the file itself. */
static int report(const char *path, const struct file_facts *facts,
                  const struct inspect_options *in, struct why *why)
{
    if (in->json)
        inspect_json_print(stdout, facts);
    else
        print_facts(facts, in);
    if (facts->status == STATUS_OK)
        return STATUS_OK;
    *why = facts->bad;
    return refuse_prefix(why, facts->status, "%s", path);
}

int tools_inspect(int argc, char **argv)
{
    struct inspect_options in = {.json = false};
    struct why why = {.text = ""};
    const char *path = NULL;
    bool help;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, &path, &n_operands, &help, &why);
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);
    if (help) {
        options_print_help(&command);
        return 0;
    }
    struct file_facts *facts = malloc(sizeof *facts);
    if (facts == NULL) {
        refuse(&why, STATUS_NO_MEMORY, "no memory to inspect %s", path);
        return output_refusal(&why, STATUS_NO_MEMORY, EXIT_FAILED);
    }
    status = file_facts_gather(path, facts, &why);
    if (status == STATUS_OK) {
        status = report(path, facts, &in, &why);
        file_facts_release(facts);
    }
    free(facts);
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
