/* ThreadSanitizer is some 20 times as slow, and judges nothing but threads: what comes of one
 * thread, and of ever more values, is the other builds' to show. EMU_TSAN: it judges the kernels
 * that this test runs on the CPU, and not the test. */
#ifndef QUIRE_TESTS_UNDER_TSAN_H
#define QUIRE_TESTS_UNDER_TSAN_H

#if defined(__SANITIZE_THREAD__) || defined(EMU_TSAN)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

/* Of a test without threads: skipped by name. */
#define SKIP_UNDER_TSAN()                                                                          \
    do {                                                                                           \
        if (UNDER_TSAN) {                                                                          \
            print_message("skipped: one thread, of which TSan has nothing to say\n");              \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

#endif
