/* tests/cuda_on_cpu/emu_fiber.h: a stack that can be left and entered again.
 *
 *   low  | guard page |      128 KiB, grows down      |  high
 *
 * A fiber never moves to another OS thread. Its entry function must not return: the frame below it
 * does not exist. A fiber that is not running can be reset, whatever it was doing.
 */
#ifndef QUIRE_EMU_FIBER_H
#define QUIRE_EMU_FIBER_H

#include <stddef.h>

#define EMU_STACK_BYTES (128u << 10)

struct emu_fiber {
    void *sp;               /* where it was left */
    char *mapping;          /* guard page and stack; NULL for the stack of an OS thread */
    char *stack;
    size_t stack_bytes;
    void *fake_stack;       /* AddressSanitizer's */
    void *tsan;             /* ThreadSanitizer's */
};

/* Makes the calling OS thread's own stack a fiber that others can switch back to. */
void emu_fiber_adopt(struct emu_fiber *fiber);
/* Takes memory; the first switch to it calls entry. Ends the program when there is no memory. */
void emu_fiber_create(struct emu_fiber *fiber, void (*entry)(void));
void emu_fiber_reset(struct emu_fiber *fiber, void (*entry)(void));
void emu_fiber_free(struct emu_fiber *fiber);

/* Leaves `from`, which must be running, and comes back when somebody switches to it. */
void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to);
/* The first thing that an entry function calls. */
void emu_fiber_entered(void);

#endif
