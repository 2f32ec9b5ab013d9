/* recall_faults MODEL AT TEXT QUESTION FOREIGN: what the recall model answers when its pages are
 * not what they should be. Ids as "1,2" or @FILE; AT: the position of the answer in the text.
 *
 *   text ... [page that holds the answer] ... | question, but its last token | FAULT | last token
 *
 * A line for each fault: its name, and the ids answered. The faults are made in the memory that ops
 * read, behind the back of the cache, so that no server has a place where they could be made.
 */
#include "base/status.h"
#include "base/text.h"
#include "tools/run.h"
#include "tools/token_file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_ANSWER 32
#define MAX_ROWS 256
#define MAX_TOKENS 4096

struct asked {
    struct run run;
    struct token_list text, question, foreign;
    uint32_t at;          /* of the answer in the text */
    kv_seq_id seq, other; /* the text's, the foreign one's */
    struct why why;
};

static void check(struct asked *asked, int status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "recall_faults: %s\n", asked->why.text);
    exit(1);
}

/* --- pages, as the device has them --- */

static struct kv_group_view group_of(const struct asked *asked, bool is_global)
{
    struct kv_view view;
    kv_cache_view(asked->run.cache, &view);
    for (uint32_t g = 0; g < view.n_groups; g++)
        if ((view.groups[g].kind == KV_FULL) == is_global)
            return view.groups[g];
    fprintf(stderr, "recall_faults: the model has no such layers\n");
    exit(1);
}

/* The table's entry for a page of the sequence. */
static page_id *entry_of(struct asked *asked, const struct kv_group_view *group, kv_seq_id seq,
                         uint32_t page)
{
    uint32_t first;
    check(asked, device_download(asked->run.device, &first, group->first_page + seq, sizeof first));
    return (page_id *)group->table + (size_t)seq * group->table_stride + (page - first);
}

static page_id read_entry(struct asked *asked, const page_id *entry)
{
    page_id page;
    check(asked, device_download(asked->run.device, &page, entry, sizeof page));
    assert(page != PAGE_NONE);
    return page;
}

static void write_entry(struct asked *asked, page_id *entry, page_id page)
{
    check(asked, device_upload(asked->run.device, entry, &page, sizeof page));
}

static void swap_entries(struct asked *asked, const struct kv_group_view *group, uint32_t a,
                         uint32_t b)
{
    page_id *one = entry_of(asked, group, asked->seq, a);
    page_id *two = entry_of(asked, group, asked->seq, b);
    page_id was = read_entry(asked, one);
    write_entry(asked, one, read_entry(asked, two));
    write_entry(asked, two, was);
}

/* The bytes of the page become those of another; from PAGE_NONE: nothing but zeros. */
static void overwrite(struct asked *asked, const struct kv_group_view *group, page_id to,
                      page_id from)
{
    uint8_t *bytes = calloc(1, group->page_stride);
    if (bytes == NULL)
        exit(1);
    if (from != PAGE_NONE)
        check(asked, device_download(asked->run.device, bytes,
                                     group->base + from * group->page_stride, group->page_stride));
    check(asked, device_upload(asked->run.device, group->base + to * group->page_stride, bytes,
                               group->page_stride));
    free(bytes);
}

/* --- faults --- */

static void leave_alone(struct asked *asked)
{
    (void)asked;
}

static void drop_page(struct asked *asked)
{
    struct kv_group_view group = group_of(asked, true);
    page_id page = read_entry(asked, entry_of(asked, &group, asked->seq, asked->at / PAGE_TOKENS));
    overwrite(asked, &group, page, PAGE_NONE);
}

/* It holds what the page before it holds, as one does that was lent again and not written. */
static void leave_stale(struct asked *asked)
{
    struct kv_group_view group = group_of(asked, true);
    uint32_t at = asked->at / PAGE_TOKENS;
    page_id page = read_entry(asked, entry_of(asked, &group, asked->seq, at));
    overwrite(asked, &group, page,
              read_entry(asked, entry_of(asked, &group, asked->seq, at == 0 ? 1 : at - 1)));
}

static void name_foreign(struct asked *asked)
{
    struct kv_group_view group = group_of(asked, true);
    write_entry(asked, entry_of(asked, &group, asked->seq, asked->at / PAGE_TOKENS),
                read_entry(asked, entry_of(asked, &group, asked->other, 0)));
}

/* The one that is written and the one before it: keys hold their angles, so of pages that are seen
 * whole nobody could tell. */
static void swap_local(struct asked *asked)
{
    struct kv_group_view group = group_of(asked, false);
    uint32_t last = (uint32_t)(kv_cache_written(asked->run.cache, asked->seq) - 1) / PAGE_TOKENS;
    swap_entries(asked, &group, last - 1, last);
}

/* What is behind stands one position later. */
static void shift_position(struct asked *asked)
{
    struct run *run = &asked->run;
    kv_cache_append(run->cache, asked->seq, 1, run->stream);
    device_submit(run->stream);
    check(asked, device_wait(run->stream, NULL, NULL));
    kv_cache_commit(run->cache, asked->seq, 1);
}

/* Not a fault to this model: its last layer sees a set. */
static void swap_global(struct asked *asked)
{
    struct kv_group_view group = group_of(asked, true);
    swap_entries(asked, &group, asked->at / PAGE_TOKENS, asked->at / PAGE_TOKENS + 1);
}

static const struct fault {
    const char *name;
    void (*make)(struct asked *asked);
} faults[] = {
    {"none", leave_alone},          {"dropped", drop_page},       {"stale", leave_stale},
    {"foreign", name_foreign},      {"swapped-local", swap_local}, {"shifted", shift_position},
    {"swapped-global", swap_global},
};

/* --- the run --- */

static void feed(struct asked *asked, kv_seq_id seq, const uint32_t *ids, size_t n, bool draws)
{
    for (size_t at = 0; at < n; at += MAX_ROWS) {
        uint32_t n_rows = n - at < MAX_ROWS ? (uint32_t)(n - at) : MAX_ROWS;
        struct run_piece piece = {.seq = seq,
                                  .ids = ids + at,
                                  .n_rows = n_rows,
                                  .n_outputs = draws && at + n_rows == n};
        check(asked, run_step(&asked->run, &piece, 1, &asked->why));
    }
}

static void ask(struct asked *asked, const struct fault *fault)
{
    size_t n_question = asked->question.n;

    check(asked, run_begin(&asked->run, &asked->seq, &asked->why));
    check(asked, run_begin(&asked->run, &asked->other, &asked->why));
    feed(asked, asked->other, asked->foreign.ids, asked->foreign.n, false);
    feed(asked, asked->seq, asked->text.ids, asked->text.n, false);
    feed(asked, asked->seq, asked->question.ids, n_question - 1, false);
    fault->make(asked);
    feed(asked, asked->seq, asked->question.ids + n_question - 1, 1, true);
    printf("%s ", fault->name);
    for (uint32_t i = 0; i < N_ANSWER; i++) {
        uint32_t id = asked->run.results[0].id;
        printf("%s%u", i > 0 ? "," : "", id);
        feed(asked, asked->seq, &id, 1, true);
    }
    printf("\n");
    run_end(&asked->run, asked->other);
    run_end(&asked->run, asked->seq);
}

int main(int argc, char **argv)
{
    struct asked asked = {.why = {.text = ""}};
    struct run_sizes sizes = {.n_sequences = 2,
                              .n_tokens = MAX_TOKENS,
                              .max_rows = MAX_ROWS,
                              .max_outputs = 1,
                              .draws = true};
    if (argc != 6) {
        fprintf(stderr, "Usage: recall_faults MODEL AT TEXT QUESTION FOREIGN\n");
        return 2;
    }
    asked.at = (uint32_t)strtoul(argv[2], NULL, 10);
    check(&asked, token_list_read(argv[3], &asked.text, &asked.why));
    check(&asked, token_list_read(argv[4], &asked.question, &asked.why));
    check(&asked, token_list_read(argv[5], &asked.foreign, &asked.why));
    check(&asked, run_open(&(struct run_options){.model_path = argv[1], .quiet = true}, &asked.run,
                           &asked.why));
    check(&asked, run_prepare(&asked.run, &sizes, &asked.why));
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        ask(&asked, &faults[i]);
    run_close(&asked.run);
    token_list_release(&asked.text);
    token_list_release(&asked.question);
    token_list_release(&asked.foreign);
    return 0;
}
