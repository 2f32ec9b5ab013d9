#include "clients/c/client_signals.h"

#include "clients/c/quire_client.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static _Atomic(struct quire_client *) watched;
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    struct quire_client *client = atomic_load(&watched);
    caught = number;
    if (client != NULL)
        quire_client_interrupt(client);
}

void client_signals_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
        struct sigaction before;
        sigemptyset(&action.sa_mask);
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL); /* nohup stays nohup */
    }
    signal(SIGPIPE, SIG_IGN);
}

void client_signals_watch(struct quire_client *client)
{
    atomic_store(&watched, client);
    if (client != NULL && caught != 0)
        quire_client_interrupt(client);
}

int client_signals_caught(void)
{
    return caught;
}
