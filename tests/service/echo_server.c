/* tests/service/echo_server.c: the echo handlers behind the real transport, for clients in other
 * languages.
 *
 * echo_server [LISTEN] [DRAIN_MS]     prints "listening ADDRESS"; SIGTERM drains, a second one
 * stops; exit 0
 *
 * At the end it prints "held N begun N cancels N": what the handlers still hold must be 0.
 */
#include "echo_fixture.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static struct echo echo;
    echo_start(&echo, &(struct server_options){
                          .listen = argc > 1 ? argv[1] : "127.0.0.1:0",
                          .signals = true,
                          .drain_ms = argc > 2 ? atol(argv[2]) : 0,
                      });
    printf("listening %s\n", server_address(echo.server));
    fflush(stdout);
    pthread_join(echo.thread, NULL);
    server_free(echo.server);
    printf("held %d begun %d cancels %d\n", echo.held, echo.begun, echo.cancels);
    return echo.result == STATUS_OK && echo.held == 0 ? 0 : 1;
}
