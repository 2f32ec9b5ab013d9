/* Loaded before `quire chat` (chat_test.py): a terminal whose settings change slowly, before and
 * after the moment at which they do, so that keys come in between. */

#include <dlfcn.h>
#include <termios.h>
#include <time.h>

int tcsetattr(int fd, int when, const struct termios *settings)
{
    const struct timespec slow = {.tv_nsec = 60 * 1000 * 1000};
    int (*set)(int, int, const struct termios *);

    *(void **)&set = dlsym(RTLD_NEXT, "tcsetattr");
    nanosleep(&slow, NULL);
    int result = set(fd, when, settings);
    nanosleep(&slow, NULL);
    return result;
}
