"""Each family of models with all its matrices of each tensor type: logits beside doubles over the
dequantised file, with pages of f32 and with those of f16, which round keys; the same bytes from
other chunks and in company, and greedy answers of the engine.

What passed goes to the log of the test; tests/e2e/table.py makes the table of it, and misses what
is not there.
"""

import io
import json
import re
import subprocess

import gguf
import numpy as np
import pytest

import make_cell_models
import make_tiny_models
from conftest import CELLS
from reference import Reference

N_PROMPT, N_ANSWER = 67, 8  # the answer stands behind the border of a page
MOST = {"f32": (2e-2, 2e-3), "f16": (0.1, 8e-3)}  # of a logit, and rms
MOST_BIASED = 0.2  # with f16: the keys of these stand on large biases, and are rounded there
BIASED = ("qwen2",)
CLEAR = 0.2  # between the best two: no rounding turns them round
ENDS = [0, 2]  # <|endoftext|>, <|im_end|>
SECONDS = 120


def run(*words):
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_option(ids):
    return ",".join(str(int(token)) for token in ids)


def answer(quire, path, prompt):
    """Ids that the engine draws greedily, as a client gets them."""
    out = run(quire, "generate", "--model", path, "--tokens", as_option(prompt), "--json",
              "--max-tokens", N_ANSWER, "--temperature", "0", "--ignore-eos")
    events = [json.loads(line) for line in out.splitlines()]
    return [token for event in events if event["event"] == "delta" for token in event["tokens"]]


def logits(quire, path, tokens, *options):
    out = path.with_suffix(".npy")
    run(quire, "logits", "--model", path, "--tokens", as_option(tokens), "--rows", "all",
        "--output", out, *options)
    return out.read_bytes()


def check_near(npy, exact, pages, family):
    ours = np.load(io.BytesIO(npy), allow_pickle=False).astype(np.float64)
    worst, rms = np.abs(ours - exact).max(), np.sqrt(np.mean((ours - exact) ** 2))
    most, rms_most = MOST[pages]
    if pages == "f16" and family in BIASED:
        most = MOST_BIASED
    assert worst <= most and rms <= rms_most, f"{pages}: max {worst:.2e}, rms {rms:.2e}"
    return ours


def check_greedy(ids, ours, exact):
    """The answer's rows begin with the prompt's last."""
    assert len(ids) == N_ANSWER
    for rows in (ours, exact):
        rows[:, ENDS] = -np.inf  # --ignore-eos
    assert ids == list(ours.argmax(axis=1))
    best_two = np.partition(exact, -2, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > CLEAR
    assert clear.any()
    assert (np.array(ids) == exact.argmax(axis=1))[clear].all()


@pytest.mark.parametrize("kind", list(make_cell_models.KINDS))
@pytest.mark.parametrize("family", list(make_cell_models.FAMILIES))
def test_a_family_runs_in_a_type(quire, tmp_path, request, family, kind):
    path = tmp_path / "cell.gguf"
    name = make_cell_models.make_cell(family, kind, path)
    passed = lambda check: request.config.stash[CELLS].append((family, kind, check))
    rng = np.random.Generator(np.random.PCG64(sum(name.encode())))
    prompt = rng.integers(0, make_tiny_models.N_VOCABULARY, size=N_PROMPT)
    ids = answer(quire, path, prompt)
    tokens = [*prompt, *ids]
    alone = logits(quire, path, tokens)

    exact = Reference(path).logits(tokens)
    check_near(logits(quire, path, tokens, "--kv-dtype", "f32"), exact, "f32", family)
    ours = check_near(alone, exact, "f16", family)
    passed("logits")
    others = ("--prefill-chunk", 7, "--beside", 3, "--threads", 1)
    assert logits(quire, path, tokens, *others) == alone
    passed("bytes")
    check_greedy(ids, ours[N_PROMPT - 1 : -1], exact[N_PROMPT - 1 : -1])  # changes them
    passed("greedy")


def refusal(quire, path):
    done = subprocess.run(
        [quire, "logits", "--model", path, "--tokens", "1", "--output", "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    return done.stderr


def names_behind(words, text):
    found = re.search(rf"{words} ([\w, ]+)", text)
    assert found, text
    return set(re.split(", | and ", found.group(1)))


def test_the_table_has_all_that_the_program_says_it_runs(quire, tmp_path):
    path = tmp_path / "strange.gguf"
    plan = make_cell_models.plan_of("llama", "F32")
    tensors = list(make_tiny_models.tensors_of(plan))
    at = next(i for i, tensor in enumerate(tensors) if tensor[0] == "blk.1.ffn_down.weight")
    kind = gguf.GGMLQuantizationType.IQ2_XXS
    row_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    tensors[at] = (tensors[at][0], np.zeros((256, row_bytes), dtype=np.uint8), kind)
    make_tiny_models.write_model(plan, path, tensors)
    assert names_behind("use a file of", refusal(quire, path)) == set(make_cell_models.KINDS)
    plan.arch = "strange"
    make_tiny_models.write_model(plan, path, tensors)
    archs = {make_cell_models.plan_of(family, "F32").arch for family in make_cell_models.FAMILIES}
    assert names_behind("this build runs", refusal(quire, path)) == archs
