"""A seed gives its text again: alone, in a batch, and on each instruction set of the CPU."""

import concurrent.futures

import pytest

from conftest import ISA_FLAGS, need_isa

SECONDS = 120
PROMPT = "the tin of the"
SETTINGS = [
    {"temperature": 0},
    {"temperature": 1},
    {"temperature": 0.7, "top_k": 20},
    {"temperature": 1.3, "top_p": 0.9},
    {"temperature": 1, "min_p": 0.05},
    {"temperature": 1, "typical_p": 0.8},
    {"temperature": 1, "repetition_penalty": 1.3},
    {"temperature": 1, "frequency_penalty": 0.7, "presence_penalty": 0.4},
    {"temperature": 2, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1},
]


def text_of(stubs, server, i):
    pb = stubs.quire
    call = server.stub().Generate(
        pb.GenerateRequest(
            text=PROMPT, sampling=pb.Sampling(seed=1000 + i, **SETTINGS[i]), max_tokens=40,
            ignore_eos=True,
        ),
        timeout=SECONDS,
    )
    return "".join(event.delta.text for event in call)


@pytest.fixture(scope="module")
def texts_of(module_server, stubs, tiny):
    """texts_of(isa): the texts of all settings, asked together."""
    known = {}

    def ask(isa):
        if isa not in known:
            server = module_server("--isa", isa, model=tiny["mixed"])
            with concurrent.futures.ThreadPoolExecutor(len(SETTINGS)) as pool:
                known[isa] = list(
                    pool.map(lambda i: text_of(stubs, server, i), range(len(SETTINGS)))
                )
        return known[isa]

    return ask


def test_a_seed_gives_its_text_alone_and_beside_others(module_server, stubs, tiny, texts_of):
    server = module_server("--threads", 1, model=tiny["mixed"])
    alone = [text_of(stubs, server, i) for i in range(len(SETTINGS))]
    assert alone == texts_of("auto")
    assert len(set(alone)) == len(SETTINGS)  # each setting tells something of its own


@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_a_seed_gives_its_text_on_each_instruction_set(texts_of, isa):
    need_isa(isa)
    assert texts_of(isa) == texts_of("auto")


def test_another_seed_gives_another_text(module_server, stubs, tiny, texts_of):
    server = module_server(model=tiny["mixed"])
    pb = stubs.quire
    call = server.stub().Generate(
        pb.GenerateRequest(text=PROMPT, sampling=pb.Sampling(seed=7, **SETTINGS[1]),
                           max_tokens=40, ignore_eos=True),
        timeout=SECONDS,
    )
    assert "".join(event.delta.text for event in call) != texts_of("auto")[1]
