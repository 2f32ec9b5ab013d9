/* base/cgroup.h: what the control groups of this process allow, versions 1 and 2.
 *
 * The smallest limit on the way from the process's own group up to the root counts. `mount` is
 * "/sys/fs/cgroup" and `membership` is "/proc/self/cgroup"; tests give trees of their own. What
 * cannot be read limits nothing.
 */
#ifndef QUIRE_BASE_CGROUP_H
#define QUIRE_BASE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_MOUNT "/sys/fs/cgroup"
#define CGROUP_MEMBERSHIP "/proc/self/cgroup"

bool cgroup_cores(const char *mount, const char *membership, double *out);    /* false: no limit */
bool cgroup_memory(const char *mount, const char *membership, uint64_t *out); /* bytes; as above */

#endif
