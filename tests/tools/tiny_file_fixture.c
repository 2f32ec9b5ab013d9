#include "tiny_file_fixture.h"

/* Fixtures belong to one room each; this one is the model room's, compiled here a second time. */
#include "tests/model/gguf_fixture.c"

const char *tiny_file(void (*change)(struct gguf_writer *writer))
{
    static const struct tiny_shape shape = {2, 64, 4, 2, 96, 300};
    struct gguf_writer writer;

    gguf_writer_init(&writer);
    gguf_add_tiny_llama(&writer, &shape);
    if (change != NULL)
        change(&writer);
    const char *path = gguf_write(&writer, 0);
    gguf_writer_release(&writer);
    return path;
}
