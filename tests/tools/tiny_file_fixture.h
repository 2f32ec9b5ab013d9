/* tests/tools/tiny_file_fixture.h: a tiny random model as a file, by the writer of tests/model. */
#ifndef QUIRE_TESTS_TOOLS_TINY_FILE_FIXTURE_H
#define QUIRE_TESTS_TOOLS_TINY_FILE_FIXTURE_H

#include "tests/model/gguf_fixture.h"

/* Writes the tiny llama with whatever `change` (may be NULL) adds; the caller unlinks the path,
 * which is valid until the next call. */
const char *tiny_file(void (*change)(struct gguf_writer *writer));

#endif
