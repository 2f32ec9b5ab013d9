"""Broken model files: refused at once, for the right reason, in words, and without a crash."""

import concurrent.futures
import os
import re
import struct
import subprocess

import pytest

import bad_gguf

SECONDS = (
    60  # for one refusal by a sanitized build on a busy machine; a hang is what it is there to find
)


@pytest.fixture(scope="module")
def corpus(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return bad_gguf.make_all(tiny["q4_1"], folder) + bad_gguf.make_sets(tiny["split"], folder)


def fault_of(command, words, may_describe):
    """What is wrong with how the command met a broken file, or None."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"still runs after {SECONDS} s"
    if may_describe and done.returncode == 0:
        said = done.stdout
        if "unsupported" not in said.lower():
            return f"ended 0 and calls nothing unsupported:\n{said}"
    elif done.returncode != 1:
        return f"ended with {done.returncode} instead of 1:\n{done.stderr}"
    else:
        said = done.stderr
    if re.search(r"Sanitizer|runtime error|Assertion", done.stderr):
        return f"tripped a check:\n{done.stderr}"
    if not re.search(r"\w+ \w+ \w+", said):
        return f"no sentence says why: {said!r}"
    if words and not any(word.lower() in said.lower() for word in words):
        return f"refused, but without any of {' | '.join(words)}:\n{said}"
    return None


def faults_of(corpus, command, may_describe=lambda path: False):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = pool.map(
            lambda entry: fault_of(command(entry[0]), entry[1], may_describe(entry[0])), corpus
        )
        return {path.stem: fault for (path, _), fault in zip(corpus, faults) if fault}


def report(faults):
    return "\n".join(f"{name}: {fault}" for name, fault in sorted(faults.items()))


def test_serve_refuses_every_broken_file(quire, corpus):
    faults = faults_of(
        corpus, lambda path: [quire, "serve", "--model", path, "--listen", "127.0.0.1:0"]
    )
    assert not faults, report(faults)


def test_weights_that_are_no_numbers_are_told_for_what_they_are(quire, tiny, tmp_path):
    broken = bad_gguf.File(tiny["q4_1"].read_bytes())
    norm = broken.tensor("output_norm.weight")
    norm.data = struct.pack("<f", float("nan")) * (len(norm.data) // 4)
    path = tmp_path / "nan.gguf"
    path.write_bytes(broken.bytes())
    fault = fault_of(
        [quire, "serve", "--model", path, "--listen", "127.0.0.1:0"], ("nan.gguf gives",), False
    )
    assert fault is None, fault


def test_inspect_refuses_or_names_what_is_unsupported(quire, corpus):
    """A file whose container is sound may be described; then what cannot be run has to be named."""
    unsound = re.compile(
        "truncated|magic|version|_keys|_tensors|^key_|^value|^array|^string|^alignment|empty|"
        "text_file|"
        "tensor_(stands|name|without|of_five|of_a_zero|whose|longer)|row_is|^offset|overlap|^set_"
    )
    faults = faults_of(
        corpus, lambda path: [quire, "inspect", path], lambda path: not unsound.search(path.stem)
    )
    assert not faults, report(faults)


def test_the_file_that_the_corpus_was_made_of_is_sound(quire, tiny):
    done = subprocess.run(
        [quire, "inspect", tiny["q4_1"]], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "llama" in done.stdout
