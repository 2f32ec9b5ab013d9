/* clients/c/client_main.h: the subcommands that are gRPC clients. */
#ifndef QUIRE_CLIENTS_C_CLIENT_MAIN_H
#define QUIRE_CLIENTS_C_CLIENT_MAIN_H

#include <stdbool.h>

bool client_knows(const char *name);
int client_main(int argc, char **argv); /* argv[0] is a name that client_knows; the exit status */

/* One file each, <name>_command.c. */
int generate_command(int argc, char **argv);
int chat_command(int argc, char **argv);
int estimate_command(int argc, char **argv);
int summarize_command(int argc, char **argv);
int tokenize_command(int argc, char **argv);
int detokenize_command(int argc, char **argv);
int model_command(int argc, char **argv);
int stats_command(int argc, char **argv);
int health_command(int argc, char **argv);

#endif
