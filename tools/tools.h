/* tools/tools.h: the offline subcommands: everything that needs a model file and no server.
 *
 * argv[0] is the subcommand's name. Each returns the exit status: 0, 1 when it failed, 2 for wrong
 * usage; a refusal stands on standard error as "quire: sentence".
 */
#ifndef QUIRE_TOOLS_TOOLS_H
#define QUIRE_TOOLS_TOOLS_H

int tools_inspect(int argc, char **argv); /* what a GGUF file holds */
int tools_logits(int argc, char **argv);  /* logits of given tokens, in NumPy's format */
int tools_bench(int argc, char **argv);   /* speed beside the machine's peaks */
int tools_eval(int argc, char **argv);    /* how likely a text is, and what coarser forms change */
int tools_plan(int argc, char **argv);    /* what a model would take of GPUs */
int tools_devices(int argc, char **argv); /* what this machine can compute with */

#endif
