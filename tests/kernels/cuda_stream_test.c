/* Lists under way behind each other on a GPU, and graphs. The work is a rotation: row r of x
 * becomes row r + 1, so that the number of runs shows. */
#include "tests/kernels/twin_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/tensor_type.h"

#define ROWS 6
#define WIDTH 96
#define BYTES (ROWS * WIDTH * sizeof(float))

struct scene {
    struct twin cuda;
    float *in[2], *out[2];   /* host, of device_alloc_host */
    float *x, *y;            /* device [ROWS, WIDTH] */
    uint32_t *next, *same;   /* device [ROWS] */
    struct weight *table;    /* a vocabulary of one */
    struct row_input *wrong; /* device: a token beyond it */
};

static void fill(float *rows, uint32_t seed)
{
    float *random = random_floats(ROWS * WIDTH, seed, 1.0f);
    memcpy(rows, random, BYTES);
    free(random);
}

static void alloc_host(struct scene *scene, float **out)
{
    void *memory;
    struct why why;
    if (device_alloc_host(scene->cuda.device, BYTES, &memory, &why) < 0)
        fail_msg("%s", why.text);
    *out = memory;
}

/* Two ops. */
static void rotate(struct scene *scene, struct stream *stream)
{
    struct gather_args there = {scene->x, scene->next, ROWS, WIDTH, scene->y};
    struct gather_args back = {scene->y, scene->same, ROWS, WIDTH, scene->x};
    scene->cuda.ops->gather(stream, &there);
    scene->cuda.ops->gather(stream, &back);
}

static int scene_begin(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct row_input wrong = {ROW_TOKEN, 1};
    uint32_t next[ROWS], same[ROWS];
    float values[32] = {0};
    struct weight_source source = {TENSOR_F32, 32, 1, values, "token_embd.weight"};
    scene->cuda = twin_open(BACKEND_CUDA);
    for (uint32_t r = 0; r < ROWS; r++) {
        same[r] = r;
        next[r] = (r + ROWS - 1) % ROWS;
    }
    for (int i = 0; i < 2; i++) {
        alloc_host(scene, &scene->in[i]);
        alloc_host(scene, &scene->out[i]);
        fill(scene->in[i], 1 + (uint32_t)i);
    }
    scene->x = twin_alloc(&scene->cuda, BYTES);
    scene->y = twin_alloc(&scene->cuda, BYTES);
    scene->next = twin_upload(&scene->cuda, next, sizeof next);
    scene->same = twin_upload(&scene->cuda, same, sizeof same);
    scene->wrong = twin_upload(&scene->cuda, &wrong, sizeof wrong);
    assert_int_equal(scene->cuda.ops->weight_load(scene->cuda.device, WEIGHT_PLAIN, &source, 1, 0,
                                                  1, &scene->table, NULL),
                     STATUS_OK);
    rotate(scene, scene->cuda.stream); /* so that a GPU has loaded what graphs hold */
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    *state = scene;
    return 0;
}

static int scene_end(void **state)
{
    struct scene *scene = *state;
    for (int i = 0; i < 2; i++) {
        device_free_host(scene->cuda.device, scene->in[i]);
        device_free_host(scene->cuda.device, scene->out[i]);
    }
    scene->cuda.ops->weight_free(scene->cuda.device, scene->table);
    twin_close(&scene->cuda);
    free(scene);
    return 0;
}

/* A list of four ops: in[i], rotated once, to out[i]. */
static void enqueue_turn(struct scene *scene, struct stream *stream, int i)
{
    device_write(stream, scene->x, scene->in[i], BYTES);
    rotate(scene, stream);
    device_read(stream, scene->out[i], scene->x, BYTES);
}

/* An op that puts an error into the stream's word. */
static void enqueue_error(struct scene *scene)
{
    struct embed_args args = {.table = scene->table, .inputs = scene->wrong, .n_rows = 1,
                              .x = scene->y};
    scene->cuda.ops->embed(scene->cuda.stream, &args);
}

static void assert_rotated(const float *out, const float *in, uint32_t n)
{
    for (uint32_t r = 0; r < ROWS; r++)
        assert_memory_equal(out + (r + n) % ROWS * WIDTH, in + r * WIDTH, WIDTH * sizeof *in);
}

/* --- lists --- */

static void test_cuda_stream__two_lists_are_under_way_and_pass_in_their_order(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    assert_int_equal(device_depth(scene->cuda.device), 2);
    enqueue_turn(scene, stream, 0);
    device_submit(stream);
    for (uint32_t n = 1; n < 9; n++) {
        int next = (int)n % 2, oldest = 1 - next;
        fill(scene->in[next], n + 10);
        enqueue_turn(scene, stream, next);
        device_submit(stream);
        assert_int_equal(stream_n_under_way(stream), 2);
        assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
        assert_int_equal(stream_n_under_way(stream), 1);
        assert_rotated(scene->out[oldest], scene->in[oldest], 1);
    }
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    assert_rotated(scene->out[0], scene->in[0], 1);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK); /* nothing is left */
}

static void test_cuda_stream__a_list_tells_its_own_error_and_later_ones_keep_it(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    enqueue_turn(scene, stream, 0);
    device_submit(stream);
    enqueue_error(scene);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    assert_rotated(scene->out[0], scene->in[0], 1);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OUT_OF_RANGE);

    enqueue_turn(scene, stream, 1);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OUT_OF_RANGE);
    assert_int_equal(stream_status(stream), STATUS_OUT_OF_RANGE);
    for (int i = 0; i < ROWS * WIDTH; i++)
        assert_true(scene->out[1][i] == 0.0f);
    assert_int_equal(graph_begin(stream, NULL), STATUS_OUT_OF_RANGE);
}

static void test_cuda_stream__an_error_of_the_oldest_list_is_told_with_one_behind_it(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    enqueue_error(scene);
    device_submit(stream);
    enqueue_turn(scene, stream, 1);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OUT_OF_RANGE);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OUT_OF_RANGE);
    assert_int_equal(stream_n_under_way(stream), 0);
}

static void test_cuda_stream__each_list_holds_as_many_ops_as_the_stream_was_made_for(void **state)
{
    struct scene *scene = *state;
    struct stream *stream;
    assert_int_equal(stream_create(scene->cuda.device, 4, &stream, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        enqueue_turn(scene, stream, i);
        device_submit(stream);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
        assert_rotated(scene->out[i], scene->in[i], 1);
    }
    enqueue_turn(scene, stream, 0);
    assert_int_equal(stream_status(stream), STATUS_OK);
    rotate(scene, stream);
    assert_int_equal(stream_status(stream), STATUS_INTERNAL);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_INTERNAL);
    stream_free(stream);
}

static void test_cuda_stream__is_freed_when_its_lists_have_passed(void **state)
{
    struct scene *scene = *state;
    struct stream *stream;
    assert_int_equal(stream_create(scene->cuda.device, 4, &stream, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        enqueue_turn(scene, stream, i);
        device_submit(stream);
    }
    stream_free(stream);
    for (int i = 0; i < 2; i++)
        assert_rotated(scene->out[i], scene->in[i], 1);
}

/* --- beside each other --- */

static struct stream *other_stream(struct scene *scene)
{
    struct stream *other;
    assert_int_equal(stream_create(scene->cuda.device, 8, &other, NULL), STATUS_OK);
    return other;
}

/* The other one reads what a list wrote that was started or submitted, and not waited for. */
static void follow_after(struct scene *scene, void (*begin)(struct stream *stream))
{
    struct stream *first = scene->cuda.stream, *second = other_stream(scene);
    for (uint32_t n = 1; n < 5; n++) {
        fill(scene->in[0], n + 20);
        device_write(first, scene->x, scene->in[0], BYTES);
        rotate(scene, first);
        begin(first);
        stream_follow(second, first);
        device_read(second, scene->out[0], scene->x, BYTES);
        device_submit(second);
        assert_int_equal(device_wait(second, NULL, NULL), STATUS_OK);
        assert_rotated(scene->out[0], scene->in[0], 1);
        if (stream_n_under_way(first) > 0)
            assert_int_equal(device_wait(first, NULL, NULL), STATUS_OK);
    }
    stream_free(second);
}

static void test_cuda_stream__what_follows_a_started_list_runs_behind_it(void **state)
{
    follow_after(*state, device_start);
}

static void test_cuda_stream__what_follows_a_submitted_list_runs_behind_it(void **state)
{
    follow_after(*state, device_submit);
}

/* As many ops again behind each start. */
static void test_cuda_stream__started_lists_hold_as_many_ops_as_others(void **state)
{
    struct scene *scene = *state;
    struct stream *stream;
    assert_int_equal(stream_create(scene->cuda.device, 4, &stream, NULL), STATUS_OK);
    stream_follow(scene->cuda.stream, stream); /* which has begun nothing */
    for (int i = 0; i < 3; i++) {
        enqueue_turn(scene, stream, 0);
        device_start(stream);
    }
    stream_follow(scene->cuda.stream, stream);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    assert_rotated(scene->out[0], scene->in[0], 1);
    stream_free(stream);
}

static void test_cuda_stream__an_error_goes_to_those_who_follow(void **state)
{
    struct scene *scene = *state;
    struct stream *first, *second = other_stream(scene);
    assert_int_equal(stream_create(scene->cuda.device, 1, &first, NULL), STATUS_OK);
    rotate(scene, first); /* one op too many */
    device_start(first);
    assert_int_equal(stream_status(second), STATUS_OK);
    stream_follow(second, first);
    assert_int_equal(stream_status(second), STATUS_INTERNAL);
    device_submit(second);
    assert_int_equal(device_wait(second, NULL, NULL), STATUS_INTERNAL);
    stream_free(first);
    stream_free(second);
}

static void test_cuda_stream__a_list_is_done_when_its_results_are_there(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    assert_true(device_is_done(stream)); /* nothing is under way */
    for (int i = 0; i < 2; i++) {
        enqueue_turn(scene, stream, i);
        device_submit(stream);
    }
    for (int i = 0; i < 2; i++) {
        while (!device_is_done(stream))
            ;
        assert_rotated(scene->out[i], scene->in[i], 1);
        assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    }
    assert_true(device_is_done(stream));
}

/* --- graphs --- */

static void test_cuda_stream__a_graph_does_as_often_as_it_is_run_what_its_ops_do(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    struct graph *graph;
    struct why why;
    assert_true(device_has_graphs(scene->cuda.device));
    device_write(stream, scene->x, scene->in[0], BYTES);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);

    uint64_t n_enqueued = stream_n_enqueued(stream);
    assert_int_equal(graph_begin(stream, &why), STATUS_OK);
    for (int i = 0; i < 20; i++) /* more ops than the stream was made for */
        rotate(scene, stream);
    if (graph_end(stream, &graph, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(stream_n_enqueued(stream), n_enqueued);
    device_read(stream, scene->out[0], scene->x, BYTES);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    assert_memory_equal(scene->out[0], scene->in[0], BYTES); /* nothing has run */

    graph_run(stream, graph);
    graph_run(stream, graph);
    device_read(stream, scene->out[0], scene->x, BYTES);
    assert_int_equal(stream_n_enqueued(stream), n_enqueued + 4);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);

    device_write(stream, scene->x, scene->in[0], BYTES);
    for (int i = 0; i < 40; i++) {
        rotate(scene, stream);
        if (i % 4 == 3)
            assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    }
    device_read(stream, scene->out[1], scene->x, BYTES);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    assert_memory_equal(scene->out[0], scene->out[1], BYTES);
    assert_rotated(scene->out[0], scene->in[0], 40);
    graph_free(graph);
}

static void test_cuda_stream__a_graph_is_part_of_two_lists_under_way(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    struct graph *graph;
    assert_int_equal(graph_begin(stream, NULL), STATUS_OK);
    rotate(scene, stream);
    assert_int_equal(graph_end(stream, &graph, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        device_write(stream, scene->x, scene->in[i], BYTES);
        for (int n = 0; n < 2 + i; n++)
            graph_run(stream, graph);
        device_read(stream, scene->out[i], scene->x, BYTES);
        device_submit(stream);
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
        assert_rotated(scene->out[i], scene->in[i], 2 + i);
    }
    graph_free(graph);
}

/* Taking memory spoils a capture. */
static void test_cuda_stream__what_no_graph_can_hold_is_told_and_does_not_stick(void **state)
{
    struct scene *scene = *state;
    struct stream *stream = scene->cuda.stream;
    struct graph *graph = NULL;
    struct why why = {.text = ""};
    void *memory;
    assert_int_equal(graph_begin(stream, NULL), STATUS_OK);
    rotate(scene, stream);
    assert_int_equal(device_alloc(scene->cuda.device, 64, &memory, NULL), STATUS_UNAVAILABLE);
    rotate(scene, stream);
    assert_int_equal(graph_end(stream, &graph, &why), STATUS_UNAVAILABLE);
    assert_non_null(strstr(why.text, "graph"));
    assert_null(graph);
    assert_int_equal(stream_status(stream), STATUS_OK);

    enqueue_turn(scene, stream, 0);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    assert_rotated(scene->out[0], scene->in[0], 1);
    assert_int_equal(graph_begin(stream, NULL), STATUS_OK);
    rotate(scene, stream);
    assert_int_equal(graph_end(stream, &graph, &why), STATUS_OK);
    graph_free(graph);
}

static void test_cuda_stream__is_freed_with_a_graph_half_made(void **state)
{
    struct scene *scene = *state;
    struct stream *stream;
    assert_int_equal(stream_create(scene->cuda.device, 4, &stream, NULL), STATUS_OK);
    assert_int_equal(graph_begin(stream, NULL), STATUS_OK);
    rotate(scene, stream);
    stream_free(stream);
    enqueue_turn(scene, scene->cuda.stream, 1);
    assert_int_equal(twin_run(&scene->cuda), STATUS_OK);
    assert_rotated(scene->out[1], scene->in[1], 1);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_cuda_stream__two_lists_are_under_way_and_pass_in_their_order),
        SCENE(test_cuda_stream__a_list_tells_its_own_error_and_later_ones_keep_it),
        SCENE(test_cuda_stream__an_error_of_the_oldest_list_is_told_with_one_behind_it),
        SCENE(test_cuda_stream__each_list_holds_as_many_ops_as_the_stream_was_made_for),
        SCENE(test_cuda_stream__is_freed_when_its_lists_have_passed),
        SCENE(test_cuda_stream__what_follows_a_started_list_runs_behind_it),
        SCENE(test_cuda_stream__what_follows_a_submitted_list_runs_behind_it),
        SCENE(test_cuda_stream__started_lists_hold_as_many_ops_as_others),
        SCENE(test_cuda_stream__an_error_goes_to_those_who_follow),
        SCENE(test_cuda_stream__a_list_is_done_when_its_results_are_there),
        SCENE(test_cuda_stream__a_graph_does_as_often_as_it_is_run_what_its_ops_do),
        SCENE(test_cuda_stream__a_graph_is_part_of_two_lists_under_way),
        SCENE(test_cuda_stream__what_no_graph_can_hold_is_told_and_does_not_stick),
        SCENE(test_cuda_stream__is_freed_with_a_graph_half_made),
    };
    return twin_has_cuda() ? cmocka_run_group_tests(tests, NULL, NULL) : TWIN_SKIPPED;
}
