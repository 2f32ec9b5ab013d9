/* main.c: `quire COMMAND ...`: finds the command and hands over. */
#include "clients/c/client_main.h"
#include "service/serve.h"
#include "tools/tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    {"chat", client_main, "talk with a model, line by line"},
    {"summarize", client_main, "summarize a document of any size"},
    {"tokenize", client_main, "turn text on standard input into token ids"},
    {"detokenize", client_main, "turn token ids into text"},
    {"estimate", client_main, "tell what a prompt would take, and whether it would be admitted"},
    {"model", client_main, "tell what a server serves"},
    {"stats", client_main, "watch a server's pages, sequences and rates"},
    {"health", client_main, "tell by the exit status whether a server serves"},
    {"inspect", tools_inspect, "tell what a GGUF file holds and what it costs to run"},
    {"logits", tools_logits, "write the logits of given tokens as a NumPy array"},
    {"eval", tools_eval, "tell how likely a model finds a text"},
    {"bench", tools_bench, "measure prefill and decode beside the machine's peaks"},
    {"plan", tools_plan, "tell what a model would take of GPUs, and how fast they could decode"},
    {"devices", tools_devices, "tell what this machine can compute with: the CPU, and GPUs"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

/* Started with a standard stream closed, the next file opened would take its place, and an answer
 * would be written into it. What stands there instead refuses every use, as if still closed. */
static bool fill_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        bool is_closed = fcntl(fd, F_GETFD) < 0 && errno == EBADF;
        if (is_closed && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    }
    return true;
}

static void print_help(FILE *to)
{
    fputs("Quire streams answers of a language model about very long documents.\n\n"
          "Usage: quire COMMAND [options]\n"
          "       quire COMMAND --help      (or: quire help COMMAND)\n"
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

static bool is_one_of(const char *word, const char *first, const char *second)
{
    return strcmp(word, first) == 0 || strcmp(word, second) == 0;
}

static int run_command(const char *name, int argc, char **argv)
{
    const struct command_entry *command = find(name);
    if (command != NULL)
        return finish(command->run(argc, argv));
    fprintf(stderr, "quire: there is no command \"%.64s\"; see quire --help\n", name);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static char help[] = "--help";
    if (!fill_standard_streams())
        return EXIT_FAILED;
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (argc > 2 && strcmp(argv[1], "help") == 0)
        return run_command(argv[2], 2, (char *[]){argv[2], help, NULL});
    if (is_one_of(argv[1], "--help", "-h") || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return finish(0);
    }
    if (is_one_of(argv[1], "--version", "-V")) {
        puts("quire " QUIRE_VERSION);
        return finish(0);
    }
    return run_command(argv[1], argc - 1, argv + 1);
}
