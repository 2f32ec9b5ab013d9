"""One turn of llama.cpp: reads one JSON request, prints tokens a second of prefill and decode.

Or, asked for the logits of some ids, writes them as a .npy; or tells the seconds of a load. Runs in
the environment that bench/versus_llama_cpp makes. What is timed is llama_decode alone: no sampling,
no tokenizer, no text; one warm-up of each shape comes before. Its best settings: flash attention,
f16 keys and values, repacked weights where it has them, one micro-batch of 512.
"""

import json
import sys
import time

import llama_cpp as lc
import numpy as np

SILENCE = lc.llama_log_callback(lambda level, text, data: None)  # the library keeps the pointer


def open_context(request, tokens):
    lc.llama_backend_init()
    lc.llama_log_set(SILENCE, None)
    model_params = lc.llama_model_default_params()
    model = lc.llama_model_load_from_file(request["model"].encode(), model_params)
    if not model:
        sys.exit("llama.cpp cannot load the model")
    params = lc.llama_context_default_params()
    params.n_ctx = tokens
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = request["threads"]
    if hasattr(params, "flash_attn_type"):
        params.flash_attn_type = 1
    else:
        params.flash_attn = True
    context = lc.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    return model, context


def run(context, ids, at, wants_all=False):
    batch = lc.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i] = token, at + i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.logits[i] = wants_all or i == len(ids) - 1
    begun, cpu = time.perf_counter(), time.process_time()
    status = lc.llama_decode(context, batch)
    lc.llama_synchronize(context)
    seconds = np.array([time.perf_counter() - begun, time.process_time() - cpu])
    lc.llama_batch_free(batch)
    if status != 0:
        sys.exit(f"llama_decode ended with {status}")
    return seconds


def clear(context):
    lc.llama_memory_clear(lc.llama_get_memory(context), True)


def write_logits(request):
    ids = request["ids"]
    model, context = open_context(request, len(ids) + 64)
    vocabulary = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    run(context, ids, 0, wants_all=True)
    logits = np.ctypeslib.as_array(lc.llama_get_logits(context), (len(ids), vocabulary))
    np.save(request["output"], logits)


def time_load(request):
    """Until a first token could be drawn."""
    begun, cpu = time.perf_counter(), time.process_time()
    _, context = open_context(request, request["load"])
    run(context, [1], 0)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - cpu}))


def main():
    request = json.loads(sys.stdin.read())
    if "load" in request:
        time_load(request)
        return
    if "ids" in request:
        write_logits(request)
        return
    n_prompt, n_gen, depth = request["prompt"], request["gen"], request["depth"]
    model, context = open_context(request, depth + n_prompt + n_gen + 64)
    vocabulary = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    ids = [(i * 131 + 7) % vocabulary for i in range(depth + n_prompt + n_gen)]

    run(context, ids[: min(512, n_prompt)], 0)
    run(context, ids[:1], min(512, n_prompt))
    clear(context)
    at = 0
    while at < depth:
        n = min(512, depth - at)
        run(context, ids[at : at + n], at)
        at += n
    prefill = np.zeros(2)
    end = depth + n_prompt
    while at < end:
        n = min(512, end - at)
        prefill += run(context, ids[at : at + n], at)
        at += n
    decode = sum(run(context, [ids[at + i]], at + i) for i in range(n_gen))
    print(json.dumps({"prefill": n_prompt / prefill[0], "decode": n_gen / decode[0],
                      "cpu_seconds": {"prefill": prefill[1], "decode": decode[1]}}))
    lc.llama_free(context)
    lc.llama_model_free(model)


main()
