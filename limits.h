/* limits.h: every maximum and default in one place; their relations are asserted below.
 *
 * A limit that a user can change is named DEFAULT_*, with the option that changes it; *_MAX are
 * hard.
 */
/* gcc's own <limits.h> looks for the C library's along this path and must find it */
#include_next <limits.h>

#ifndef QUIRE_LIMITS_H
#define QUIRE_LIMITS_H

/* --- pages and sequences --- */
#define PAGE_TOKENS 64               /* tokens of one page of a layer group */
/* attention merges partial states of spans of this many tokens, in order */
#define SPAN_TOKENS 512
#define KV_GROUPS_MAX 4
#define CONTEXT_TOKENS_MIN 16        /* less holds no question and answer */
#define CONTEXT_TOKENS_MAX (1u << 24) /* positions of one sequence (--max-context) */
/* of a sliding group a whole window is remembered at every so many tokens, or 4 windows */
#define SNAPSHOT_TOKENS 4096
#define HOST_PAGES_MAX (1u << 26)     /* of the host pool, in each group of layers */
#define PINS_MAX 64                  /* prefixes that do not give way */
#define PINNED_SHARE 2               /* they take one of so many parts of a group's pages at most */
#define DEFAULT_SEQUENCES 128        /* sequences that may hold pages at once (--max-sequences) */
#define SEQUENCES_MAX 1024
#define DEFAULT_QUEUED 256           /* sequences that may wait for pages (--max-queued) */

/* --- the step --- */
#define STEP_ROWS_MAX 512            /* rows (tokens) of one step */
#define DEFAULT_STEP_MS 50           /* --max-step-ms */
#define PREFILL_CHUNK_MIN 16         /* rows a prefill gets at least when it is scheduled */

/* --- devices --- */
#define DEVICE_DEPTH_MAX 2           /* lists of one stream submitted and not yet waited for */
#define DEVICES_MAX 64               /* of one backend that `quire devices` lists */

/* --- a model file (models.md 1.3) --- */
#define MODEL_LAYERS_MAX 512
#define MODEL_WIDTH_MAX 65536
#define MODEL_HEADS_MAX 1024
#define MODEL_HEAD_DIM_MAX 1024
#define MODEL_VOCABULARY_MAX (1u << 20)
#define MODEL_FF_MAX (1u << 20)
#define MODEL_EXPERTS_MAX 1024       /* of one layer */
#define GGUF_KEY_BYTES_MAX 65535
#define GGUF_TENSOR_NAME_BYTES_MAX 63
#define GGUF_ALIGNMENT_MAX (1u << 20)
#define GGUF_SPLITS_MAX 1024
/* of one vocabulary entry; the longest in published files is 512 */
#define TOKEN_BYTES_MAX 2048
/* of the tree of all tokens' bytes; the largest of published files have some 600,000 */
#define TOKEN_TRIE_NODES_MAX (1u << 24)

/* --- a request --- */
#define TOP_LOGPROBS_MAX 20
#define STOP_STRINGS_MAX 16
#define STOP_BYTES_MAX 256           /* of one stop string */
#define LOGIT_BIASES_MAX 300         /* of one request */
#define LOGIT_BIAS_MAX 100           /* either way */
#define STOP_TOKENS_MAX 64           /* of one request */
#define CHOICES_MAX 16               /* answers to one prompt: n and best_of of a request */
/* best_of times max_tokens of a request: answers that are held until the best is known */
#define BEST_OF_TOKENS_MAX 65536
#define REQUEST_ID_BYTES_MAX 128
#define CACHE_SALT_BYTES_MAX 128     /* of a request's cache_salt */
#define GENERATE_MESSAGE_BYTES_MAX (16u << 20) /* Generate, Tokenize, Detokenize */
#define UPLOAD_MESSAGE_BYTES_MAX (16u << 20)   /* one piece of an upload */
#define SMALL_MESSAGE_BYTES_MAX (64u << 10)    /* every other method */
#define DOCUMENT_BYTES_MAX (256u << 20)        /* one uploaded document */
#define UNPACK_ARENA_FACTOR 8        /* unpacked protobuf may take this times its wire size ... */
#define UNPACK_ARENA_EXTRA (64u << 10) /* ... and this */
#define SUMMARY_RESERVE_TOKENS 512   /* of the context, kept for an answer */
#define SUMMARY_LEVELS_MAX 8
#define SUMMARY_RUNS 4               /* sections of one summary in the engine at once */
#define SECTION_TOKENS_MIN 16        /* of section_tokens */
#define DEFAULT_SUMMARY_TOKENS 512   /* max_tokens of Summarize */
#define DEFAULT_SECTION_SUMMARY_TOKENS 160 /* section_max_tokens */
#define SUMMARY_REPETITION_PENALTY 1.1f /* of Summarize, when the request gives none */

/* --- a grammar or JSON schema of a request (models.md 8.5) --- */
#define GRAMMAR_BYTES_MAX (64u << 10) /* of its text */
#define GRAMMAR_NESTING_MAX 64       /* groups in groups, schemas in schemas */
#define GRAMMAR_REPEAT_MAX 4096      /* bounds of repetitions, lengths and counts of items */
#define GRAMMAR_CLASS_RANGES_MAX 256 /* of one class of characters */
#define GRAMMAR_RULES_MAX 16384
#define GRAMMAR_EXPRESSIONS_MAX (1u << 18) /* literals, classes, alternatives, ... of all rules */
#define GRAMMAR_LITERAL_BYTES_MAX (1u << 18) /* of all literals */
#define GRAMMAR_NODES_MAX (1u << 16) /* of the automaton */
#define GRAMMAR_PARSES_MAX 1024      /* ways in which the text so far may go on, at once */
#define GRAMMAR_WORK_MAX (1u << 18)  /* steps through nodes for one mask: some 3 ms */
#define GRAMMARS_MAX 128             /* of runs that are admitted, at once: some 3 MiB each */

/* --- events, engine to loop --- */
/* text of one delta: a token, and what stop strings held back, repaired (x 3) */
#define EVENT_TEXT_BYTES_MAX 8192
#define EVENT_BYTES_MAX 9216         /* worst event in the ring: text, ids, logprobs */
#define CALL_CREDIT_EVENTS 8         /* deltas a sequence may have under way from the engine */
/* of a call with several answers each has its part of that, but no less than this */
#define CHOICE_CREDIT_EVENTS 2
#define STATS_HOLDERS_MAX 12         /* sequences that one look at the cache names */
#define TABLE_STRETCHES_MAX 48       /* of adjacent pages, that a look at tables tells */
#define MESSAGE_RING_SLOTS 4096      /* submits, cancels and credits, loop to engine */
/* worst event as protobuf: logprobs carry the bytes of their tokens */
#define WIRE_EVENT_BYTES_MAX 65536
#define OUT_BUFFER_MARK_BYTES (32u << 10) /* a call above this gives no credit */
#define OUT_BUFFER_BYTES_MAX                                                                       \
    (OUT_BUFFER_MARK_BYTES + CHOICES_MAX * (CHOICE_CREDIT_EVENTS + 1) * WIRE_EVENT_BYTES_MAX)
#define RESPONSE_MESSAGE_BYTES_MAX (4u << 20) /* the reply of a unary call: what all clients take */

/* --- connections and calls --- */
#define DEFAULT_PORT 7070
#define DEFAULT_CONNECTIONS 1024     /* --max-connections */
#define STREAMS_PER_CONNECTION 256
#define CALLS_MAX 4096               /* calls open at once, all connections */
#define STREAMS_MAX (CALLS_MAX + 1024) /* calls, finished ones that still send, refusals */
#define CONNECTIONS_MAX 65536        /* of --max-connections */
#define WORKS_MAX 4096               /* pieces of work handed to the pool and not yet back */
#define RECEIVE_BYTES_MAX (1u << 30) /* unfinished and waiting requests of all calls */
#define TEXT_BYTES_MAX (1u << 30)    /* texts of all calls on their way to tokens */
/* a unary reply finds room only while less than this waits for readers, all calls; streams are held
 * by their credit */
#define UNSENT_BYTES_MAX (1u << 30)
#define PATH_BYTES_MAX 256           /* :path; longer ones name no method */
#define METADATA_BYTES_MAX 8192      /* name + value + 32 a field */
#define METADATA_FIELDS_MAX 100
#define TRAILERS_BYTES_MAX 8000      /* clients advertise 8192 */
#define EMPTY_DATA_FRAMES_MAX 100
#define RESETS_SENT_PER_MINUTE_MAX 100
#define RESETS_RECEIVED_BURST 1000   /* RST_STREAM taken at once ... */
#define RESETS_RECEIVED_PER_S 33     /* ... and this many a second after */
#define CONTINUATIONS_MAX 8          /* frames of one header block beside HEADERS */
#define SETTINGS_ENTRIES_MAX 32
#define OUTBOUND_ACKS_MAX 1000       /* PING and SETTINGS acks that a peer may leave unread */
#define OUTBOUND_QUEUE_FRAMES_MAX 10000
#define SESSION_BYTES_MAX (8u << 20) /* what the HTTP/2 library may hold for one connection */
#define READ_TURN_BYTES (256u << 10) /* by one connection before others have their turn */
#define CONNECTION_WINDOW_BYTES (4u << 20)
#define STREAM_WINDOW_BYTES (1u << 20)
#define WRITE_BUFFER_BYTES (64u << 10)
#define IDLE_CONNECTION_BYTES_MAX (48u << 10)
#define PREFACE_TIMEOUT_MS 10000
#define HEADERS_TIMEOUT_MS 10000
#define FIRST_MESSAGE_TIMEOUT_MS 30000 /* in which a first or half message must grow by ... */
#define UPLOAD_TURN_BYTES_MIN 4096   /* ... this much */
#define IDLE_CONNECTION_MS 3600000   /* a connection without calls is closed after this */
#define LINGER_MS 1000               /* the peer may read our last bytes for so long */
#define GOAWAY_NOTICE_MS 1000        /* from the notice of a drain to its GOAWAY, at most */
#define DEFAULT_DRAIN_MS 30000       /* --drain-ms: grace after SIGTERM */
/* --max-paused-ms: a reader that takes nothing for so long is ended and told */
#define DEFAULT_PAUSED_MS 600000
/* --preempt-ms: one that takes nothing for so long gives up its pages to others who wait */
#define DEFAULT_PREEMPT_MS 10000
/* a ping more often than this, with calls open, is a strike; clients may ping every 10 s, and their
 * clocks and the network jitter */
#define PINGS_IDLE_MS 9000
#define PINGS_NO_CALLS_MS 300000     /* the same without calls */
#define PING_STRIKES_MAX 2           /* one more ends the connection */

#ifndef __cplusplus /* CUDA sources read the limits; their relations are asserted once, in C */
_Static_assert(SPAN_TOKENS % PAGE_TOKENS == 0, "a span is whole pages");
_Static_assert(STEP_ROWS_MAX >= PREFILL_CHUNK_MIN, "a step has room for a prefill");
_Static_assert(EVENT_TEXT_BYTES_MAX >= 3 * (TOKEN_BYTES_MAX + STOP_BYTES_MAX + 4),
               "a delta holds one token and what was held back, each byte repaired to three");
_Static_assert(EVENT_BYTES_MAX >= EVENT_TEXT_BYTES_MAX + 256 + 8 * (TOP_LOGPROBS_MAX + 1),
               "the worst event holds its text and all logprobs");
_Static_assert(WIRE_EVENT_BYTES_MAX >=
                   EVENT_TEXT_BYTES_MAX + (TOP_LOGPROBS_MAX + 2) * (TOKEN_BYTES_MAX + 32),
               "and as protobuf the bytes of each token beside");
_Static_assert(CHOICES_MAX * CHOICE_CREDIT_EVENTS >= CALL_CREDIT_EVENTS,
               "the deltas of one answer, or of all that a call may have, fit beside the mark and "
               "their ends");
_Static_assert(CALL_CREDIT_EVENTS * WIRE_EVENT_BYTES_MAX >=
                   SUMMARY_RUNS * CALL_CREDIT_EVENTS * (EVENT_TEXT_BYTES_MAX + 256) + 4096,
               "the deltas of all sections that run at once fit beside the mark");
_Static_assert(METADATA_BYTES_MAX >= TRAILERS_BYTES_MAX, "what we send we would accept");
_Static_assert(CONNECTION_WINDOW_BYTES >= STREAM_WINDOW_BYTES, "one upload leaves room for others");
_Static_assert(WRITE_BUFFER_BYTES >= 2 * (16384 + 9), "a write buffer holds whole frames");
_Static_assert(OUT_BUFFER_BYTES_MAX <= RESPONSE_MESSAGE_BYTES_MAX, "streams fit every client");
#endif

/* --- chats --- */
#define CHAT_TOOLS_BYTES_MAX (1 << 20) /* of the tools of a chat, or the calls of one message */
#define CHAT_NAME_BYTES_MAX 64       /* of a tool's name */
#define CHAT_JSON_DEPTH_MAX 32       /* nesting of a tool's schema, and of a call's arguments */
#define CHAT_RESERVE_TOKENS 512      /* of the context, for the answer to a truncated chat */
#define TOOL_CALLS_MAX 16            /* that one answer may ask for; more are text */
#define TOOL_REPLY_BYTES_MAX (32 << 10) /* of calls in one answer; beyond it they are text */

#endif
