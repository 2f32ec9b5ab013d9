/* kernels/philox.h: Philox4x32-10, a random function without state: the same bits on every backend.
 */
#ifndef QUIRE_KERNELS_PHILOX_H
#define QUIRE_KERNELS_PHILOX_H

#include "kernels/host_device.h"

#include <stdint.h>

#define PHILOX_ROUNDS 10

/* key = seed (low, high); counter = position (low, high), choice, 0. Returns words 0 (low) and 1
 * (high). */
HOST_DEVICE uint64_t philox(uint64_t seed, uint32_t choice_idx, uint64_t position)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = choice_idx, c3 = 0;
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (uint64_t)c1 << 32 | c0;
}

#endif
