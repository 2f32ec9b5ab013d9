#include "kvcache/prefix_tree.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define NODES 1000

static struct page_key key_of(uint32_t i)
{
    struct page_key key;
    uint8_t digest[SHA256_BYTES];
    sha256_of(&i, sizeof i, digest);
    memcpy(key.bytes, digest, sizeof key.bytes);
    return key;
}

static node_id insert(struct prefix_tree *tree, node_id parent, uint32_t i)
{
    struct page_key key = key_of(i);
    uint64_t units[PAGE_TOKENS];
    for (uint32_t k = 0; k < PAGE_TOKENS; k++)
        units[k] = i + k;
    return prefix_tree_insert(tree, parent, &key, units);
}

static node_id find(const struct prefix_tree *tree, uint32_t i)
{
    struct page_key key = key_of(i);
    return prefix_tree_find(tree, &key);
}

static void assert_whole(const struct prefix_tree *tree)
{
    struct why why = {.text = ""};
    if (prefix_tree_check(tree, &why) < 0)
        fail_msg("%s", why.text);
}

static struct prefix_tree *tree_of(uint32_t n_nodes)
{
    struct prefix_tree *tree;
    struct why why;
    assert_int_equal(prefix_tree_create(n_nodes, &tree, &why), STATUS_OK);
    return tree;
}

/* A chain, then every third of its ends in turn: buckets split at each size up to the last. */
static void test_prefix_tree__every_key_is_found_whatever_the_size(void **state)
{
    struct prefix_tree *tree = tree_of(NODES);
    node_id nodes[NODES];

    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = insert(tree, i % 3 == 0 ? NODE_NONE : nodes[i - 1], i);
        assert_int_not_equal(nodes[i], NODE_NONE);
        assert_int_equal(find(tree, i + 1), NODE_NONE);
        assert_whole(tree);
    }
    for (uint32_t i = 0; i < NODES; i++)
        assert_int_equal(find(tree, i), nodes[i]);
    assert_int_equal(insert(tree, NODE_NONE, NODES), NODE_NONE); /* all are taken */

    for (uint32_t i = 2; i < NODES; i += 3) {
        prefix_tree_remove(tree, nodes[i]);
        assert_int_equal(find(tree, i), NODE_NONE);
    }
    assert_whole(tree);
    for (uint32_t i = 2; i < NODES; i += 3)
        assert_int_not_equal(insert(tree, nodes[i - 1], NODES + i), NODE_NONE);
    assert_int_equal(insert(tree, NODE_NONE, 3 * NODES), NODE_NONE); /* no more than had left */
    for (uint32_t i = 0; i < NODES; i++)
        assert_int_not_equal(find(tree, i % 3 == 2 ? NODES + i : i), NODE_NONE);
    assert_whole(tree);
    prefix_tree_free(tree);
}

static void test_prefix_tree__a_node_holds_its_ids_and_no_others(void **state)
{
    struct prefix_tree *tree = tree_of(2);
    node_id node = insert(tree, NODE_NONE, 7);
    uint32_t ids[PAGE_TOKENS];

    for (uint32_t k = 0; k < PAGE_TOKENS; k++)
        ids[k] = 7 + k;
    assert_true(prefix_tree_holds(tree, node, ids));
    for (uint32_t k = 0; k < PAGE_TOKENS; k++) {
        ids[k] ^= 1u << k % 32;
        assert_false(prefix_tree_holds(tree, node, ids));
        ids[k] ^= 1u << k % 32;
    }
    prefix_tree_free(tree);
}

/* A digest of something else than a token, whose lower half is an id. */
static void test_prefix_tree__a_unit_that_is_no_id_is_never_taken_for_one(void **state)
{
    struct prefix_tree *tree = tree_of(1);
    struct page_key key = key_of(0);
    uint64_t units[PAGE_TOKENS] = {0};
    uint32_t ids[PAGE_TOKENS] = {0};

    units[63] = 1ull << 32;
    node_id node = prefix_tree_insert(tree, NODE_NONE, &key, units);
    assert_false(prefix_tree_holds(tree, node, ids));

    prefix_tree_remove(tree, node);
    units[63] = 0;
    node = prefix_tree_insert(tree, NODE_NONE, &key, units);
    assert_true(prefix_tree_holds(tree, node, ids));
    prefix_tree_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_tree__every_key_is_found_whatever_the_size),
        cmocka_unit_test(test_prefix_tree__a_node_holds_its_ids_and_no_others),
        cmocka_unit_test(test_prefix_tree__a_unit_that_is_no_id_is_never_taken_for_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
