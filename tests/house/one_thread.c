/* Loaded before a test that tests/threaded.txt does not name: no thread may start in it. */

#include <pthread.h>
#include <unistd.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    static const char text[] =
        "This test starts a thread: add its stem to tests/threaded.txt, so that TSan runs it.\n";
    (void)thread, (void)attributes, (void)start, (void)argument;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}
