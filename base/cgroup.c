#include "base/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum limit_kind { LIMIT_CORES, LIMIT_MEMORY };

/* Version 1 calls "unlimited" some number near 2^63. */
#define UNLIMITED_BYTES 1e18

static bool read_file(const char *folder, const char *name, char *out, size_t capacity)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, out, capacity - 1);
    close(fd);
    if (len <= 0)
        return false;
    out[len] = 0;
    return true;
}

/* A number at *text, which moves behind it; false for "max" and for anything else. */
static bool read_number(char **text, double *out)
{
    char *end;
    *out = strtod(*text, &end);
    bool found = end != *text;
    *text = end;
    return found;
}

static bool folder_cores(const char *folder, double *out)
{
    char text[128], period_text[64];
    double quota, period;
    char *at = text;
    if (read_file(folder, "cpu.max", text, sizeof text)) { /* "max 100000" or "150000 100000" */
        if (!read_number(&at, &quota) || !read_number(&at, &period))
            return false;
    } else {
        char *at_period = period_text;
        if (!read_file(folder, "cpu.cfs_quota_us", text, sizeof text) ||
            !read_file(folder, "cpu.cfs_period_us", period_text, sizeof period_text) ||
            !read_number(&at, &quota) || !read_number(&at_period, &period))
            return false;
    }
    *out = quota / period;
    return quota > 0 && period > 0; /* version 1 writes -1 for no quota */
}

static bool folder_memory(const char *folder, double *out)
{
    char text[128];
    char *at = text;
    if (!read_file(folder, "memory.max", text, sizeof text) &&
        !read_file(folder, "memory.limit_in_bytes", text, sizeof text))
        return false;
    return read_number(&at, out) && *out > 0 && *out < UNLIMITED_BYTES;
}

/* From the folder of the group up to the hierarchy's own, keeping the smallest. */
static void smallest_upwards(enum limit_kind kind, const char *hierarchy, const char *group,
                             double *smallest)
{
    char folder[PATH_MAX];
    size_t root = strlen(hierarchy);
    if (snprintf(folder, sizeof folder, "%s%s", hierarchy, group) >= (int)sizeof folder)
        return;
    for (;;) {
        double limit;
        bool found =
            kind == LIMIT_CORES ? folder_cores(folder, &limit) : folder_memory(folder, &limit);
        if (found && (*smallest < 0 || limit < *smallest))
            *smallest = limit;
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < root || strlen(folder) <= root)
            return;
        *slash = 0;
    }
}

static bool lists_controller(const char *controllers, const char *wanted)
{
    size_t len = strlen(wanted);
    for (const char *at = controllers; *at != 0;) {
        size_t n = strcspn(at, ",");
        if (n == len && strncmp(at, wanted, n) == 0)
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* One line of the membership file: "0::/group" (version 2) or "4:cpu,cpuacct:/group". */
static void limit_of_line(enum limit_kind kind, const char *mount, char *line, double *smallest)
{
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL)
        return;
    controllers++;
    *group++ = 0;
    const char *wanted = kind == LIMIT_CORES ? "cpu" : "memory";
    char hierarchy[PATH_MAX];
    if (*controllers == 0) {
        smallest_upwards(kind, mount, group, smallest);
        if (snprintf(hierarchy, sizeof hierarchy, "%s/unified", mount) < (int)sizeof hierarchy)
            smallest_upwards(kind, hierarchy, group, smallest);
    } else if (lists_controller(controllers, wanted)) {
        if (snprintf(hierarchy, sizeof hierarchy, "%s/%s", mount, wanted) < (int)sizeof hierarchy)
            smallest_upwards(kind, hierarchy, group, smallest);
    }
}

static double smallest_limit(enum limit_kind kind, const char *mount, const char *membership)
{
    double smallest = -1;
    FILE *file = fopen(membership, "re");
    if (file == NULL)
        return smallest;
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0)
        limit_of_line(kind, mount, line, &smallest);
    free(line);
    fclose(file);
    return smallest;
}

bool cgroup_cores(const char *mount, const char *membership, double *out)
{
    double limit = smallest_limit(LIMIT_CORES, mount, membership);
    if (limit < 0)
        return false;
    *out = limit;
    return true;
}

bool cgroup_memory(const char *mount, const char *membership, uint64_t *out)
{
    double limit = smallest_limit(LIMIT_MEMORY, mount, membership);
    if (limit < 0)
        return false;
    *out = (uint64_t)limit;
    return true;
}
