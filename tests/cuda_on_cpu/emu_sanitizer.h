/* tests/cuda_on_cpu/emu_sanitizer.h: what sanitizers must be told of fibers and CUDA's order.
 *
 * ThreadSanitizer: the emulation itself is compiled without it (EMU_TSAN is defined), kernels with
 * it. Each CUDA thread is one TSan fiber, switched to without synchronisation, so that two CUDA
 * threads are ordered only by the notes below: what CUDA orders. The interceptors of libc still see
 * the emulation's own calls; it makes none on a fiber outside of emu_ignore_begin/end.
 * AddressSanitizer: all is compiled with it; stack switches are announced (emu_fiber.cpp).
 */
#ifndef QUIRE_EMU_SANITIZER_H
#define QUIRE_EMU_SANITIZER_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif

#if defined(EMU_TSAN)

extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void __tsan_read_range(void *address, long bytes);
void __tsan_write_range(void *address, long bytes);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}

#define EMU_TSAN_NO_SYNC 1u

/* Everything before a release of a tag happens before everything after a later acquire of it. */
static inline void emu_note_release(const void *tag)
{
    __tsan_release(const_cast<void *>(tag));
}

static inline void emu_note_acquire(const void *tag)
{
    __tsan_acquire(const_cast<void *>(tag));
}

/* The running fiber reads or writes this memory (by an instruction that the emulation performs). */
static inline void emu_note_read(const void *memory, size_t bytes)
{
    __tsan_read_range(const_cast<void *>(memory), (long)bytes);
}

static inline void emu_note_write(void *memory, size_t bytes)
{
    __tsan_write_range(memory, (long)bytes);
}

static inline void emu_ignore_begin(void)
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

static inline void emu_ignore_end(void)
{
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#else

static inline void emu_note_release(const void *)
{
}

static inline void emu_note_acquire(const void *)
{
}

static inline void emu_note_read(const void *, size_t)
{
}

static inline void emu_note_write(void *, size_t)
{
}

static inline void emu_ignore_begin(void)
{
}

static inline void emu_ignore_end(void)
{
}

#endif

#endif
