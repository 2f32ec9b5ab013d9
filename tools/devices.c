/* `quire devices`: what this machine can compute with. Nothing is loaded, nothing is measured. */
#include "tools/tools.h"

#include "base/options.h"
#include "base/text.h"
#include "kernels/device_list.h"
#include "tools/json_print.h"
#include "tools/output.h"

struct devices_options {
    bool json;
};

static const struct option options[] = {
    {"json", 0, OPTION_FLAG, offsetof(struct devices_options, json), NULL, NULL,
     "print one JSON object", 0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "devices",
    .usage = "quire devices [--json]",
    .summary = "Tells what this machine can compute with: the CPU and its instruction sets, and "
               "GPUs; where\nthere is no GPU, why.",
    .options = options,
    .examples = "  quire devices\n"
                "  quire devices --json\n",
};

struct listing { /* of one backend */
    struct device_facts devices[DEVICES_MAX];
    uint32_t n;
    struct why why; /* of none */
};

static enum isa best_isa(void)
{
    enum isa isa = ISA_AVX512;
    while (!isa_is_available(isa))
        isa--;
    return isa;
}

/* --- text --- */

static void print_memory(const struct device_facts *device)
{
    char all[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES];
    printf("%s of memory", text_bytes(all, device->memory_bytes));
    if (device->memory_free > 0)
        printf(", %s free", text_bytes(left, device->memory_free));
    putchar('\n');
}

static void print_cpus(const struct listing *cpus)
{
    const struct device_facts *cpu = &cpus->devices[0]; /* there is one */
    fputs("cpu     ", stdout);
    output_text(stdout, slice_from(cpu->name), 0);
    printf(", %u core%s, ", cpu->n_cores, cpu->n_cores == 1 ? "" : "s");
    print_memory(cpu);
    fputs("        instruction sets:", stdout);
    for (enum isa isa = ISA_SCALAR; isa <= ISA_AVX512; isa++)
        if (isa_is_available(isa))
            printf(" %s", isa_name(isa));
    printf("; %s unless --isa says another\n", isa_name(best_isa()));
}

static void print_gpus(const struct listing *gpus)
{
    if (gpus->n == 0)
        printf("cuda    none: %s\n", gpus->why.text);
    for (uint32_t i = 0; i < gpus->n; i++) {
        const struct device_facts *gpu = &gpus->devices[i];
        printf("cuda %-2u ", gpu->index);
        output_text(stdout, slice_from(gpu->name), 0);
        printf(", compute capability %u.%u, %u multiprocessors, ", gpu->major, gpu->minor,
               gpu->n_cores);
        print_memory(gpu);
        if (!gpu->is_usable)
            puts("        too old: compute capability 8.0 (A100, RTX 30) is the least");
    }
}

/* --- JSON --- */

static void print_memory_json(struct json_print *json, const struct device_facts *device)
{
    json_print_uint(json, "memory_bytes", device->memory_bytes);
    if (device->memory_free > 0)
        json_print_uint(json, "memory_free_bytes", device->memory_free);
}

static void print_cpu_json(struct json_print *json, const struct device_facts *cpu)
{
    json_print_open(json, "cpu", '{');
    json_print_string(json, "name", cpu->name);
    json_print_uint(json, "cores", cpu->n_cores);
    print_memory_json(json, cpu);
    json_print_open(json, "instruction_sets", '[');
    for (enum isa isa = ISA_SCALAR; isa <= ISA_AVX512; isa++)
        if (isa_is_available(isa))
            json_print_string(json, NULL, isa_name(isa));
    json_print_close(json, ']');
    json_print_string(json, "isa", isa_name(best_isa()));
    json_print_close(json, '}');
}

static void print_gpu_json(struct json_print *json, const struct device_facts *gpu)
{
    char capability[32];
    snprintf(capability, sizeof capability, "%u.%u", gpu->major, gpu->minor);
    json_print_open(json, NULL, '{');
    json_print_uint(json, "index", gpu->index);
    json_print_string(json, "name", gpu->name);
    json_print_string(json, "compute_capability", capability);
    json_print_bool(json, "usable", gpu->is_usable);
    json_print_uint(json, "multiprocessors", gpu->n_cores);
    print_memory_json(json, gpu);
    json_print_uint(json, "shared_bytes_per_block", gpu->shared_bytes);
    json_print_uint(json, "l2_bytes", gpu->l2_bytes);
    json_print_close(json, '}');
}

static void print_json(const struct listing *cpus, const struct listing *gpus)
{
    struct json_print json = {.to = stdout};
    json_print_open(&json, NULL, '{');
    print_cpu_json(&json, &cpus->devices[0]);
    json_print_open(&json, "cuda", '[');
    for (uint32_t i = 0; i < gpus->n; i++)
        print_gpu_json(&json, &gpus->devices[i]);
    json_print_close(&json, ']');
    if (gpus->n == 0)
        json_print_string(&json, "cuda_why", gpus->why.text);
    json_print_close(&json, '}');
    putchar('\n');
}

int tools_devices(int argc, char **argv)
{
    struct devices_options in = {.json = false};
    struct why why = {.text = ""};
    bool help;
    int n_operands, status;

    status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);
    if (help) {
        options_print_help(&command);
        return 0;
    }
    struct listing cpus, gpus; /* that there is none of a kind is an answer too */
    device_list(BACKEND_CPU, cpus.devices, &cpus.n, &cpus.why);
    device_list(BACKEND_CUDA, gpus.devices, &gpus.n, &gpus.why);
    if (in.json) {
        print_json(&cpus, &gpus);
    } else {
        print_cpus(&cpus);
        print_gpus(&gpus);
    }
    return 0;
}
