/* tests/base/capture_fixture.h: catches what goes to one file descriptor, in a file or a
 * pseudo-terminal. */
#ifndef QUIRE_TESTS_BASE_CAPTURE_FIXTURE_H
#define QUIRE_TESTS_BASE_CAPTURE_FIXTURE_H

#include <stddef.h>

struct capture {
    int fd;     /* the one that is caught: 1 or 2 */
    int saved;  /* what it was */
    int source; /* where the caught bytes are read */
    char text[65536];
};

void capture_begin(struct capture *capture, int fd);          /* into a file */
void capture_begin_terminal(struct capture *capture, int fd); /* into a terminal of 80 columns */
const char *capture_read(struct capture *capture);            /* what came since the last read */
void capture_end(struct capture *capture);                    /* puts the descriptor back */

#endif
