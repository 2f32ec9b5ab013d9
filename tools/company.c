#include "tools/company.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>

#define SEED UINT64_C(0x71756972652d3031)
#define LONGER_BY 64
#define LONGEST 1024 /* members need not be long: they begin again */

/* splitmix64 */
static uint32_t roll(struct company *company, uint32_t n)
{
    uint64_t z = company->dice += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ (z >> 31)) % n);
}

uint32_t company_longest(uint32_t n_tokens, uint32_t context)
{
    uint32_t n = n_tokens < LONGEST - LONGER_BY ? n_tokens + LONGER_BY : LONGEST;
    return n < context ? n : context;
}

static int begin(struct company *company, struct company_member *member, struct why *why)
{
    member->n_done = 0;
    member->n_tokens = 1 + roll(company, company->n_longest);
    return run_begin(company->run, &member->seq, why);
}

int company_open(struct company *company, struct run *run, uint32_t n, uint32_t n_longest,
                 struct why *why)
{
    *company = (struct company){.run = run, .n_longest = n_longest, .dice = SEED};
    if (n == 0)
        return STATUS_OK;
    company->members = calloc(n, sizeof *company->members);
    if (company->members == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u sequences", n);
    while (company->n < n) {
        int status = begin(company, &company->members[company->n], why);
        if (status < 0)
            return status;
        company->n++;
    }
    return STATUS_OK;
}

void company_close(struct company *company)
{
    for (uint32_t i = 0; i < company->n; i++)
        if (company->members[i].seq != KV_SEQ_NONE)
            run_end(company->run, company->members[i].seq);
    free(company->members);
    *company = (struct company){.n = 0};
}

/* Half of the steps are like decoding, one row; the others like a piece of a prompt. */
static int next_piece(struct company *company, struct company_member *member, struct run_piece *out,
                      struct why *why)
{
    if (member->n_done == member->n_tokens) {
        run_end(company->run, member->seq);
        member->seq = KV_SEQ_NONE;
        int status = begin(company, member, why);
        if (status < 0)
            return status;
    }
    uint32_t n_left = member->n_tokens - member->n_done;
    uint32_t n_rows = roll(company, 2) == 0 ? 1 : 1 + roll(company, COMPANY_ROWS_MAX);
    n_rows = n_rows < n_left ? n_rows : n_left;
    for (uint32_t i = 0; i < n_rows; i++)
        member->ids[i] = roll(company, model_plan(company->run->model)->vocabulary);
    member->n_done += n_rows;
    *out = (struct run_piece){
        .seq = member->seq, .ids = member->ids, .n_rows = n_rows, .n_outputs = roll(company, 2)};
    return STATUS_OK;
}

int company_join(struct company *company, const struct run_piece *ours, struct run_piece *pieces,
                 uint32_t *first_output, struct why *why)
{
    uint32_t place = roll(company, company->n + 1), n = company->n + 1;

    for (uint32_t i = 0; i < company->n; i++) {
        int status = next_piece(company, &company->members[i], &pieces[i], why);
        if (status < 0)
            return status;
    }
    for (uint32_t i = company->n; i > 1; i--) { /* Fisher and Yates */
        uint32_t other = roll(company, i);
        struct run_piece piece = pieces[i - 1];
        pieces[i - 1] = pieces[other];
        pieces[other] = piece;
    }
    for (uint32_t i = n - 1; i > place; i--)
        pieces[i] = pieces[i - 1];
    pieces[place] = *ours;
    *first_output = 0;
    for (uint32_t i = 0; i < place; i++)
        *first_output += pieces[i].n_outputs;
    return STATUS_OK;
}
