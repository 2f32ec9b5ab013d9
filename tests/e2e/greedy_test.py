"""The golden greedy answers of the real model, token for token, through the server."""

import pytest

import real_model

SECONDS = 120
END_TOKEN = 2
MAX_TOKENS = 48
PAGES = ["f16", "f32"]


@pytest.fixture(scope="module")
def servers(module_server):
    started = {}

    def of(kv_dtype):
        if kv_dtype not in started:
            # f16 is the default: the server is started without the option.
            started[kv_dtype] = module_server(
                *(() if kv_dtype == "f16" else ("--kv-dtype", kv_dtype))
            )
        return started[kv_dtype]

    return of


def generate(server, stubs, **prompt):
    """(ids, text, finished event) of a greedy generation."""
    pb = stubs.quire
    request = pb.GenerateRequest(
        sampling=pb.Sampling(temperature=0), max_tokens=MAX_TOKENS, **prompt
    )
    ids, text, finished = [], "", None
    for event in server.stub().Generate(request, timeout=SECONDS):
        assert finished is None, "an event after the last one"
        if event.HasField("delta"):
            ids += event.delta.tokens
            text += event.delta.text
        elif event.HasField("finished"):
            finished = event.finished
    assert finished is not None, "the stream ended without its last event"
    return ids, text, finished


def check(name, stubs, ids, text, finished):
    golden = real_model.GREEDY[name]
    ended = golden[-1] == END_TOKEN
    shown = golden[:-1] if ended else golden
    assert (ids[:-1] if ids and ids[-1] == END_TOKEN else ids) == shown
    assert finished.usage.completion_tokens == len(golden)
    assert finished.usage.prompt_tokens == len(real_model.PROMPTS[name])
    reason = stubs.quire.FINISH_REASON_STOP if ended else stubs.quire.FINISH_REASON_LENGTH
    assert finished.reason == reason
    if name in real_model.ANSWERS:
        assert text == real_model.ANSWERS[name]


@pytest.mark.parametrize("kv_dtype", PAGES)
@pytest.mark.parametrize("name", list(real_model.PROMPTS))
def test_ids_as_prompt_give_the_golden_ids(servers, stubs, name, kv_dtype):
    prompt = stubs.quire.TokenIds(ids=real_model.PROMPTS[name])
    check(name, stubs, *generate(servers(kv_dtype), stubs, tokens=prompt))


@pytest.mark.parametrize("kv_dtype", PAGES)
@pytest.mark.parametrize("name", ["P1", "P3"])
def test_raw_text_as_prompt_gives_the_golden_ids(servers, stubs, name, kv_dtype):
    check(name, stubs, *generate(servers(kv_dtype), stubs, text=real_model.TEXTS[name]))


@pytest.mark.parametrize("kv_dtype", PAGES)
def test_a_chat_gives_the_golden_ids(servers, stubs, kv_dtype):
    chat = stubs.quire.Chat(
        messages=[stubs.quire.Message(role="user", content=real_model.TEXTS["P2"])]
    )
    check("P2", stubs, *generate(servers(kv_dtype), stubs, chat=chat))


def test_a_strict_device_gives_the_golden_ids(module_server, stubs):
    """Memory of the device is unreadable outside of operations: nothing above them leans on it."""
    server = module_server("--strict-device")
    prompt = stubs.quire.TokenIds(ids=real_model.PROMPTS["P2"])
    check("P2", stubs, *generate(server, stubs, tokens=prompt))
