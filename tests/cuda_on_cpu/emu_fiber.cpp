#include "tests/cuda_on_cpu/emu_fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/cuda_on_cpu/emu_sanitizer.h"

#if defined(EMU_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* void emu_switch(void **left_sp, void *entered_sp): saves what a called function must save. */
#if defined(__x86_64__)

#define SAVED_BYTES 48
asm(R"(
    .text
    .globl emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, . - emu_switch
)");

/* The entry is "returned to": it must find the stack as after a call. */
static void *first_sp(char *top, void (*entry)(void))
{
    uintptr_t *slot = (uintptr_t *)(top - 16);
    slot[0] = (uintptr_t)entry;
    slot[1] = 0;
    return (char *)slot - SAVED_BYTES;
}

#elif defined(__aarch64__)

#define SAVED_BYTES 160
asm(R"(
    .text
    .globl emu_switch
    .type emu_switch, %function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emu_switch, . - emu_switch
)");

static void *first_sp(char *top, void (*entry)(void))
{
    uintptr_t *saved = (uintptr_t *)(top - SAVED_BYTES);
    saved[11] = (uintptr_t)entry; /* x30 */
    return saved;
}

#else
#error "emu_switch is written for x86-64 and aarch64"
#endif

extern "C" void emu_switch(void **left_sp, void *entered_sp);

void emu_fiber_adopt(struct emu_fiber *fiber)
{
    pthread_attr_t attributes;
    void *stack = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &stack, &bytes);
        pthread_attr_destroy(&attributes);
    }
    *fiber = {};
    fiber->stack = (char *)stack;
    fiber->stack_bytes = bytes;
#if defined(EMU_TSAN)
    fiber->tsan = __tsan_get_current_fiber();
#endif
}

void emu_fiber_create(struct emu_fiber *fiber, void (*entry)(void))
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    void *mapping = mmap(NULL, guard + EMU_STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED || mprotect(mapping, guard, PROT_NONE) != 0) {
        perror("cuda_on_cpu: no memory for the stack of a CUDA thread");
        abort();
    }
    *fiber = {};
    fiber->mapping = (char *)mapping;
    fiber->stack = fiber->mapping + guard;
    fiber->stack_bytes = EMU_STACK_BYTES;
    emu_fiber_reset(fiber, entry);
}

void emu_fiber_reset(struct emu_fiber *fiber, void (*entry)(void))
{
#if defined(EMU_ASAN)
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
#if defined(EMU_TSAN)
    if (fiber->tsan != NULL)
        __tsan_destroy_fiber(fiber->tsan);
    fiber->tsan = __tsan_create_fiber(0);
#endif
    fiber->fake_stack = NULL;
    fiber->sp = first_sp(fiber->stack + fiber->stack_bytes, entry);
}

void emu_fiber_free(struct emu_fiber *fiber)
{
#if defined(EMU_TSAN)
    __tsan_destroy_fiber(fiber->tsan);
#endif
    munmap(fiber->mapping, (size_t)(fiber->stack - fiber->mapping) + fiber->stack_bytes);
    *fiber = {};
}

void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to)
{
#if defined(EMU_ASAN)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if defined(EMU_TSAN)
    __tsan_switch_to_fiber(to->tsan, EMU_TSAN_NO_SYNC);
#endif
    emu_switch(&from->sp, to->sp);
#if defined(EMU_ASAN)
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void emu_fiber_entered(void)
{
#if defined(EMU_ASAN)
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}
