/* service/work.h: work that would block the loop (tokenizing an upload, reading a file) on a small
 * pool of threads.
 *
 *   loop    work_submit ...............................  done(arg, status)
 *   worker        '------ work(arg): owns the buffer ------'
 *
 * A whole buffer is handed over and comes back: between submit and done only `work` may touch what
 * arg points to. arg must outlive the call that asked (a cancelled call keeps it until done). Every
 * accepted submit gets exactly one done, also at a stop.
 */
#ifndef QUIRE_SERVICE_WORK_H
#define QUIRE_SERVICE_WORK_H

struct loop;

/* On the loop thread. STATUS_EXHAUSTED when WORKS_MAX are under way (nothing was taken),
 * STATUS_NO_MEMORY. done gets STATUS_OK, or STATUS_CANCELLED when the server stopped before work
 * began. */
int work_submit(struct loop *loop, void (*work)(void *arg), void (*done)(void *arg, int status),
                void *arg);

/* For the server at a stop: what has not begun comes back as STATUS_CANCELLED, what has runs to its
 * end. */
void work_cancel_all(struct loop *loop);

#endif
