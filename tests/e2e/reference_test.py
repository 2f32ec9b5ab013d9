"""The yardsticks themselves: the double-precision reference against published figures and against
llama.cpp."""

import numpy as np
import pytest

import make_tiny_models
import real_model
from conftest import BUILD, ROOT
from reference import Reference, log_sum_exp, negative_log_likelihoods

TINY_GOLDENS = ROOT / "tests" / "golden" / "tiny"


WITH_GOLDENS = make_tiny_models.PLANS + make_tiny_models.LONG_PLANS


@pytest.mark.parametrize("name", [plan.name for plan in WITH_GOLDENS])
def test_a_tiny_model_is_to_the_byte_the_one_that_llama_cpp_ran(tiny, name):
    with np.load(TINY_GOLDENS / f"{name}.npz") as golden:
        assert make_tiny_models.sha256_of(tiny[name]) == str(
            golden["sha256"]
        ), "make_tiny_models.py changed: run tests/golden/record_llama_cpp.py"


@pytest.mark.parametrize("name", [plan.name for plan in make_tiny_models.PLANS])
def test_the_reference_agrees_with_llama_cpp_on_a_dequantised_tiny_model(tiny, name):
    with np.load(TINY_GOLDENS / f"{name}.npz") as golden:
        ours = Reference(tiny[name]).logits(golden["tokens"], golden["rows"])
        assert np.abs(ours - golden["logits"]).max() <= 2e-3


@pytest.mark.parametrize("name", list(real_model.PROMPTS))
def test_the_committed_rows_agree_with_the_published_figures(name):
    logits = real_model.prompt_logits()[name].astype(np.float64)
    top = np.argsort(-logits, kind="stable")[:5]
    assert list(top) == [token for token, _ in real_model.TOP_FIVE[name]]
    assert np.abs(logits[top] - [value for _, value in real_model.TOP_FIVE[name]]).max() <= 1e-4
    assert (
        np.abs(
            np.array([logits.mean(), logits.std(), log_sum_exp(logits)]) - real_model.MOMENTS[name]
        ).max()
        <= 1e-4
    )


def test_the_committed_rows_are_what_the_reference_gives(model):
    tokens = real_model.PROMPTS["P1"]
    ours = Reference(model).logits(tokens, [len(tokens) - 1])[0].astype(np.float32)
    assert np.abs(ours - real_model.prompt_logits()["P1"]).max() <= 1e-5


def test_the_512_rows_give_the_published_likelihoods(model):
    logits = np.asarray(real_model.gpl3_logits(model, BUILD / "golden"), dtype=np.float64)
    losses = negative_log_likelihoods(logits, real_model.gpl3_tokens())
    assert abs(losses.mean() - real_model.GPL3_MEAN_NLL) <= 1e-6
    assert np.abs(losses[:5] - real_model.GPL3_FIRST_NLL).max() <= 1e-4
    assert abs(losses[-1] - real_model.GPL3_LAST_NLL) <= 1e-4
