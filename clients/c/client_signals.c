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

static void handle_by(void (*handler)(int number), int flags)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
        struct sigaction before;
        sigemptyset(&action.sa_mask);
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL); /* nohup stays nohup */
    }
}

static void mask_interrupt(int how)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(how, &interrupt, NULL);
}

void client_signals_catch(void)
{
    handle_by(on_signal, (int)SA_RESETHAND);
    signal(SIGPIPE, SIG_IGN);
    mask_interrupt(SIG_UNBLOCK);
}

void client_signals_release(void)
{
    handle_by(SIG_DFL, 0);
}

void client_signals_release_but_interrupt(void)
{
    mask_interrupt(SIG_BLOCK);
    handle_by(SIG_DFL, 0);
}

void client_signals_watch(struct quire_client *client)
{
    atomic_store(&watched, client);
    if (client != NULL && caught != 0)
        quire_client_interrupt(client);
}

void client_signals_forget(void)
{
    struct quire_client *client = atomic_load(&watched);
    if (caught == 0)
        return;
    caught = 0;
    if (client != NULL)
        quire_client_resume(client);
}

int client_signals_caught(void)
{
    return caught;
}
