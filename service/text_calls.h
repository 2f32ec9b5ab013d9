/* service/text_calls.h: Tokenize and Detokenize, on workers: the loop never works through a text.
 */
#ifndef QUIRE_SERVICE_TEXT_CALLS_H
#define QUIRE_SERVICE_TEXT_CALLS_H

#include "service/call.h"

extern const struct call_handler tokenize_handler, detokenize_handler;

#endif
