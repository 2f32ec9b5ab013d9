#include "service/estimate_call.h"
#include "service/generate.h"
#include "service/health.h"
#include "service/model_calls.h"
#include "service/reflection.h"
#include "service/service.h"
#include "service/summarize.h"
#include "service/text_calls.h"

enum {
    GENERATE, SUMMARIZE, ESTIMATE, TOKENIZE, DETOKENIZE, GET_MODEL, WATCH_STATS, HEALTH_CHECK,
    HEALTH_LIST, HEALTH_WATCH, REFLECTION, REFLECTION_ALPHA, N_METHODS
};

static struct method methods[N_METHODS] = {
    [GENERATE] = {"/quire.v1.Quire/Generate", CALL_SERVER_STREAM, GENERATE_MESSAGE_BYTES_MAX,
                  &generate_handler, 0},
    [SUMMARIZE] = {"/quire.v1.Quire/Summarize", CALL_BIDI, UPLOAD_MESSAGE_BYTES_MAX,
                   &summarize_handler, 0},
    [ESTIMATE] = {"/quire.v1.Quire/Estimate", CALL_UNARY, GENERATE_MESSAGE_BYTES_MAX,
                  &estimate_handler, 0},
    [TOKENIZE] = {"/quire.v1.Quire/Tokenize", CALL_UNARY, GENERATE_MESSAGE_BYTES_MAX,
                  &tokenize_handler, 0},
    [DETOKENIZE] = {"/quire.v1.Quire/Detokenize", CALL_UNARY, GENERATE_MESSAGE_BYTES_MAX,
                    &detokenize_handler, 0},
    [GET_MODEL] = {"/quire.v1.Quire/GetModel", CALL_UNARY, SMALL_MESSAGE_BYTES_MAX,
                   &get_model_handler, 0},
    [WATCH_STATS] = {"/quire.v1.Quire/WatchStats", CALL_SERVER_STREAM, SMALL_MESSAGE_BYTES_MAX,
                     &watch_stats_handler, 0},
    [HEALTH_CHECK] = {"/grpc.health.v1.Health/Check", CALL_UNARY, SMALL_MESSAGE_BYTES_MAX,
                      &health_check_handler, 0},
    [HEALTH_LIST] = {"/grpc.health.v1.Health/List", CALL_UNARY, SMALL_MESSAGE_BYTES_MAX,
                     &health_list_handler, 0},
    [HEALTH_WATCH] = {"/grpc.health.v1.Health/Watch", CALL_SERVER_STREAM, SMALL_MESSAGE_BYTES_MAX,
                      &health_watch_handler, 0},
    [REFLECTION] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", CALL_BIDI,
                    SMALL_MESSAGE_BYTES_MAX, &reflection_handler, 0},
    [REFLECTION_ALPHA] = {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                          CALL_BIDI, SMALL_MESSAGE_BYTES_MAX, &reflection_handler, 0},
};

const struct method *service_methods(size_t *n)
{
    /* known to their own files only, so not in the table above */
    methods[GENERATE].state_bytes = generate_state_bytes();
    methods[SUMMARIZE].state_bytes = summarize_state_bytes();
    methods[ESTIMATE].state_bytes = estimate_state_bytes();
    methods[WATCH_STATS].state_bytes = watch_stats_state_bytes();
    methods[HEALTH_WATCH].state_bytes = health_watch_state_bytes();
    methods[REFLECTION].state_bytes = reflection_state_bytes();
    methods[REFLECTION_ALPHA].state_bytes = reflection_state_bytes();
    *n = N_METHODS;
    return methods;
}
