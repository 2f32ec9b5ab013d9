/* service/summarize.h: the Summarize call.
 *
 *   options --PLAN--> text arrives --CUT--> section runs --> summary tree --JOIN--> merge runs
 *                     ^ 'held', one          (SUMMARY_RUNS at    |                     |
 *                     | window and a piece    once)              '<--------------------'
 *   the peer's window closes above it                            '--JOIN, when all fit--> final run
 *
 * A document that fits the context in one window becomes the final run at once. One piece of work
 * is on a worker at a time; what it cuts goes to the engine, and the text is dropped. So a call
 * holds one window, one piece of the upload, the prompts that the engine has not accepted, and the
 * summaries of at most one prompt a level, whatever the size of the document.
 *
 * What is written depends on the document and the options alone, not on pieces or timing. Covered
 * bytes are counted where a prompt is handed to the engine. Every end goes through one function
 * that gives everything back.
 */
#ifndef QUIRE_SERVICE_SUMMARIZE_H
#define QUIRE_SERVICE_SUMMARIZE_H

#include "service/call.h"

extern const struct call_handler summarize_handler;
size_t summarize_state_bytes(void);

#endif
