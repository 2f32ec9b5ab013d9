/* main.c: one binary; each subcommand is a room's own main. */
#include "service/serve.h"

#include <stdio.h>
#include <string.h>

struct entry {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct entry entries[] = {
    {"serve", "serve a model over gRPC", serve_main},
};

static void print_help(FILE *out)
{
    fprintf(out, "quire %s: streams answers and summaries of long documents from open-weight models\n\n"
                 "usage: quire COMMAND [options]      quire COMMAND --help says more\n\n",
            QUIRE_VERSION);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        fprintf(out, "  %-12s %s\n", entries[i].name, entries[i].summary);
    fprintf(out, "\nexamples:\n"
                 "  quire serve --model model.gguf\n");
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("quire %s\n", QUIRE_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (strcmp(argv[1], entries[i].name) == 0)
            return entries[i].run(argc - 1, argv + 1);
    fprintf(stderr, "quire: no command \"%s\"; see quire --help\n", argv[1]);
    return 2;
}
