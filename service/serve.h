/* service/serve.h: `quire serve`: options, load, listen, serve, drain.
 *
 *   options --> listen (a taken port fails here) --> load --> ready line --> server_run --> 0
 *
 * A stop that arrives while the model is loading ends the process between two pieces of it.
 */
#ifndef QUIRE_SERVICE_SERVE_H
#define QUIRE_SERVICE_SERVE_H

/* argv[0] is "serve". Returns the exit status: 0 after a drain or stop, 1 when it could not serve,
 * 2 for wrong usage; refusals stand on standard error as "quire: sentence". */
int serve_main(int argc, char **argv);

#endif
