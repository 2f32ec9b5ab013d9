#include "service/work.h"

#include "limits.h"
#include "service/loop.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct piece {
    sem_t *gate;        /* work waits here; NULL: it does not */
    pthread_t loop_thread;
    int n_worked, n_done;
    int status;
};

static void work_on(void *arg)
{
    struct piece *piece = arg;
    if (piece->gate != NULL)
        sem_wait(piece->gate);
    piece->n_worked++;
}

static void was_done(void *arg, int status)
{
    struct piece *piece = arg;
    assert_true(pthread_equal(pthread_self(), piece->loop_thread));
    piece->n_done++;
    piece->status = status;
}

static void end_when_done(struct loop *loop)
{
    if (loop->n_works == 0)
        loop_end(loop);
}

static struct loop *loop_of(void)
{
    struct loop *loop = malloc(sizeof(*loop));
    assert_non_null(loop);
    assert_int_equal(loop_init(loop, NULL), STATUS_OK);
    loop->on_departure = end_when_done;
    return loop;
}

static void test_work__comes_back_on_the_loop_thread(void **state)
{
    struct loop *loop = loop_of();
    struct piece piece = {.loop_thread = pthread_self()};
    assert_int_equal(work_submit(loop, work_on, was_done, &piece), STATUS_OK);
    assert_int_equal(piece.n_done, 0);
    loop_run(loop);
    assert_int_equal(piece.n_worked, 1);
    assert_int_equal(piece.n_done, 1);
    assert_int_equal(piece.status, STATUS_OK);
    loop_close(loop);
    free(loop);
}

static void test_work__is_bounded_and_a_stop_gives_each_piece_one_end(void **state)
{
    static struct piece pieces[WORKS_MAX];
    struct loop *loop = loop_of();
    sem_t gate;
    sem_init(&gate, 0, 0);
    for (int i = 0; i < WORKS_MAX; i++) {
        pieces[i] = (struct piece){.gate = &gate, .loop_thread = pthread_self()};
        assert_int_equal(work_submit(loop, work_on, was_done, &pieces[i]), STATUS_OK);
    }
    struct piece extra = {.loop_thread = pthread_self()};
    assert_int_equal(work_submit(loop, work_on, was_done, &extra), STATUS_EXHAUSTED);

    work_cancel_all(loop);
    for (int i = 0; i < WORKS_MAX; i++)
        sem_post(&gate);
    loop_run(loop);
    int n_worked = 0, n_cancelled = 0;
    for (int i = 0; i < WORKS_MAX; i++) {
        assert_int_equal(pieces[i].n_done, 1);
        assert_int_equal(pieces[i].status, pieces[i].n_worked == 1 ? STATUS_OK : STATUS_CANCELLED);
        n_worked += pieces[i].n_worked;
        n_cancelled += pieces[i].status == STATUS_CANCELLED;
    }
    assert_int_equal(n_worked + n_cancelled, WORKS_MAX);
    assert_true(n_cancelled > 0); /* the pool has a few threads only */
    assert_int_equal(extra.n_done, 0);
    loop_close(loop);
    free(loop);
    sem_destroy(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work__comes_back_on_the_loop_thread),
        cmocka_unit_test(test_work__is_bounded_and_a_stop_gives_each_piece_one_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
