#include "kernels/cpu/cpu_device_list.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/threads.h"
#include "kernels/cpu/cpu_device.h"

#define CPU_FACTS "/proc/cpuinfo"

/* The value of the first line "key : value"; what it does not find it leaves. */
static void read_fact(const char *key, char out[DEVICE_NAME_BYTES])
{
    FILE *file = fopen(CPU_FACTS, "re");
    if (file == NULL)
        return;
    char line[DEVICE_NAME_BYTES + 64];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || value == NULL)
            continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(out, DEVICE_NAME_BYTES, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(file);
}

void cpu_device_facts(struct device_facts *out)
{
    struct utsname machine;
    *out = (struct device_facts){.n_cores = (uint32_t)cores_allowed(),
                                 .memory_bytes = memory_allowed(),
                                 .memory_free = cpu_memory_free(),
                                 .is_usable = true};
    if (uname(&machine) == 0) /* where the kernel has no name for its CPU */
        snprintf(out->name, sizeof out->name, "%.64s", machine.machine);
    read_fact("model name", out->name);
}
