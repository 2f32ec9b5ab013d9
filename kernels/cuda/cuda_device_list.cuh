/* kernels/cuda/cuda_device_list.cuh: the first calls of CUDA and why there is no device, for who
 * lists or opens one. */
#ifndef QUIRE_KERNELS_CUDA_DEVICE_LIST_CUH
#define QUIRE_KERNELS_CUDA_DEVICE_LIST_CUH

#include "kernels/cuda/platform.cuh"

struct why;

#define CUDA_MAJOR_MIN 8 /* compute capability 8.0: A100, RTX 30 */

/* Whether kernels of this build run on that compute capability: code for a chip runs on later ones
 * of its major number, PTX on all later ones. */
bool cuda_has_code(int major, int minor);
/* "8.0, 9.0"; returns out. */
const char *cuda_name_code(char *out, size_t bytes);

/* Before any call of CUDA: it then loads the code of all kernels when it opens a device, and not at
 * the first launch of each, which may be into a graph, where nothing can be loaded. */
void cuda_load_at_once(void);
/* STATUS_UNAVAILABLE with a sentence: no driver, one too old, no device, or what CUDA says. */
int cuda_refuse_devices(cudaError_t error, struct why *why);

#endif
