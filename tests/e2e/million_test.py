"""bench/million: a small text in the gate; with --long the whole of it, in each form of pages."""

import pathlib
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT

TEXT = pathlib.Path("/usr/share/common-licenses/GPL-3")


def million(*options):
    """The figures, of a run whose answers are all right."""
    command = [ROOT / "bench" / "million", *options]
    ran = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True)
    print(ran.stderr, ran.stdout, sep="")  # scripts/test --long keeps it
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return ran.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module", autouse=True)
def recall_model(quire, model):
    """build/recall-4.gguf, and the program that the bench asks: this build's."""
    if quire != BUILD / "quire":
        pytest.skip("bench/million asks build/quire")


def test_a_small_text_is_answered_to_the_id():
    figures = million("--text", TEXT, "--tokens", 2000, "--questions", 2, "--seed", 3)
    assert "2 of 2 right, the first one cold and warm alike" in figures


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["f16"])
def test_a_million_tokens_are_answered_to_the_id(dtype):
    if shutil.which("bible") is None:
        pytest.skip("bible is missing: scripts/setup --tests")
    figures = million("--kv-dtype", dtype)
    assert "20 of 20 right, the first one cold and warm alike" in figures
    assert "1,207,908 tokens" in figures
    assert "(within 64 MiB)" in figures
