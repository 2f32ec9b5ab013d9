"""Every tensor type, and the mixes of published files: `quire logits` against doubles over the
dequantised file; the same bytes on every instruction set and from small chunks; and what names
them."""

import io
import json
import subprocess

import gguf
import numpy as np
import pytest

import gguf_tensors
import make_tiny_models
from conftest import need_isa
from reference import Reference

PLANS = {plan.name: plan for plan in make_tiny_models.TYPE_PLANS}
FORMS = {
    "default": ((), 0.1, 8e-3),
    "exact": (("--activations", "f32", "--kv-dtype", "f32"), 2e-3, 2e-3),
    "int8": (("--activations", "int8"), 3.0, 0.5),
}
N_TOKENS = 75  # beyond a page of 64
SECONDS = 120


def tokens_of(name):
    rng = np.random.Generator(np.random.PCG64(sum(name.encode())))
    return rng.integers(0, make_tiny_models.N_VOCABULARY, size=N_TOKENS)


@pytest.fixture(scope="session")
def golden(tiny):
    kept = {}

    def call(name):
        if name not in kept:
            kept[name] = Reference(tiny[name]).logits(tokens_of(name))
        return kept[name]

    return call


@pytest.fixture
def logits(quire, tiny, tmp_path):
    def call(name, *options):
        out = tmp_path / "out.npy"
        words = ["--tokens", ",".join(str(token) for token in tokens_of(name)), "--rows", "all"]
        done = subprocess.run(
            [quire, "logits", "--model", tiny[name], *words, "--output", out, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return out.read_bytes()

    return call


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("name", list(PLANS))
def test_a_type_gives_what_doubles_give_over_the_dequantised_file(logits, golden, name, form):
    options, max_most, rms_most = FORMS[form]
    ours = np.load(io.BytesIO(logits(name, *options)), allow_pickle=False).astype(np.float64)
    difference = ours - golden(name)
    worst, rms = np.abs(difference).max(), np.sqrt(np.mean(difference**2))
    print(f"{name}, {form}: max {worst:.2e}, rms {rms:.2e}")
    assert worst <= max_most and rms <= rms_most


@pytest.mark.parametrize("form", ["default", "exact"])
@pytest.mark.parametrize("name", list(PLANS))
def test_a_type_gives_the_same_bytes_on_every_instruction_set_and_from_small_chunks(
    logits, name, form
):
    options = FORMS[form][0]
    want = logits(name, *options)
    for isa in ("scalar", "avx2", "avx512"):
        if isa != "scalar":
            need_isa(isa)
        assert logits(name, "--isa", isa, *options) == want, isa
    assert logits(name, "--prefill-chunk", "7", *options) == want


@pytest.mark.parametrize("kind", list(gguf_tensors.BLOCK_FORMS))
def test_the_reference_reads_blocks_as_the_gguf_package_does(kind):
    block_bytes, form = gguf_tensors.BLOCK_FORMS[kind]
    raw = np.random.default_rng(3).integers(0, 256, size=(50, block_bytes), dtype=np.uint8)
    places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "MXFP4": ()}
    for at in places.get(kind, (0, 2)):
        raw[:, at + 1] &= 0x3F  # halves that are finite
    want = gguf.quants.dequantize(raw.reshape(1, -1), gguf.GGMLQuantizationType[kind])
    assert np.array_equal(form(raw).reshape(-1), want.reshape(-1))


def test_inspect_names_the_types_of_a_mixed_file(quire, tiny):
    done = subprocess.run(
        [quire, "inspect", "--json", tiny["q3_k_m"]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    types = {entry["type"]: entry for entry in json.loads(done.stdout)["tensor_types"]}
    assert set(types) == {"F32", "Q2_K", "Q3_K", "Q4_K", "Q5_K"}
    assert all(entry["is_read"] for entry in types.values())


def test_a_type_that_is_not_read_is_refused_by_the_tensors_name(quire, tmp_path):
    plan = make_tiny_models.Plan("iq", gguf.GGMLQuantizationType.Q8_0, d=256, heads=4, kv_heads=1,
                                 head_dim=64, ff=512)
    tensors = list(make_tiny_models.tensors_of(plan))
    at = next(i for i, tensor in enumerate(tensors) if tensor[0] == "blk.1.ffn_down.weight")
    kind = gguf.GGMLQuantizationType.IQ2_XXS
    row_bytes = 512 // 256 * gguf.GGML_QUANT_SIZES[kind][1]
    tensors[at] = (tensors[at][0], np.zeros((256, row_bytes), dtype=np.uint8), kind)
    path = tmp_path / "iq.gguf"
    make_tiny_models.write_model(plan, path, tensors)
    done = subprocess.run(
        [quire, "logits", "--model", path, "--tokens", "1", "--output", "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert "blk.1.ffn_down.weight is IQ2_XXS" in done.stderr and "Q4_K" in done.stderr
