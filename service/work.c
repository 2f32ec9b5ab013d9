#include "service/work.h"

#include "service/loop.h"

#include <stdlib.h>

struct work {
    uv_work_t request;
    struct list in_loop; /* so that a stop can cancel what has not begun */
    struct loop *loop;
    void (*work)(void *arg);
    void (*done)(void *arg, int status);
    void *arg;
};

static void run_on_worker(uv_work_t *request)
{
    struct work *work = request->data;
    work->work(work->arg);
}

static void come_back(uv_work_t *request, int uv_status)
{
    struct work *work = request->data;
    struct loop *loop = work->loop;
    work->done(work->arg, uv_status == UV_ECANCELED ? STATUS_CANCELLED : STATUS_OK);
    list_unlink(&work->in_loop);
    free(work);
    loop->n_works--;
    if (loop->on_departure != NULL)
        loop->on_departure(loop);
}

int work_submit(struct loop *loop, void (*fn)(void *arg), void (*done)(void *arg, int status),
                void *arg)
{
    if (loop->n_works == WORKS_MAX)
        return STATUS_EXHAUSTED;
    struct work *work = malloc(sizeof(*work));
    if (work == NULL)
        return STATUS_NO_MEMORY;
    *work = (struct work){.loop = loop, .work = fn, .done = done, .arg = arg};
    work->request.data = work;
    if (uv_queue_work(&loop->uv, &work->request, run_on_worker, come_back) < 0) {
        free(work);
        return STATUS_NO_MEMORY;
    }
    list_append(&loop->works, &work->in_loop);
    loop->n_works++;
    return STATUS_OK;
}

void work_cancel_all(struct loop *loop)
{
    list_for_each(node, &loop->works)
    {
        struct work *work = list_entry(node, struct work, in_loop);
        uv_cancel((uv_req_t *)&work->request); /* fails when it has begun: it then ends by itself */
    }
}
