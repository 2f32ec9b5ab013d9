/* 20,000 draws of each sampler against the exact distribution, by chi-square with fixed seeds. */
#include "tests/kernels/draw_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/isa_fixture.h"

enum { TOKENS = 45, AT_ONCE = 1000, DRAWS = 20000 };
#define LEAST_EXPECTED 5.0 /* of a cell; smaller ones are one */

struct scene {
    float logits[AT_ONCE * TOKENS];
    struct sample_params params[AT_ONCE];
    uint32_t counts[TOKENS], masks[MASK_WORDS(TOKENS)], banned[2];
    struct sample_bias biases[3];
    struct draw draw;
};

static struct scene *scene_of(struct sample_params params)
{
    struct scene *scene = calloc(1, sizeof *scene);
    for (uint32_t i = 0; i < TOKENS; i++) {
        scene->logits[i] = 3.0f * sinf((float)(i * i)) - 0.05f * (float)i;
        scene->counts[i] = i % 4 == 1 ? 1 + i % 7 : 0;
    }
    for (uint32_t r = 1; r < AT_ONCE; r++)
        memcpy(scene->logits + r * TOKENS, scene->logits, TOKENS * sizeof(float));
    for (uint32_t r = 0; r < AT_ONCE; r++)
        scene->params[r] = params;
    scene->masks[0] = 0x7ff3ff7du;
    scene->masks[1] = 0x1b7u;
    scene->banned[0] = 3;
    scene->banned[1] = 44;
    memcpy(scene->biases, (struct sample_bias[]){{2, 1.5f}, {9, -2.0f}, {30, 3.0f}},
           sizeof scene->biases);
    scene->draw = (struct draw){.logits = scene->logits,
                                .n_rows = AT_ONCE,
                                .vocabulary = TOKENS,
                                .params = scene->params,
                                .counts = scene->counts,
                                .n_slots = 1,
                                .banned = scene->banned,
                                .n_banned = 2,
                                .masks = scene->masks,
                                .n_masks = 1,
                                .biases = scene->biases,
                                .n_biases = 3};
    return scene;
}

/* Of order[0..n) by weight, those of the most typical surprises, still by weight; how many. */
static uint32_t keep_typical(const double *weight, double typical_p, uint32_t *order, uint32_t n)
{
    double total = 0, mean = 0, sum = 0, last = -1;
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < n; i++)
        total += weight[order[i]];
    for (uint32_t i = 0; i < n; i++)
        mean -= weight[order[i]] / total * log(weight[order[i]] / total);
    while (sum < typical_p * total) { /* the nearest beyond the last */
        double nearest = INFINITY;
        for (uint32_t i = 0; i < n; i++) {
            double distance = fabs(-log(weight[order[i]] / total) - mean);
            if (distance > last && distance < nearest)
                nearest = distance;
        }
        last = nearest;
        sum = 0;
        for (uint32_t i = 0; i < n; i++)
            if (fabs(-log(weight[order[i]] / total) - mean) <= last)
                sum += weight[order[i]];
    }
    for (uint32_t i = 0; i < n; i++)
        if (fabs(-log(weight[order[i]] / total) - mean) <= last)
            order[n_kept++] = order[i];
    return n_kept;
}

/* The chain of ops.h on doubles, by a sort. */
static void exact_of(const struct scene *scene, double exact[TOKENS])
{
    const struct sample_params *params = &scene->params[0];
    uint32_t order[TOKENS], n = TOKENS;
    double weight[TOKENS], best = -INFINITY, total = 0, sum = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        weight[i] = (double)changed_logit(&scene->draw, 0, i);
        best = fmax(best, weight[i]);
        order[i] = i;
        exact[i] = 0;
    }
    for (uint32_t i = 0; i < TOKENS; i++)
        weight[i] = exp((weight[i] - best) / (double)params->temperature);
    for (uint32_t i = 1; i < TOKENS; i++)
        for (uint32_t j = i; j > 0 && weight[order[j]] > weight[order[j - 1]]; j--) {
            uint32_t swap = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
    while (n > 1 && weight[order[n - 1]] < (double)params->min_p)
        n--;
    if (params->top_k > 0 && params->top_k < n)
        n = params->top_k;
    if (params->typical_p > 0 && params->typical_p < 1)
        n = keep_typical(weight, (double)params->typical_p, order, n);
    for (uint32_t i = 0; i < n; i++)
        total += weight[order[i]];
    for (uint32_t i = 0; i < n && (i == 0 || sum < (double)params->top_p * total); i++) {
        exact[order[i]] = weight[order[i]];
        sum += weight[order[i]];
    }
    for (uint32_t i = 0; i < TOKENS; i++)
        exact[i] /= sum;
}

static void draw_many(struct scene *scene, enum isa isa, uint32_t found[TOKENS])
{
    struct sample_result *results = malloc(AT_ONCE * sizeof *results);
    memset(found, 0, TOKENS * sizeof *found);
    for (uint32_t begin = 0; begin < DRAWS; begin += AT_ONCE) {
        for (uint32_t r = 0; r < AT_ONCE; r++) {
            scene->params[r].seed = 4711;
            scene->params[r].position = begin + r;
        }
        assert_int_equal(sample_on(isa, 1, &scene->draw, results), STATUS_OK);
        for (uint32_t r = 0; r < AT_ONCE; r++)
            found[results[r].id]++;
    }
    free(results);
}

/* In deviations of a normal distribution, by Wilson and Hilferty's cube root. */
static double deviation_of(const uint32_t found[TOKENS], const double exact[TOKENS])
{
    double chi = 0, rest_found = 0, rest_exact = 0;
    int n = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        double want = exact[i] * DRAWS;
        if (want < LEAST_EXPECTED) {
            rest_found += found[i];
            rest_exact += want;
            continue;
        }
        chi += (found[i] - want) * (found[i] - want) / want;
        n++;
    }
    if (rest_exact == 0 && rest_found > 0)
        return INFINITY; /* what cannot be drawn was */
    if (rest_exact > 0) {
        chi += (rest_found - rest_exact) * (rest_found - rest_exact) / rest_exact;
        n++;
    }
    double freedom = n - 1, part = 2 / (9 * freedom);
    return (cbrt(chi / freedom) - (1 - part)) / sqrt(part);
}

static void check(const char *name, struct sample_params params)
{
    struct scene *scene = scene_of(params);
    uint32_t found[TOKENS], again[TOKENS];
    double exact[TOKENS], colder[TOKENS];
    exact_of(scene, exact);
    draw_many(scene, ISA_SCALAR, found);
    double deviation = deviation_of(found, exact);
    if (!(deviation < 3.5))
        fail_msg("%s: %.2f deviations from the exact distribution", name, deviation);
    for (int isa = ISA_AVX2; isa <= ISA_AVX512; isa++) {
        if (!isa_is_available((enum isa)isa))
            continue;
        draw_many(scene, (enum isa)isa, again);
        assert_memory_equal(again, found, sizeof found);
    }
    scene->params[0].temperature *= 0.9f; /* the measure notices a tenth of temperature */
    exact_of(scene, colder);
    assert_true(deviation_of(found, colder) > 5);
    free(scene);
}

static void test_draws__follow_the_exact_distribution_of_each_sampler(void **state)
{
#define PLAIN .top_p = 1, .repetition = 1, .count_slot = -1, .mask_slot = -1
#define WARM PLAIN, .temperature = 1
#define COUNTED .temperature = 1, .top_p = 1, .count_slot = 0, .mask_slot = -1
    static const struct {
        const char *name;
        struct sample_params params;
    } samplers[] = {
        {"plain", {WARM}},
        {"temperature 0.6", {PLAIN, .temperature = 0.6f}},
        {"temperature 1.8", {PLAIN, .temperature = 1.8f}},
        {"top_k", {WARM, .top_k = 7}},
        {"top_p", {.temperature = 1, .top_p = 0.8f, .repetition = 1, .count_slot = -1,
                   .mask_slot = -1}},
        {"min_p", {WARM, .min_p = 0.08f}},
        {"typical_p", {WARM, .typical_p = 0.6f}},
        {"typical_p behind top_k", {WARM, .typical_p = 0.7f, .top_k = 12}},
        {"repetition", {COUNTED, .repetition = 1.4f}},
        {"frequency", {COUNTED, .repetition = 1, .frequency = 0.5f}},
        {"presence", {COUNTED, .repetition = 1, .presence = -0.8f}},
        {"bias", {WARM, .n_biases = 3}},
        {"mask", {.temperature = 1, .top_p = 1, .repetition = 1, .count_slot = -1}},
        {"banned", {WARM, .mask_banned = 1}},
        {"all of them", {.temperature = 1.3f, .min_p = 0.01f, .top_k = 25, .top_p = 0.95f,
                         .repetition = 1.2f, .frequency = 0.2f, .presence = 0.3f,
                         .n_biases = 2, .first_bias = 1, .mask_banned = 1}},
        {"all of them, and typical_p", {.temperature = 1.3f, .min_p = 0.01f, .top_k = 25,
                                        .top_p = 0.9f, .typical_p = 0.9f, .repetition = 1.2f,
                                        .frequency = 0.2f, .presence = 0.3f, .n_biases = 2,
                                        .first_bias = 1, .mask_banned = 1}},
    };
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++)
        check(samplers[i].name, samplers[i].params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws__follow_the_exact_distribution_of_each_sampler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
