/* model/vocabulary_gguf.h: the tokenizer keys of a GGUF file, made into a vocabulary. */
#ifndef QUIRE_MODEL_VOCABULARY_GGUF_H
#define QUIRE_MODEL_VOCABULARY_GGUF_H

struct gguf;
struct vocabulary;
struct why;

/* Copies all it needs: the file may be closed afterwards. STATUS_CORRUPT (a key of the wrong
 * kind, and as vocabulary_create), STATUS_UNSUPPORTED, STATUS_NO_MEMORY. The caller frees *out
 * with vocabulary_free. */
int vocabulary_gguf_read(const struct gguf *file, struct vocabulary **out, struct why *why);

#endif
