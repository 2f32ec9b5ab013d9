#include "clients/c/line_input.h"

#include "base/status.h"

#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_LINES 1000

struct line_input {
    const char *prompt;
    EditLine *editor; /* NULL: not a terminal */
    History *history;
    bool is_dropped;
    char *line; /* of a pipe, malloc'ed by getline */
    size_t cap;
};

static char *show_prompt(EditLine *editor)
{
    void *input = NULL;
    el_get(editor, EL_CLIENTDATA, &input);
    return (char *)(uintptr_t)((struct line_input *)input)->prompt;
}

static unsigned char drop_line(EditLine *editor, int key)
{
    void *input = NULL;
    (void)key;
    el_get(editor, EL_CLIENTDATA, &input);
    ((struct line_input *)input)->is_dropped = true;
    return CC_NEWLINE;
}

/* By itself the key does nothing, since keys are no signals here; the whole job stops, as a shell
 * expects it to. */
static unsigned char suspend(EditLine *editor, int key)
{
    (void)key;
    el_set(editor, EL_PREP_TERM, 0);
    kill(0, SIGTSTP);
    el_set(editor, EL_PREP_TERM, 1);
    el_resize(editor);
    return CC_REDISPLAY;
}

static bool open_editor(struct line_input *input)
{
    HistEvent event;

    /* Lines are UTF-8 whatever the environment says: without it libedit drops all but ASCII. */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        setlocale(LC_CTYPE, "");
    input->history = history_init();
    input->editor = el_init("quire", stdin, stderr, stderr);
    if (input->history == NULL || input->editor == NULL)
        return false;
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT, show_prompt);
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_HIST, history, input->history);
    el_set(input->editor, EL_SIGNAL, 1); /* the terminal is as before when one ends the program */
    /* while a line is edited Ctrl-C is a key like any other */
    el_set(input->editor, EL_SETTY, "-d", "-isig", NULL);
    el_set(input->editor, EL_ADDFN, "drop-line", "drops the line", drop_line);
    el_set(input->editor, EL_BIND, "^C", "drop-line", NULL);
    el_set(input->editor, EL_ADDFN, "suspend", "stops the program until fg", suspend);
    el_set(input->editor, EL_BIND, "^Z", "suspend", NULL);
    el_set(input->editor, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL); /* Ctrl and an arrow */
    el_set(input->editor, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
    return true;
}

int line_input_open(const char *prompt, struct line_input **out, struct why *why)
{
    struct line_input *input = calloc(1, sizeof *input);

    if (input == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to read lines");
    input->prompt = prompt;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && !open_editor(input)) {
        line_input_close(input);
        return refuse(why, STATUS_NO_MEMORY, "no memory to edit lines");
    }
    *out = input;
    return STATUS_OK;
}

void line_input_close(struct line_input *input)
{
    if (input->editor != NULL)
        el_end(input->editor);
    if (input->history != NULL)
        history_end(input->history);
    free(input->line);
    free(input);
}

bool line_input_is_terminal(const struct line_input *input)
{
    return input->editor != NULL;
}

/* libedit itself does so after it has shown the prompt: too late for a key pressed in between. It
 * hears of a window's new size only while a line is edited. */
void line_input_prepare(struct line_input *input)
{
    if (input->editor == NULL)
        return;
    el_resize(input->editor);
    el_set(input->editor, EL_PREP_TERM, 1);
}

static size_t without_newline(const char *line, size_t len)
{
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    return len;
}

static const char *edit_line(struct line_input *input, size_t *len)
{
    HistEvent event;
    int n = 0;

    input->is_dropped = false;
    const char *line = el_gets(input->editor, &n);
    *len = 0;
    if (input->is_dropped) { /* of an empty line libedit says that it is the end */
        fputc('\n', stderr);
        return "";
    }
    if (line == NULL || n <= 0)
        return NULL;
    *len = without_newline(line, (size_t)n);
    if (*len > 0)
        history(input->history, &event, H_ENTER, line);
    return line;
}

const char *line_input_next(struct line_input *input, size_t *len)
{
    if (input->editor != NULL)
        return edit_line(input, len);
    ssize_t n = getline(&input->line, &input->cap, stdin);
    if (n < 0)
        return NULL;
    *len = without_newline(input->line, (size_t)n);
    return input->line;
}
