"""`quire logits` against the goldens, and law 2: a row is the same bytes whatever stands beside
it."""

import io
import re
import subprocess

import numpy as np
import pytest

import make_tiny_models
import real_model
from conftest import BUILD, ISA_FLAGS, ROOT, need_isa
from reference import negative_log_likelihoods

# Tensor types are all multiplied under llama: of the other architectures two forms will do.
EXACT = ("--activations", "f32", "--kv-dtype", "f32")
FORMS = {
    "default": (),
    "exact": EXACT,
    "f32 pages": ("--kv-dtype", "f32"),
    "int8": ("--activations", "int8"),
}
TINY_FORMS = [
    (plan.name, form)
    for plan in make_tiny_models.PLANS
    for form in FORMS
    if plan.arch == "llama" or form in ("default", "exact")
]
TOLERANCES = {
    "exact": (2e-3, 2e-3),
    "f32 pages": (2e-2, 2e-3),
    "default": (0.1, 8e-3),
    "int8": (3.0, 0.5),
}
SECONDS = 300


@pytest.fixture
def run(quire, tmp_path):
    """run(model, tokens, *options) returns the bytes of the .npy that `quire logits` leaves."""

    def call(model, tokens, *options, rows="all"):
        ids, out = tmp_path / "ids.txt", tmp_path / "out.npy"
        ids.write_text(",".join(str(int(token)) for token in tokens) + "\n")
        out.unlink(missing_ok=True)
        done = subprocess.run(
            [
                quire,
                "logits",
                "--model",
                model,
                "--tokens",
                f"@{ids}",
                "--output",
                out,
                "--rows",
                rows,
                *options,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return out.read_bytes()

    return call


def array_of(raw):
    return np.load(io.BytesIO(raw), allow_pickle=False)


def errors(ours, golden):
    difference = ours.astype(np.float64) - golden
    return np.abs(difference).max(), np.sqrt(np.mean(difference**2))


def tiny_golden(name):
    with np.load(ROOT / "tests" / "golden" / "tiny" / f"{name}.npz") as golden:
        return golden["tokens"], golden["rows"], golden["logits"].astype(np.float64)


# --- right results ---


@pytest.mark.parametrize("name, form", TINY_FORMS)
def test_a_tiny_model_gives_what_llama_cpp_gives_on_its_dequantised_copy(run, tiny, name, form):
    max_most, rms_most = TOLERANCES[form]
    tokens, rows, golden = tiny_golden(name)
    logits = array_of(run(tiny[name], tokens, *FORMS[form]))
    assert logits.dtype == np.float32 and logits.shape == (
        len(tokens),
        make_tiny_models.N_VOCABULARY,
    )
    worst, rms = errors(logits[rows], golden)
    print(f"{name}, {form}: max {worst:.2e}, rms {rms:.2e}")
    assert worst <= max_most and rms <= rms_most


def test_a_deepseek_file_of_either_shape_is_the_same_model(run, tiny):
    """attn_kv_b is absorbed when it is loaded: of F32 nothing is rounded again."""
    tokens, _, _ = tiny_golden("deepseek2_v2")
    for form in "default", "exact":
        joined = run(tiny["deepseek2_v2"], tokens, *FORMS[form])
        assert run(tiny["deepseek2_v2_absorbed"], tokens, *FORMS[form]) == joined


def test_biases_that_stand_apart_from_a_fused_matrix_are_added(run, tiny):
    tokens, _, _ = tiny_golden("fused")
    assert run(tiny["fused_weights"], tokens) == run(tiny["fused"], tokens)


# One row: its rms is up to 3.4e-3 with f32 pages, where that of 512 rows is 1.2e-3.
@pytest.mark.parametrize(
    "form, max_most, rms_most",
    [("exact", 2e-3, 2e-3), ("f32 pages", 2e-2, 5e-3), ("default", 0.1, 8e-3)],
)
@pytest.mark.parametrize("prompt", list(real_model.PROMPTS))
def test_the_real_model_gives_the_last_row_of_a_prompt(
    run, model, prompt, form, max_most, rms_most
):
    logits = array_of(run(model, real_model.PROMPTS[prompt], *FORMS[form], rows="last"))
    golden = real_model.prompt_logits()[prompt].astype(np.float64)
    assert logits.shape == (1, len(golden))
    worst, rms = errors(logits[0], golden)
    print(f"{prompt}, {form}: max {worst:.2e}, rms {rms:.2e}")
    assert worst <= max_most and rms <= rms_most
    assert logits[0].argmax() == golden.argmax()


@pytest.mark.parametrize(
    "form, max_most, rms_most, nll_most",
    [("exact", 2e-3, 2e-3, 1e-4), ("f32 pages", 2e-2, 2e-3, 1e-3), ("default", 0.1, 8e-3, 2e-3)],
)
def test_the_real_model_gives_the_512_rows_of_the_gpl(
    run, model, form, max_most, rms_most, nll_most
):
    tokens = real_model.gpl3_tokens()
    golden = np.asarray(real_model.gpl3_logits(model, BUILD / "golden"), dtype=np.float64)
    logits = array_of(run(model, tokens, *FORMS[form]))
    worst, rms = errors(logits, golden)
    loss = negative_log_likelihoods(logits.astype(np.float64), tokens).mean()
    print(
        f"512 rows, {form}: max {worst:.2e}, rms {rms:.2e}, mean negative log-likelihood {loss:.7f}"
    )
    assert worst <= max_most and rms <= rms_most
    assert abs(loss - real_model.GPL3_MEAN_NLL) <= nll_most
    best_two = np.sort(golden, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 0.2
    assert clear.sum() > 400
    assert (logits.argmax(axis=1) == golden.argmax(axis=1))[clear].all()


@pytest.mark.parametrize("form", ["default", "exact"])
def test_llama4_sees_its_chunk_of_8192_and_the_next_begins_anew(run, tiny, form):
    max_most, rms_most = TOLERANCES[form]
    tokens, rows, golden = tiny_golden("llama4_long")
    raw = run(tiny["llama4_long"], tokens, *FORMS[form])
    worst, rms = errors(array_of(raw)[rows], golden)
    print(f"llama4_long, {form}: max {worst:.2e}, rms {rms:.2e}")
    assert worst <= max_most and rms <= rms_most
    if form == "default":
        others = ("--prefill-chunk", "509", "--beside", "3", "--threads", "1")
        assert run(tiny["llama4_long"], tokens, *others) == raw


# In the last layer rows without logits have keys and values made alone.
@pytest.mark.parametrize("name", [plan.name for plan in make_tiny_models.PLANS])
def test_the_last_row_alone_is_the_last_of_all_rows(run, tiny, name):
    tokens, _, _ = tiny_golden(name)
    row = array_of(run(tiny[name], tokens))[-1:].tobytes()
    company = ("--prefill-chunk", "90", "--beside", "3")
    for options in (), company, (*company, "--no-last-layer-saving"):
        assert array_of(run(tiny[name], tokens, *options, rows="last")).tobytes() == row


# --- law 2 ---

COMPANIES = {
    "chunk 1": ("--prefill-chunk", "1"),
    "chunk 7": ("--prefill-chunk", "7"),
    "chunk 64": ("--prefill-chunk", "64"),
    "chunk 512": ("--prefill-chunk", "512"),
    "one thread": ("--threads", "1"),
    "one thread, chunk 7": ("--threads", "1", "--prefill-chunk", "7"),
    "beside seven": ("--beside", "7"),
    "beside seven, chunk 7": ("--beside", "7", "--prefill-chunk", "7"),
    "beside seven, chunk 64, one thread": (
        "--beside",
        "7",
        "--prefill-chunk",
        "64",
        "--threads",
        "1",
    ),
}

# Of models of every kind, and of forms seldom asked for; e2e.families has others for each family.
SOME = ("chunk 1", "one thread, chunk 7", "beside seven, chunk 7", "beside seven, chunk 64, one thread")
FEW = SOME[1::2]
N_SOME_TOKENS, N_FEW_TOKENS = 300, 200  # of the real model, where a row costs most
N_ISA_TOKENS = 140  # beyond two pages: the scalar form takes its time


@pytest.mark.parametrize("name, form", TINY_FORMS)
def test_rows_of_a_tiny_model_do_not_depend_on_their_company(run, tiny, name, form):
    tokens, _, _ = tiny_golden(name)
    alone = run(tiny[name], tokens, "--threads", "2", *FORMS[form])
    for company in SOME if form == "default" else FEW:
        options = COMPANIES[company]
        if "--threads" not in options:
            options += ("--threads", "2")
        assert run(tiny[name], tokens, *options, *FORMS[form]) == alone, company


# A query sees its own page as written and every earlier one packed, in one chunk and in many: of
# layers that see everything, a chunk, a window, and of latent ones.
PACKED = [
    ("qwen3", "q8"),
    ("qwen2", "bf16"),
    ("llama4", "global=q4,local=q8"),
    ("llama4", "global=f16,local=q4"),
    ("sliding", "q8"),
    ("deepseek2_lite", "q4"),
]


@pytest.mark.parametrize("name, kv_dtype", PACKED)
def test_rows_with_packed_pages_do_not_depend_on_their_company(run, tiny, name, kv_dtype):
    tokens, pages = tiny_golden(name)[0], ("--kv-dtype", kv_dtype)
    alone = run(tiny[name], tokens, "--threads", "2", *pages)
    assert alone != run(tiny[name], tokens, "--threads", "2")
    for company in SOME:
        assert run(tiny[name], tokens, *COMPANIES[company], *pages) == alone, company
    for isa in "scalar", "avx2":
        if isa in ISA_FLAGS:
            need_isa(isa)
        assert run(tiny[name], tokens, "--isa", isa, *pages) == alone, isa


@pytest.mark.parametrize("form", list(FORMS))
def test_rows_of_the_real_model_do_not_depend_on_their_company(run, model, form):
    tokens = real_model.gpl3_tokens()[: N_SOME_TOKENS if form == "default" else N_FEW_TOKENS]
    alone = run(model, tokens, "--threads", "2", *FORMS[form])
    for company in COMPANIES if form == "default" else FEW:
        options = COMPANIES[company]
        if "--threads" not in options:
            options += ("--threads", "2")
        assert run(model, tokens, *options, *FORMS[form]) == alone, company


@pytest.mark.parametrize("name, form", TINY_FORMS)
def test_instruction_sets_give_a_tiny_model_the_bytes_of_the_scalar_form(run, tiny, name, form):
    need_isa("avx2")
    tokens = tiny_golden(name)[0][:N_ISA_TOKENS]
    scalar = run(tiny[name], tokens, "--isa", "scalar", *FORMS[form])
    assert run(tiny[name], tokens, "--isa", "avx2", *FORMS[form]) == scalar
    need_isa("avx512")
    assert run(tiny[name], tokens, "--isa", "avx512", *FORMS[form]) == scalar


@pytest.mark.parametrize("form", list(FORMS))
def test_avx2_gives_the_real_model_the_bytes_of_the_scalar_form(run, model, form):
    need_isa("avx2")
    tokens = real_model.gpl3_tokens()[:4]
    scalar = run(model, tokens, "--isa", "scalar", *FORMS[form])
    assert run(model, tokens, "--isa", "avx2", *FORMS[form]) == scalar


@pytest.mark.parametrize("form", list(FORMS))
def test_avx2_gives_the_real_model_the_bytes_of_avx512(run, model, form):
    need_isa("avx2")
    need_isa("avx512")
    tokens = real_model.gpl3_tokens()[: None if form == "default" else N_FEW_TOKENS]
    avx2 = run(model, tokens, "--isa", "avx2", *FORMS[form])
    assert run(model, tokens, "--isa", "avx512", *FORMS[form]) == avx2


# --- where the rows go, and what is refused ---


def test_output_may_be_a_pipe_or_nothing(quire, tiny):
    command = [quire, "logits", "--model", tiny["q8_0"], "--tokens", "5,6,7", "--output"]
    piped = subprocess.run(
        [*command, "/dev/stdout"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=SECONDS
    )
    assert piped.returncode == 0
    assert array_of(piped.stdout).shape == (1, make_tiny_models.N_VOCABULARY)
    assert (
        subprocess.run(
            [*command, "/dev/null"], stdin=subprocess.DEVNULL, timeout=SECONDS
        ).returncode
        == 0
    )


@pytest.mark.parametrize(
    "status, words, replaced",
    [
        (2, "--model", {"--model": None}),
        (2, "--tokens", {"--tokens": None}),
        (2, "--output", {"--output": None}),
        (2, "--tokens", {"--tokens": ""}),
        (2, "--tokens", {"--tokens": "1,two,3"}),
        (2, "--tokens", {"--tokens": "1,-2"}),
        (2, "--rows", {"--rows": "middle"}),
        (2, "--isa", {"--isa": "mmx"}),
        (2, "--kv-dtype", {"--kv-dtype": "q2"}),
        (2, "--activations", {"--activations": "3"}),
        (2, "--prefill-chunk", {"--prefill-chunk": "0"}),
        (2, "--prefill-chunk", {"--prefill-chunk": "many"}),
        (2, "--threads", {"--threads": "-1"}),
        (2, "--beside", {"--beside": "x"}),
        (2, "--colour", {"--colour": "red"}),
        (1, "absent.gguf", {"--model": "absent.gguf"}),
        (1, "absent.txt", {"--tokens": "@absent.txt"}),
        (1, "300", {"--tokens": "1,300"}),
        (1, "2048|2,048", {"--tokens": ",".join(["7"] * 2049)}),
        (1, "absent/out.npy", {"--output": "absent/out.npy"}),
        (1, "No space left|/dev/full", {"--output": "/dev/full"}),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(quire, tiny, tmp_path, status, words, replaced):
    options = {
        "--model": tiny["q8_0"],
        "--tokens": "1,2,3",
        "--output": tmp_path / "out.npy",
        **replaced,
    }
    words_given = [word for pair in options.items() if pair[1] is not None for word in pair]
    done = subprocess.run(
        [quire, "logits", *words_given],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=SECONDS,
    )
    assert done.returncode == status, done.stderr
    assert re.search(words, done.stderr), done.stderr


@pytest.mark.parametrize("isa", list(ISA_FLAGS))
def test_an_instruction_set_that_is_there_is_taken(quire, tiny, isa):
    need_isa(isa)
    done = subprocess.run(
        [
            quire,
            "logits",
            "--model",
            tiny["f16"],
            "--tokens",
            "1,2,3",
            "--output",
            "/dev/null",
            "--isa",
            isa,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
