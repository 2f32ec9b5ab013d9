/* clients/c/client_signals.h: Ctrl-C, SIGTERM and SIGHUP cancel the call; a second one ends the
 * process. */
#ifndef QUIRE_CLIENTS_C_CLIENT_SIGNALS_H
#define QUIRE_CLIENTS_C_CLIENT_SIGNALS_H

struct quire_client;

/* From now on the first such signal is remembered and interrupts system calls, and client (when
 * there is one) is interrupted. SIGPIPE is ignored. */
void client_signals_catch(void);
void client_signals_watch(struct quire_client *client); /* NULL: none any more */

int client_signals_caught(void); /* the number of the signal; 0: none */
/* Signals do again what they did before: nobody waits for an answer. */
void client_signals_release(void);
/* The same, but SIGINT waits until the next client_signals_catch: while a line is edited Ctrl-C is
 * a key, and one that is pressed as the terminal changes hands must not end the program. */
void client_signals_release_but_interrupt(void);
/* The signal was dealt with: the client that is watched works again. */
void client_signals_forget(void);

#endif
