/* base/options.h: one table gives the flags, the QUIRE_* variables, the defaults, and the --help of
 * a subcommand.
 *
 * A value comes from the command line (--name VALUE, --name=VALUE, -x VALUE), else from the
 * variable QUIRE_NAME (dashes become underscores, upper case), else from the default. Flags take no
 * value on the command line; in a variable 1/true/yes/on or 0/false/no/off. "--" ends options.
 * Tables are static and end with an entry whose name is NULL.
 */
#ifndef QUIRE_BASE_OPTIONS_H
#define QUIRE_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct why;

enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *, borrowed from argv or the environment */
    OPTION_INT,    /* int64_t, min..max */
    OPTION_REAL,   /* double, min..max */
    OPTION_BYTES,  /* uint64_t, text_parse_bytes */
    OPTION_CHOICE, /* int: index into choices */
    OPTION_LIST,   /* struct option_list: given several times; the variable holds one value */
};

#define OPTION_LIST_MAX 16
struct option_list {
    const char *values[OPTION_LIST_MAX];
    size_t n;
};

struct option {
    const char *name; /* "kv-memory" */
    char letter;      /* 'm' or 0 */
    enum option_kind kind;
    size_t offset;          /* of the field in the caller's struct */
    const char *fallback;   /* default as text; NULL: the field keeps what the caller put there */
    const char *value_name; /* "BYTES" */
    const char *help;       /* one line or several parted by \n */
    double min, max;        /* INT and REAL */
    const char *choices;    /* "f16|f32" */
    size_t given_offset;    /* of a bool that tells whether the user set it; 0 = not wanted */
};

struct command {
    const char *name;    /* "serve" */
    const char *usage;   /* "quire serve --model FILE [options]" */
    const char *summary; /* what it does, one or more lines */
    const struct option *options;
    const char *examples; /* "  quire serve --model m.gguf\n..." */
    int operands_min, operands_max;
};

/* argv[0] is the subcommand's own name and is skipped. Fills *values. Operands (in order) go to
 * operands[0..*n_operands). STATUS_INVALID with a sentence (the caller exits 2); *help set: --help
 * or -h was given, nothing else was checked. */
int options_parse(const struct command *command, int argc, char **argv, void *values,
                  const char **operands, int *n_operands, bool *help, struct why *why);
void options_print_help(const struct command *command); /* standard output, 100 columns at most */

#endif
