"""The CUDA backend end to end, its kernels executed by the CPU (tests/cuda_on_cpu): what `quire
serve` and `quire logits` give is held against the CPU backend, and against itself in other company.
"""

import io
import subprocess

import numpy as np
import pytest

import make_tiny_models
import real_model
from conftest import BUILD, ROOT, cuda_build

MARGIN = 0.2  # of the CPU's best two logits: the backends round differently, and may part below it
SECONDS = 600
CUDA, CPU = ("--backend", "cuda"), ("--backend", "cpu", "--threads", "1")
N_TOKENS = 70  # a page and the beginning of the next


@pytest.fixture(scope="session")
def quire():
    return cuda_build("build-cuda-emu")


@pytest.fixture
def logits(quire, tmp_path):
    """logits(model, tokens, *options): what `quire logits` writes for all rows, byte for byte."""

    def run(model, tokens, *options, quire=quire):
        out = tmp_path / "out.npy"
        out.unlink(missing_ok=True)
        ids = ",".join(str(int(token)) for token in tokens)
        done = subprocess.run(
            [str(word) for word in (quire, "logits", "--model", model, "--tokens", ids, "--output",
                                    out, "--rows", "all", *options)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
        )
        assert done.returncode == 0 and "Sanitizer" not in done.stderr, done.stderr
        return out.read_bytes()

    return run


def array_of(raw):
    return np.load(io.BytesIO(raw), allow_pickle=False).astype(np.float64)


def golden_tokens(name):
    """A model of a further type has no golden file: there any ids do."""
    path = ROOT / "tests" / "golden" / "tiny" / f"{name}.npz"
    if not path.exists():
        return [i * 37 % make_tiny_models.N_VOCABULARY for i in range(N_TOKENS)]
    with np.load(path) as golden:
        return [int(token) for token in golden["tokens"][:N_TOKENS]]


# --- beside the CPU ---


MIXES = ["bf16", "q4_k_m", "q3_k_m", "iq4_xs"]  # of the planes that no type above has


@pytest.mark.parametrize("name", [*(plan.name for plan in make_tiny_models.PLANS), *MIXES])
def test_every_row_of_a_tiny_model_is_near_the_cpus(logits, tiny, capsys, name):
    tokens = golden_tokens(name)
    cuda, cpu = (array_of(logits(tiny[name], tokens, *backend)) for backend in (CUDA, CPU))
    error = np.abs(cuda - cpu)
    best_two = np.sort(cpu, axis=1)[:, -2:]
    margins = best_two[:, 1] - best_two[:, 0]
    clear = margins > MARGIN
    same = cuda.argmax(axis=1) == cpu.argmax(axis=1)
    with capsys.disabled():
        print(f"\n{name}: {len(tokens)} rows, max {error.max():.2e}, rms "
              f"{np.sqrt(np.mean(error**2)):.2e}; margins {margins.min():.3f} to "
              f"{margins.max():.3f}, {clear.sum()} above {MARGIN}, {(~same).sum()} ids differ")
    assert clear.sum() >= len(tokens) // 2
    assert same[clear].all()
    assert error.max() <= 0.1 and np.sqrt(np.mean(error**2)) <= 8e-3


# In the last layer rows without logits have keys and values made alone.
@pytest.mark.parametrize("name", ["llama4", "qwen3moe", "deepseek2_v3"])
def test_the_last_row_alone_is_the_last_of_all_rows(logits, tiny, name):
    tokens = golden_tokens(name)
    row = array_of(logits(tiny[name], tokens, *CUDA))[-1:].tobytes()
    for options in ("--beside", "2"), ("--no-last-layer-saving",):
        last = logits(tiny[name], tokens, *CUDA, "--rows", "last", *options)
        assert array_of(last).tobytes() == row


def greedy(stubs, server, prompt, n, **sampling):
    """[(id, margin of the raw best two)] of n greedy tokens."""
    pb = stubs.quire
    request = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=prompt), sampling=pb.Sampling(temperature=0, **sampling),
        max_tokens=n, logprobs=2, ignore_eos=True,
    )
    drawn = []
    for event in server.stub().Generate(request, timeout=SECONDS):
        for token in event.delta.logprobs:
            drawn.append((token.token, token.top[0].logprob - token.top[1].logprob))
    assert len(drawn) == n
    return drawn


def compare(title, cpu, cuda, capsys):
    """How many ids of wide margin were compared: until the answers part, which only a narrow one
    allows, since what follows has another prompt."""
    n_clear = 0
    for i, ((id_of_cpu, margin), (id_of_cuda, _)) in enumerate(zip(cpu, cuda)):
        with capsys.disabled():
            print(f"\n{title}, token {i}: cpu {id_of_cpu}, cuda {id_of_cuda}, "
                  f"margin {margin:.3f}", end="")
        if id_of_cpu != id_of_cuda:
            assert margin <= MARGIN, f"token {i}: {id_of_cuda} in place of {id_of_cpu}"
            break
        n_clear += margin > MARGIN
    return n_clear


@pytest.mark.parametrize("name", ["mixed", "split"])
def test_a_tiny_model_streams_the_ids_of_the_cpu(server, stubs, tiny, capsys, name):
    prompt, n = golden_tokens(name), 12
    cuda, cpu = (
        greedy(stubs, server("--max-context", "256", *backend, model=tiny[name]), prompt, n)
        for backend in (CUDA, CPU)
    )
    assert compare(name, cpu, cuda, capsys) >= n // 3


def penalised_margin(row, seen, banned, penalty):
    """Of the best two logits when tokens that were seen are made less likely."""
    row = row.copy()
    seen = sorted(seen)
    row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
    row[banned] = -np.inf
    second, best = np.sort(row)[-2:]
    return best - second


def test_a_repetition_penalty_counts_the_tokens_that_the_cpu_counts(
    server, stubs, logits, tiny, capsys
):
    name, n, penalty = "every_head", 12, 1.5
    prompt = golden_tokens(name)[:9]
    servers = [server("--max-context", "256", *backend, model=tiny[name])
               for backend in (CUDA, CPU)]
    cuda, cpu = (
        [token for token, _ in greedy(stubs, each, prompt, n, repetition_penalty=penalty)]
        for each in servers
    )
    banned = list(servers[1].stub().GetModel(stubs.quire.GetModelRequest()).end_tokens)
    rows = array_of(logits(tiny[name], prompt + cpu, *CPU))[len(prompt) - 1 :]
    margins = [penalised_margin(rows[i], set(prompt + cpu[:i]), banned, penalty)
               for i in range(n)]
    assert (rows[:n].argmax(axis=1) != cpu).sum() > 2, "the penalty changes next to nothing"
    assert compare("penalty", list(zip(cpu, margins)), [(token, 0) for token in cuda],
                   capsys) == n


def test_the_real_model_streams_the_ids_of_the_cpu(server, stubs, model, capsys):
    prompt, n = real_model.PROMPTS["P1"], 4
    options = {"model": model, "env": {"EMU_WORKERS": "2"}, "ready_seconds": SECONDS}
    cuda, cpu = (
        greedy(stubs, server("--max-context", "16", *backend, **options), prompt, n)
        for backend in (CUDA, CPU)
    )
    assert [token for token, _ in cpu] == real_model.GREEDY["P1"][:n]
    assert compare("P1", cpu, cuda, capsys) == n


# --- law 2, on the backend itself ---

COMPANIES = {
    "chunk 1": ("--prefill-chunk", "1"),
    "chunk 7": ("--prefill-chunk", "7"),
    "chunk 64": ("--prefill-chunk", "64"),
    "beside three": ("--beside", "3"),
    "beside three, chunk 7": ("--beside", "3", "--prefill-chunk", "7"),
}


@pytest.mark.parametrize("name, kv_dtype", [
    ("every_head", "f16"), ("every_head", "f32"), ("q4_1", "q4"),
    ("biases_f32", "f16"), ("biases_f32", "f32"), ("deepseek2_v3", "q8"),
])
def test_rows_do_not_depend_on_their_company(logits, tiny, name, kv_dtype):
    tokens, pages = golden_tokens(name), ("--kv-dtype", kv_dtype)
    alone = logits(tiny[name], tokens, *CUDA, *pages)
    for company, options in COMPANIES.items():
        assert logits(tiny[name], tokens, *CUDA, *pages, *options) == alone, company


@pytest.mark.parametrize("name", ["mixed"])
def test_rows_of_a_prefix_are_the_first_of_the_whole(logits, tiny, name):
    tokens = golden_tokens(name)
    whole = array_of(logits(tiny[name], tokens, *CUDA))
    for n in (1, 33, 64):
        prefix = array_of(logits(tiny[name], tokens[:n], *CUDA))
        assert prefix.tobytes() == whole[:n].tobytes(), n


def test_streams_beside_others_get_what_they_get_alone(server, stubs, tiny):
    pb, tokens = stubs.quire, golden_tokens("every_head")
    stub = server("--max-context", "256", *CUDA, model=tiny["every_head"]).stub()

    def start(i):
        request = pb.GenerateRequest(
            tokens=pb.TokenIds(ids=tokens[: 9 + 20 * i]), max_tokens=6 + i, ignore_eos=True,
            sampling=pb.Sampling(temperature=0.9, top_k=40, seed=i),
        )
        return stub.Generate(request, timeout=SECONDS)

    alone = [[token for event in start(i) for token in event.delta.tokens] for i in range(3)]
    calls = [start(i) for i in range(3)]
    together = [[token for event in call for token in event.delta.tokens] for call in calls]
    assert together == alone and all(len(ids) == 6 + i for i, ids in enumerate(alone))


# --- the whole program under sanitizers ---


@pytest.mark.parametrize("kind", ["asan", "tsan"])
def test_sanitizers_find_nothing_and_change_nothing(logits, tiny, kind):
    sanitized, name = cuda_build(f"build-cuda-emu-{kind}"), "mixed"
    options = (*CUDA, "--prefill-chunk", "33", "--beside", "2")
    tokens = golden_tokens(name)
    plain = logits(tiny[name], tokens, *options)
    assert logits(tiny[name], tokens, *options, quire=sanitized) == plain
    ran = subprocess.run(
        [str(word) for word in (sanitized, "generate", "--model", tiny[name], "--prompt", "Hello",
                                "--max-tokens", "6", "--ignore-eos", "--seed", "1", *CUDA,
                                "--max-context", "64")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
    )
    assert ran.returncode == 0 and "Sanitizer" not in ran.stderr, ran.stderr
