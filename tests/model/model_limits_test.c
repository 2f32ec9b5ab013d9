/* Each maximum of a model file (limits.h): the limit passes, one more is refused by its name. */
#include "gguf_fixture.h"
#include "vocabulary_fixture.h"

#include "base/status.h"
#include "kernels/tensor_type.h"
#include "limits.h"
#include "model/layer_plan.h"
#include "model/token_trie.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct number {
    const char *key;
    uint32_t value;
};

/* A model as wide as can be, in keys only: that its tensors are missing is found after its numbers
 * were judged. */
static void add_keys(struct gguf_writer *writer, const struct number *changed)
{
    static const struct number largest[] = {
        {"llama.block_count", MODEL_LAYERS_MAX},
        {"llama.context_length", CONTEXT_TOKENS_MAX},
        {"llama.embedding_length", MODEL_WIDTH_MAX},
        {"llama.feed_forward_length", MODEL_FF_MAX},
        {"llama.attention.head_count", MODEL_HEADS_MAX},
        {"llama.attention.head_count_kv", MODEL_HEADS_MAX},
        {"llama.attention.key_length", MODEL_HEAD_DIM_MAX},
        {"llama.attention.value_length", MODEL_HEAD_DIM_MAX},
        {"llama.rope.dimension_count", MODEL_HEAD_DIM_MAX},
    };
    gguf_add_string(writer, "general.architecture", "llama");
    gguf_add_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (size_t i = 0; i < sizeof largest / sizeof *largest; i++) {
        bool is_changed = changed != NULL && strcmp(changed->key, largest[i].key) == 0;
        gguf_add_u32(writer, largest[i].key, is_changed ? changed->value : largest[i].value);
    }
}

static int read_plan(struct gguf_writer *writer, struct why *why)
{
    struct gguf *file = NULL;
    struct model_plan plan;
    int status = gguf_open_written(writer, &file, why);
    if (status == STATUS_OK)
        status = model_plan_read(file, &plan, why);
    gguf_close(file);
    gguf_writer_release(writer);
    return status;
}

static void assert_judged(const struct number *changed, const char *words)
{
    static const float values[8];
    struct gguf_writer writer;
    struct why why = {.text = ""};
    gguf_writer_init(&writer);
    add_keys(&writer, changed);
    gguf_add_tensor(&writer, "odd", TENSOR_F32, 1, (uint64_t[]){8}, values, sizeof values);
    assert_int_equal(read_plan(&writer, &why), STATUS_CORRUPT);
    if (strstr(why.text, words) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, words);
}

static void test_model_limits__numbers_at_their_limits_and_one_beyond(void **state)
{
    static const struct number beyond[] = {
        {"llama.block_count", MODEL_LAYERS_MAX + 1},
        {"llama.embedding_length", MODEL_WIDTH_MAX + 1},
        {"llama.feed_forward_length", MODEL_FF_MAX + 1},
        {"llama.attention.head_count", MODEL_HEADS_MAX + 1},
        {"llama.attention.head_count_kv", MODEL_HEADS_MAX + 1},
        {"llama.attention.key_length", MODEL_HEAD_DIM_MAX + 1},
        {"llama.attention.value_length", MODEL_HEAD_DIM_MAX + 1},
    };
    assert_judged(NULL, "token_embd.weight"); /* all at their limits: only the tensors lack */
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        char words[128];
        snprintf(words, sizeof words, "%s is %u; it must be 1 to %u", beyond[i].key,
                 beyond[i].value, beyond[i].value - 1);
        assert_judged(&beyond[i], words);
    }
}

static void assert_vocabulary(uint64_t n_rows, const char *words)
{
    size_t bytes = n_rows * 2 * sizeof(uint16_t);
    void *zeros = calloc(1, bytes);
    struct gguf_writer writer;
    struct why why = {.text = ""};
    gguf_writer_init(&writer);
    gguf_add_string(&writer, "general.architecture", "llama");
    gguf_add_f32(&writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_add_u32(&writer, "llama.block_count", 1);
    gguf_add_u32(&writer, "llama.context_length", 64);
    gguf_add_u32(&writer, "llama.embedding_length", 2);
    gguf_add_u32(&writer, "llama.feed_forward_length", 2);
    gguf_add_u32(&writer, "llama.attention.head_count", 1);
    gguf_add_tensor(&writer, "token_embd.weight", TENSOR_F16, 2, (uint64_t[]){2, n_rows}, zeros,
                    bytes);
    free(zeros);
    assert_int_equal(read_plan(&writer, &why), STATUS_CORRUPT);
    if (strstr(why.text, words) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, words);
}

static void test_model_limits__a_vocabulary_of_the_limit_and_one_more_row(void **state)
{
    char words[128];
    snprintf(words, sizeof words, "has %u rows; 1 to %u are possible", MODEL_VOCABULARY_MAX + 1,
             MODEL_VOCABULARY_MAX);
    assert_vocabulary(MODEL_VOCABULARY_MAX, "output_norm.weight"); /* the next that lacks */
    assert_vocabulary(MODEL_VOCABULARY_MAX + 1, words);
}

static void assert_token(size_t n_bytes, const char *words)
{
    struct source_fixture *fixture = source_fixture_create("smollm");
    struct vocabulary *vocabulary = NULL;
    struct why why = {.text = ""};
    static char text[TOKEN_BYTES_MAX + 2];
    source_fixture_fill(fixture);
    memset(text, 'x', n_bytes);
    text[n_bytes] = '\0';
    source_fixture_token(fixture, text, TOKEN_NORMAL);
    int status = vocabulary_create(&fixture->source, &vocabulary, &why);
    assert_int_equal(status, words == NULL ? STATUS_OK : STATUS_CORRUPT);
    if (words != NULL && strstr(why.text, words) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, words);
    if (words == NULL)
        assert_int_equal(vocabulary_longest(vocabulary), n_bytes);
    vocabulary_free(vocabulary);
    free(fixture);
}

static void test_model_limits__a_token_of_the_limit_and_one_more_byte(void **state)
{
    char words[64];
    snprintf(words, sizeof words, "has %d bytes, over %d", TOKEN_BYTES_MAX + 1, TOKEN_BYTES_MAX);
    assert_token(TOKEN_BYTES_MAX, NULL);
    assert_token(TOKEN_BYTES_MAX + 1, words);
}

#define LONG_TOKENS 8400

/* Bytes, and long tokens that part at their third letter at the latest: n_nodes all together. */
static void assert_tree(size_t n_nodes, int wanted)
{
    struct source_fixture *fixture = source_fixture_create("smollm");
    uint32_t n = fixture->source.n_tokens;
    size_t left = n_nodes - n;
    struct slice *tokens = malloc((n + LONG_TOKENS) * sizeof *tokens);
    int32_t *types = malloc((n + LONG_TOKENS) * sizeof *types);
    char *text = malloc((size_t)LONG_TOKENS * TOKEN_BYTES_MAX);
    struct vocabulary *vocabulary = NULL;
    struct token_trie *trie = NULL;
    struct why why = {.text = ""};
    memset(text, 'x', (size_t)LONG_TOKENS * TOKEN_BYTES_MAX);
    memcpy(tokens, fixture->tokens, n * sizeof *tokens);
    for (uint32_t i = 0; left > 0; i++, n++) {
        assert_true(i < LONG_TOKENS);
        char *at = text + (size_t)i * TOKEN_BYTES_MAX;
        size_t n_shared = i % 26 > 0 ? 2 : 1; /* with the one before, or with a byte's token */
        size_t len = left + n_shared < TOKEN_BYTES_MAX ? left + n_shared : TOKEN_BYTES_MAX;
        at[0] = (char)('a' + i / 676);
        at[1] = (char)('a' + i / 26 % 26);
        at[2] = (char)('a' + i % 26);
        tokens[n] = slice_of(at, len);
        left -= len - n_shared;
    }
    for (uint32_t id = 0; id < n; id++)
        types[id] = TOKEN_NORMAL;
    fixture->source.tokens = tokens;
    fixture->source.types = types;
    fixture->source.n_tokens = fixture->source.n_types = n;
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, &why), STATUS_OK);
    assert_int_equal(token_trie_create(vocabulary, &trie, &why), wanted);
    if (wanted == STATUS_OK)
        assert_int_equal(trie->n_nodes, n_nodes);
    else
        assert_true(why.numbers.requested == (double)n_nodes &&
                    why.numbers.available == TOKEN_TRIE_NODES_MAX);
    token_trie_free(trie);
    vocabulary_free(vocabulary);
    free(tokens);
    free(types);
    free(text);
    free(fixture);
}

static void test_model_limits__a_tree_of_tokens_of_the_limit_and_one_more_node(void **state)
{
    assert_tree(TOKEN_TRIE_NODES_MAX, STATUS_OK);
    assert_tree(TOKEN_TRIE_NODES_MAX + 1, STATUS_CORRUPT);
}

/* --- the file itself --- */

static char long_name[GGUF_KEY_BYTES_MAX + 2];

static const char *name_of(size_t n)
{
    memset(long_name, 'n', n);
    long_name[n] = '\0';
    return long_name;
}

static void assert_opens(struct gguf_writer *writer, const char *words)
{
    struct why why = {.text = ""};
    int status = gguf_open_written(writer, NULL, &why);
    assert_int_equal(status < 0, words != NULL);
    if (words != NULL && strstr(why.text, words) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, words);
    gguf_writer_release(writer);
}

static void start(struct gguf_writer *writer, const char *tensor)
{
    static const uint8_t zeros[3 << 20]; /* reaches behind the largest alignment */
    gguf_writer_init(writer);
    gguf_add_tensor(writer, tensor, TENSOR_F32, 1, (uint64_t[]){8}, zeros, sizeof zeros);
}

static void test_model_limits__keys_and_names_of_the_limit_and_one_more_byte(void **state)
{
    struct gguf_writer writer;
    start(&writer, "odd");
    gguf_add_u32(&writer, name_of(GGUF_KEY_BYTES_MAX), 1);
    assert_opens(&writer, NULL);
    start(&writer, "odd");
    gguf_add_u32(&writer, name_of(GGUF_KEY_BYTES_MAX + 1), 1);
    assert_opens(&writer, "65535");

    start(&writer, name_of(GGUF_TENSOR_NAME_BYTES_MAX));
    assert_opens(&writer, NULL);
    start(&writer, name_of(GGUF_TENSOR_NAME_BYTES_MAX + 1));
    assert_opens(&writer, "63");
}

static void test_model_limits__an_alignment_of_the_limit_and_the_next(void **state)
{
    struct gguf_writer writer;
    start(&writer, "odd");
    gguf_add_u32(&writer, "general.alignment", GGUF_ALIGNMENT_MAX);
    assert_opens(&writer, NULL);
    start(&writer, "odd");
    gguf_add_u32(&writer, "general.alignment", 2 * GGUF_ALIGNMENT_MAX);
    assert_opens(&writer, "general.alignment is 2097152");
}

static void test_model_limits__a_split_of_the_limit_and_one_more_part(void **state)
{
    struct gguf_writer writer;
    start(&writer, "odd");
    gguf_add_u32(&writer, "split.count", GGUF_SPLITS_MAX);
    assert_opens(&writer, "name does not end in -00001-of-01024.gguf"); /* judged by its name */
    start(&writer, "odd");
    gguf_add_u32(&writer, "split.count", GGUF_SPLITS_MAX + 1);
    assert_opens(&writer, "split.count is 1025; at most 1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_limits__numbers_at_their_limits_and_one_beyond),
        cmocka_unit_test(test_model_limits__a_vocabulary_of_the_limit_and_one_more_row),
        cmocka_unit_test(test_model_limits__a_token_of_the_limit_and_one_more_byte),
        cmocka_unit_test(test_model_limits__a_tree_of_tokens_of_the_limit_and_one_more_node),
        cmocka_unit_test(test_model_limits__keys_and_names_of_the_limit_and_one_more_byte),
        cmocka_unit_test(test_model_limits__an_alignment_of_the_limit_and_the_next),
        cmocka_unit_test(test_model_limits__a_split_of_the_limit_and_one_more_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
