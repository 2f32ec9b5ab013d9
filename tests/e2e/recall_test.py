"""The recall model through the server: what stood once in a long context is continued to the id."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests" / "recall"))

import make_recall_model  # noqa: E402
import questions  # noqa: E402

LICENSES = pathlib.Path("/usr/share/common-licenses")
TEXTS = ("GPL-3", "MPL-1.1")  # some 13,000 tokens: a border of chunks inside
SECONDS = 300


@pytest.fixture(scope="module")
def recall_model(model):
    path = BUILD / "recall-4.gguf"
    make_recall_model.write_model(path, 4, model)
    return path


@pytest.fixture(scope="module")
def text_ids(quire, model):
    for name in TEXTS:
        if not (LICENSES / name).exists():
            pytest.skip(f"{LICENSES / name} is missing (package base-files)")
    text = b"\n".join((LICENSES / name).read_bytes() for name in TEXTS)
    said = subprocess.run([quire, "tokenize", "--model", model], input=text, capture_output=True,
                          check=True)
    return [int(word) for word in said.stdout.replace(b",", b" ").split()]


def answer(stubs, server, ids):
    pb = stubs.quire
    call = server.stub().Generate(
        pb.GenerateRequest(
            tokens=pb.TokenIds(ids=ids), sampling=pb.Sampling(temperature=0),
            max_tokens=questions.ANSWER, ignore_eos=True, content=pb.CONTENT_TOKENS,
        ),
        timeout=SECONDS,
    )
    return [token for event in call for token in event.delta.tokens]


def test_codes_of_two_ids_agree_in_half_at_most():
    codes = make_recall_model.codes_of(1 << 16)
    # The code is linear: the distance of two words is the weight of a third.
    assert np.count_nonzero(codes[1:] < 0, axis=1).min() == 8
    assert len(np.unique(codes, axis=0)) == 1 << 16


def test_questions_stand_clear_of_the_borders_and_once_in_the_text(text_ids):
    begins = questions.choose(text_ids, 8, seed=1)
    windows = [tuple(text_ids[i : i + 8]) for i in range(len(text_ids) - 7)]
    for begin in begins:
        assert begin % 8192 >= 16 and (begin + 48) % 8192 >= 16
        for i in range(begin, begin + 41):
            assert windows.count(windows[i]) == 1


@pytest.fixture(scope="module")
def server(module_server, recall_model):
    return module_server(model=recall_model)


def test_a_long_text_is_continued_where_a_question_stands_in_it(server, stubs, text_ids):
    for begin in questions.choose(text_ids, 2, seed=7):
        question, wanted = questions.question_at(text_ids, begin)
        assert answer(stubs, server, [*text_ids, *question]) == wanted


# --- faults ---

PAGE = 64
FAULT_TOKENS = 700


def is_common(text, at):
    """Whether the two tokens before `at` stand elsewhere too, before others: by less than all eight
    the place is not found."""
    pairs = zip(text, text[1:], text[2:])
    return len({last for *pair, last in pairs if pair == text[at - 2 : at]}) >= 4


@pytest.fixture(scope="module")
def with_faults(quire, recall_model, text_ids):
    """({fault: ids answered}, the right ones). Question and text end behind the begin of a page, so
    that the tokens which the last one looks back on stand in two."""
    end = FAULT_TOKENS - FAULT_TOKENS % PAGE + 1 - (questions.QUESTION - 1)
    text = text_ids[:end]
    begin = questions.choose(text[:-PAGE], 1, seed=5,
                             is_apt=lambda at: is_common(text, at + questions.QUESTION))[0]
    question, wanted = questions.question_at(text, begin)
    program = next(quire.parent.rglob("recall_faults"))
    words = [",".join(map(str, ids)) for ids in (text, question, text_ids[5000:5100])]
    said = subprocess.run([program, recall_model, str(begin + questions.QUESTION), *words],
                          capture_output=True, check=True, text=True, timeout=SECONDS)
    answers = dict(line.split(" ", 1) for line in said.stdout.splitlines())
    return {name: [int(id) for id in ids.split(",")] for name, ids in answers.items()}, wanted


@pytest.mark.parametrize("fault", ["dropped", "stale", "foreign", "swapped-local", "shifted"])
def test_pages_that_are_not_as_they_should_be_are_noticed(with_faults, fault):
    answers, wanted = with_faults
    assert answers["none"] == wanted
    assert answers[fault] != wanted


def test_the_layer_that_sees_a_set_does_not_notice_an_order(with_faults):
    answers, wanted = with_faults
    assert answers["swapped-global"] == wanted


def test_a_text_without_the_place_is_not_continued(server, stubs, text_ids):
    begin = questions.choose(text_ids, 2, seed=7)[1]
    question, wanted = questions.question_at(text_ids, begin)
    without = text_ids[: begin - 64] + text_ids[begin + 64 :]
    assert answer(stubs, server, [*without, *question]) != wanted
