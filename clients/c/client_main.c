#include "clients/c/client_main.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct entry {
    const char *name;
    int (*run)(int argc, char **argv);
} entries[] = {
    {"generate", generate_command}, {"summarize", summarize_command},
    {"chat", chat_command},         {"estimate", estimate_command},
    {"tokenize", tokenize_command}, {"detokenize", detokenize_command},
    {"model", model_command},       {"stats", stats_command},
    {"health", health_command},
};

static const struct entry *find(const char *name)
{
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

bool client_knows(const char *name)
{
    return find(name) != NULL;
}

int client_main(int argc, char **argv)
{
    const struct entry *entry = find(argv[0]);
    if (entry != NULL)
        return entry->run(argc, argv);
    fprintf(stderr, "quire: no client subcommand \"%s\"\n", argv[0]);
    return 2;
}
