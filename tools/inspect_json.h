/* tools/inspect_json.h: the facts of a file as one JSON object on one line. */
#ifndef QUIRE_TOOLS_INSPECT_JSON_H
#define QUIRE_TOOLS_INSPECT_JSON_H

#include "tools/file_facts.h"

#include <stdio.h>

void inspect_json_print(FILE *to, const struct file_facts *facts);

#endif
