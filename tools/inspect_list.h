/* tools/inspect_list.h: the long lists of `quire inspect`: keys, tensors, tensors that nothing
 * uses. */
#ifndef QUIRE_TOOLS_INSPECT_LIST_H
#define QUIRE_TOOLS_INSPECT_LIST_H

#include "tools/file_facts.h"

void inspect_list_keys(const struct gguf *file);
void inspect_list_tensors(const struct file_facts *facts);
void inspect_list_unused(const struct file_facts *facts); /* the first few names; or nothing */

#endif
