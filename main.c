/* main.c: `quire COMMAND ...`: finds the command and hands over. */
#include "clients/c/client_main.h"
#include "service/serve.h"
#include "tools/tools.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXIT_FAILED 1
#define EXIT_USAGE 2

struct command_entry {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the name; returns the exit status */
    const char *summary;
};

static const struct command_entry commands[] = {
    {"serve", serve_main, "serve a model over gRPC"},
    {"generate", client_main, "continue a text, or answer with --chat"},
    {"summarize", client_main, "summarize a document of any size"},
    {"tokenize", client_main, "turn text on standard input into token ids"},
    {"detokenize", client_main, "turn token ids into text"},
    {"model", client_main, "tell what a server serves"},
    {"stats", client_main, "watch a server's pages, sequences and rates"},
    {"health", client_main, "tell by the exit status whether a server serves"},
    {"inspect", tools_inspect, "tell what a GGUF file holds and what it costs to run"},
    {"logits", tools_logits, "write the logits of given tokens as a NumPy array"},
    {"bench", tools_bench, "measure prefill and decode beside the machine's peaks"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void print_help(FILE *to)
{
    fputs("Quire streams answers of a language model about very long documents.\n\n"
          "Usage: quire COMMAND [options]\n"
          "       quire COMMAND --help\n"
          "       quire --version\n\n"
          "Commands:\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s  %s\n", commands[i].name, commands[i].summary);
    fputs("\nExamples:\n"
          "  quire serve --model models/SmolLM2-135M-Instruct.Q4_1.gguf\n"
          "  quire generate --chat --prompt \"What is the capital of France?\" --temperature 0\n"
          "  quire summarize long.txt\n"
          "  quire inspect models/SmolLM2-135M-Instruct.Q4_1.gguf\n"
          "  quire logits -m model.gguf --tokens 504,3575,282,4649,314 -o logits.npy\n"
          "  quire bench -m model.gguf --depth 0,2048\n\n"
          "Every option can also be set by a variable: --model FILE is QUIRE_MODEL=FILE.\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage.\n",
          to);
}

static const struct command_entry *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* What was printed must have arrived: a full disk is no success. */
static int finish(int exit_status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status;
    fprintf(stderr, "quire: standard output: %s\n", strerror(errno));
    return exit_status == 0 ? EXIT_FAILED : exit_status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return finish(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("quire " QUIRE_VERSION);
        return finish(0);
    }
    const struct command_entry *command = find(argv[1]);
    if (command == NULL) {
        fprintf(stderr, "quire: there is no command \"%.64s\"; see quire --help\n", argv[1]);
        return EXIT_USAGE;
    }
    return finish(command->run(argc - 1, argv + 1));
}
