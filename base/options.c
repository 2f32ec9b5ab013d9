#include "base/options.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

#define OPTIONS_MAX 128
#define NAME_BYTES 64
#define SHOWN_BYTES 80 /* of what a user typed, in a refusal */
#define HELP_COLUMNS 100
#define HELP_INDENT 32 /* where the explanations begin */

struct parse {
    const struct command *command;
    char *values;
    bool given[OPTIONS_MAX];
    struct why *why;
};

static int n_options(const struct command *command)
{
    int n = 0;
    while (command->options[n].name != NULL)
        n++;
    assert(n <= OPTIONS_MAX);
    return n;
}

/* "--threads" of the command line or "QUIRE_THREADS" of the environment. */
static void variable_of(const struct option *option, char out[NAME_BYTES])
{
    assert(strlen(option->name) < NAME_BYTES - sizeof "QUIRE_");
    char *to = out + sprintf(out, "QUIRE_");
    for (const char *at = option->name; *at != 0; at++)
        *to++ = *at == '-' ? '_' : *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
    *to = 0;
}

/* A bound of the table as an integer: 2^63 as a double is one more than fits. */
static int64_t whole(double bound)
{
    if (bound >= 9223372036854775807.0)
        return INT64_MAX;
    return bound <= -9223372036854775808.0 ? INT64_MIN : (int64_t)bound;
}

/* Writes what an option takes: "a whole number from 1 to 256". */
static void taken_by(const struct option *option, char *out, size_t n)
{
    char low[TEXT_NUMBER_BYTES], high[TEXT_NUMBER_BYTES];
    switch (option->kind) {
    case OPTION_FLAG:
        snprintf(out, n, "1, true, yes, on, 0, false, no or off");
        return;
    case OPTION_INT:
        snprintf(low, sizeof low, "%" PRId64, whole(option->min));
        snprintf(high, sizeof high, "%" PRId64, whole(option->max));
        snprintf(out, n, "a whole number from %s to %s", low, high);
        return;
    case OPTION_REAL:
        snprintf(out, n, "a number from %g to %g", option->min, option->max);
        return;
    case OPTION_BYTES:
        snprintf(out, n, "a size in bytes, such as 4096, 512K, 1.5g or 8GiB");
        return;
    case OPTION_CHOICE:
        break;
    case OPTION_TEXT:
    case OPTION_LIST:
        snprintf(out, n, "a value");
        return;
    }
    size_t len = 0;
    for (const char *at = option->choices; *at != 0 && len < n;) {
        size_t word = strcspn(at, "|");
        const char *rest = at + word + (at[word] == '|');
        const char *before = at == option->choices ? "" : *rest == 0 ? " or " : ", ";
        len += (size_t)snprintf(out + len, n - len, "%s%.*s", before, (int)word, at);
        at = rest;
    }
}

static int refuse_value(const struct parse *parse, const struct option *option, const char *source,
                        const char *text)
{
    char takes[512];
    taken_by(option, takes, sizeof takes);
    return refuse(parse->why, STATUS_INVALID, "%s takes %s, not \"%.*s\"; see quire %s --help",
                  source, takes, SHOWN_BYTES, text, parse->command->name);
}

static bool flag_of(const char *text, bool *out)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 8; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static bool choice_of(const char *choices, const char *text, int *out)
{
    size_t len = strlen(text);
    int idx = 0;
    for (const char *at = choices; *at != 0; idx++) {
        size_t word = strcspn(at, "|");
        if (word == len && memcmp(at, text, len) == 0) {
            *out = idx;
            return true;
        }
        at += word + (at[word] == '|');
    }
    return false;
}

static int append_value(const struct parse *parse, const char *source, struct option_list *list,
                        const char *text)
{
    if (list->n == OPTION_LIST_MAX)
        return refuse(parse->why, STATUS_INVALID,
                      "%s may be given %d times, not more; see quire %s --help", source,
                      OPTION_LIST_MAX, parse->command->name);
    list->values[list->n++] = text;
    return STATUS_OK;
}

/* Puts the value of one text into its field; source is what the user knows it by. */
static int store(const struct parse *parse, const struct option *option, const char *source,
                 const char *text)
{
    void *field = parse->values + option->offset;
    bool ok = true;
    switch (option->kind) {
    case OPTION_FLAG:
        ok = flag_of(text, field);
        break;
    case OPTION_TEXT:
        *(const char **)field = text;
        break;
    case OPTION_INT:
        ok = text_parse_i64(text, whole(option->min), whole(option->max), field, NULL) == 0;
        break;
    case OPTION_REAL:
        ok = text_parse_f64(text, option->min, option->max, field, NULL) == 0;
        break;
    case OPTION_BYTES:
        ok = text_parse_bytes(text, field, NULL) == 0;
        break;
    case OPTION_CHOICE:
        ok = choice_of(option->choices, text, field);
        break;
    case OPTION_LIST:
        return append_value(parse, source, field, text);
    }
    return ok ? STATUS_OK : refuse_value(parse, option, source, text);
}

/* Finds the option of an argument "--name", "--name=value" or "-x"; *value points behind '='. */
static const struct option *option_of(const struct command *command, const char *argument,
                                      const char **value)
{
    *value = NULL;
    bool is_long = argument[1] == '-';
    const char *name = argument + 1 + is_long;
    size_t len = is_long ? strcspn(name, "=") : strlen(name);
    if (is_long && name[len] == '=')
        *value = name + len + 1;
    for (const struct option *option = command->options; option->name != NULL; option++) {
        if (is_long ? strlen(option->name) == len && memcmp(option->name, name, len) == 0
                    : len == 1 && option->letter == name[0])
            return option;
    }
    return NULL;
}

static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1] != 0;
}

/* Looks only for --help, past the values of other options. */
static bool asks_for_help(const struct command *command, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *value;
        if (!is_option(argv[i]))
            continue;
        const struct option *option = option_of(command, argv[i], &value);
        if (option != NULL)
            i += option->kind != OPTION_FLAG && value == NULL;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

/* Letters to add, drop, change or swap between two names, the second of `len` bytes. */
static int distance(const char *name, const char *typed, size_t len)
{
    int row[3][NAME_BYTES + 1];
    int *before = row[0], *above = row[1], *now = row[2];
    for (size_t j = 0; j <= len; j++)
        above[j] = (int)j;
    for (size_t i = 1; name[i - 1] != 0; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= len; j++) {
            bool same = name[i - 1] == typed[j - 1];
            int least = above[j - 1] + !same;
            if (above[j] + 1 < least)
                least = above[j] + 1;
            if (now[j - 1] + 1 < least)
                least = now[j - 1] + 1;
            if (i > 1 && j > 1 && name[i - 1] == typed[j - 2] && name[i - 2] == typed[j - 1] &&
                before[j - 2] + 1 < least)
                least = before[j - 2] + 1;
            now[j] = least;
        }
        int *spare = before;
        before = above;
        above = now;
        now = spare;
    }
    return above[len];
}

static const char *nearest_name(const struct command *command, const char *typed, size_t len)
{
    const char *nearest = NULL;
    int least = len < 6 ? 3 : 4; /* farther than this is another word */
    if (len >= NAME_BYTES)
        return NULL;
    for (const struct option *option = command->options; option->name != NULL; option++) {
        bool starts = len >= 3 && strncmp(option->name, typed, len) == 0;
        int away = starts ? 0 : distance(option->name, typed, len);
        if (away < least) {
            least = away;
            nearest = option->name;
        }
    }
    return nearest;
}

static int refuse_unknown(const struct parse *parse, const char *argument)
{
    const char *name = argument + 1 + (argument[1] == '-');
    size_t len = strcspn(name, "=");
    const char *command = parse->command->name;
    const char *nearest = nearest_name(parse->command, name, len);
    int shown = (int)(len < SHOWN_BYTES ? len : SHOWN_BYTES) + (int)(name - argument);
    if (nearest != NULL)
        return refuse(parse->why, STATUS_INVALID,
                      "quire %s has no option %.*s; did you mean --%s? See quire %s --help",
                      command, shown, argument, nearest, command);
    return refuse(parse->why, STATUS_INVALID, "quire %s has no option %.*s; see quire %s --help",
                  command, shown, argument, command);
}

/* Takes argv[*i], and its value from argv[*i + 1] when it has one there. */
static int take_option(struct parse *parse, int argc, char **argv, int *i)
{
    const char *value;
    const struct option *option = option_of(parse->command, argv[*i], &value);
    if (option == NULL)
        return refuse_unknown(parse, argv[*i]);
    char source[NAME_BYTES + 2];
    snprintf(source, sizeof source, "--%s", option->name);
    if (option->kind == OPTION_FLAG) {
        if (value != NULL)
            return refuse(parse->why, STATUS_INVALID,
                          "%s takes no value, but \"%.*s\" was given; see quire %s --help", source,
                          SHOWN_BYTES, value, parse->command->name);
        value = "1";
    } else if (value == NULL) {
        if (*i + 1 >= argc)
            return refuse(parse->why, STATUS_INVALID, "%s needs a value (%s); see quire %s --help",
                          source, option->value_name != NULL ? option->value_name : "VALUE",
                          parse->command->name);
        value = argv[++*i];
    }
    size_t idx = (size_t)(option - parse->command->options);
    if (option->kind == OPTION_LIST && !parse->given[idx])
        ((struct option_list *)(void *)(parse->values + option->offset))->n = 0;
    parse->given[idx] = true;
    return store(parse, option, source, value);
}

/* What the command line left open comes from the environment, else from the table. */
static int fill_rest(struct parse *parse)
{
    const struct option *options = parse->command->options;
    for (int i = 0; i < n_options(parse->command); i++) {
        const struct option *option = &options[i];
        char variable[NAME_BYTES];
        variable_of(option, variable);
        const char *text = parse->given[i] ? NULL : getenv(variable);
        const char *source = variable;
        if (text != NULL && text[0] != 0) {
            parse->given[i] = true;
        } else {
            text = parse->given[i] ? NULL : option->fallback;
            source = option->name;
        }
        if (text != NULL) {
            if (option->kind == OPTION_LIST)
                ((struct option_list *)(void *)(parse->values + option->offset))->n = 0;
            int status = store(parse, option, source, text);
            if (status < 0)
                return status;
        }
        if (option->given_offset != 0)
            *(bool *)(parse->values + option->given_offset) = parse->given[i];
    }
    return STATUS_OK;
}

static int refuse_operands(const struct parse *parse, int n)
{
    const struct command *command = parse->command;
    char range[64];
    if (command->operands_max == 0)
        snprintf(range, sizeof range, "none");
    else if (command->operands_min == command->operands_max)
        snprintf(range, sizeof range, "%d", command->operands_max);
    else
        snprintf(range, sizeof range, "%d to %d", command->operands_min, command->operands_max);
    return refuse(parse->why, STATUS_INVALID,
                  "quire %s was given %d argument%s beside its options and takes %s: %s",
                  command->name, n, n == 1 ? "" : "s", range, command->usage);
}

int options_parse(const struct command *command, int argc, char **argv, void *values,
                  const char **operands, int *n_operands, bool *help, struct why *why)
{
    struct parse parse = {.command = command, .values = values, .why = why};
    *n_operands = 0;
    *help = asks_for_help(command, argc, argv);
    if (*help)
        return STATUS_OK;

    int n = 0;
    bool options_over = false;
    for (int i = 1; i < argc; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0) {
            options_over = true;
        } else if (!options_over && is_option(argv[i])) {
            int status = take_option(&parse, argc, argv, &i);
            if (status < 0)
                return status;
        } else {
            if (n < command->operands_max)
                operands[n] = argv[i];
            n++;
        }
    }
    int status = fill_rest(&parse);
    if (status < 0)
        return status;
    if (n < command->operands_min || n > command->operands_max)
        return refuse_operands(&parse, n);
    *n_operands = n;
    return STATUS_OK;
}

/* Prints text from column `at`, wrapped at blanks, each further line indented. */
static void print_wrapped(const char *text, int at, int indent)
{
    while (*text != 0) {
        size_t word = strcspn(text, " \n");
        bool first = at <= indent;
        if (!first && at + 1 + (int)word > HELP_COLUMNS) {
            printf("\n%*s", indent, "");
            at = indent;
            first = true;
        }
        printf("%s%.*s", first ? "" : " ", (int)word, text);
        at += (int)word + !first;
        text += word;
        if (*text == '\n') {
            printf("\n%*s", text[1] == 0 ? 0 : indent, "");
            at = indent;
        }
        text += *text != 0;
    }
}

static void print_option(const struct option *option)
{
    char left[NAME_BYTES * 3], variable[NAME_BYTES], right[1024];
    char letter[8] = "    ";
    if (option->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    bool has_value = option->kind != OPTION_FLAG && option->value_name != NULL;
    int width = snprintf(left, sizeof left, "  %s--%s%s%.64s", letter, option->name,
                         has_value ? " " : "", has_value ? option->value_name : "");
    fputs(left, stdout);
    if (width + 2 > HELP_INDENT) {
        putchar('\n');
        width = 0;
    }
    printf("%*s", HELP_INDENT - width, "");

    variable_of(option, variable);
    bool has_default = option->fallback != NULL && option->fallback[0] != 0 &&
                       option->kind != OPTION_FLAG;
    bool has_choices = option->kind == OPTION_CHOICE;
    snprintf(right, sizeof right, "%s (%s%s%s%s%s%s)", option->help,
             has_choices ? option->choices : "", has_choices ? "; " : "",
             has_default ? "default " : "", has_default ? option->fallback : "",
             has_default ? "; " : "", variable);
    print_wrapped(right, HELP_INDENT, HELP_INDENT);
    putchar('\n');
}

void options_print_help(const struct command *command)
{
    fputs("Usage: ", stdout);
    print_wrapped(command->usage, 7, 7);
    fputs("\n\n", stdout);
    print_wrapped(command->summary, 0, 0);
    fputs("\n\nOptions:\n", stdout);
    for (const struct option *option = command->options; option->name != NULL; option++)
        print_option(option);
    static const char help[] = "  -h, --help";
    printf("%s%*sthis text\n", help, (int)(HELP_INDENT - (sizeof help - 1)), "");
    if (command->examples != NULL && command->examples[0] != 0) {
        size_t len = strlen(command->examples);
        printf("\nExamples:\n%s%s", command->examples,
               command->examples[len - 1] == '\n' ? "" : "\n");
    }
}
