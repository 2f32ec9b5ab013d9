"""What prompts share: the same bytes cold and warm, salts, prompts that come together."""

import concurrent.futures
import time

import grpc
import pytest

from client_runs import SECONDS

PROMPT = [(7 * i + i * i) % 250 + 4 for i in range(1000)]
WHOLE = 999 // 64 * 64  # whole pages before the last token


@pytest.fixture(scope="module")
def server(module_server, tiny):
    return module_server("--max-sequences", "16", model=tiny["q4_0"])


@pytest.fixture(scope="module")
def stub(server, stubs):
    """Of a server that knows its weights: nothing is shared before."""
    stub = server.stub()
    while not stub.GetModel(stubs.quire.GetModelRequest(), timeout=SECONDS).weights_sha256:
        time.sleep(0.01)
    return stub


class Answer:
    def __init__(self, stubs, stub, ids=PROMPT, max_tokens=20, **request):
        pb = stubs.quire
        self.events, self.bytes = [], b""
        asked = pb.GenerateRequest(
            tokens=pb.TokenIds(ids=ids),
            sampling=pb.Sampling(temperature=0.8, seed=5),
            max_tokens=max_tokens,
            ignore_eos=True,
            logprobs=3,
            **request,
        )
        for event in stub.Generate(asked, timeout=SECONDS):
            if event.HasField("accepted"):
                self.accepted = event.accepted
            if event.HasField("delta"):
                self.bytes += event.delta.SerializeToString(deterministic=True)
            if event.HasField("finished"):
                self.finished = event.finished
        self.matched = self.finished.cache.matched_tokens
        self.end = pb.CacheEnd.Name(self.finished.cache.end)


def computed(stubs, stub):
    stats = next(iter(stub.WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)))
    return stats.prompt_tokens


def test_a_warm_answer_is_the_same_bytes_and_tells_what_matched(stubs, stub):
    cold, warm = (Answer(stubs, stub, cache_salt="warm") for _ in range(2))
    assert cold.matched == cold.accepted.cached_tokens == 0
    assert cold.end == "CACHE_END_ABSENT"
    assert warm.matched == warm.accepted.cached_tokens == WHOLE
    assert warm.end == "CACHE_END_WHOLE"
    assert warm.bytes == cold.bytes

    other = Answer(stubs, stub, PROMPT[:500] + PROMPT[1:501], cache_salt="warm")
    assert other.matched == 500 // 64 * 64 and other.end == "CACHE_END_DIVERGED"


def test_a_foreign_salt_computes_as_much_as_a_cold_prompt(stubs, stub):
    Answer(stubs, stub, cache_salt="mine")
    counts, answers = [computed(stubs, stub)], []
    for salt in ("theirs", "mine", ""):
        answers.append(Answer(stubs, stub, cache_salt=salt))
        counts.append(computed(stubs, stub))
    assert [after - before for before, after in zip(counts, counts[1:])] == [
        1000,
        1000 - WHOLE,
        1000,
    ]
    assert answers[0].bytes == answers[1].bytes == answers[2].bytes
    with pytest.raises(grpc.RpcError) as refused:
        Answer(stubs, stub, cache_salt="x" * 129)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "129 bytes; it takes 128" in refused.value.details()


def test_prompts_that_come_together_are_computed_once(stubs, stub):
    before = computed(stubs, stub)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: Answer(stubs, stub, cache_salt="together"), range(6))
        )
    assert {answer.bytes for answer in answers} == {answers[0].bytes}
    assert sorted(answer.matched for answer in answers) == [0] + 5 * [WHOLE]
    assert computed(stubs, stub) - before == 1000 + 5 * (1000 - WHOLE)


def test_who_waits_for_a_prompt_that_is_cancelled_computes_it(stubs, stub):
    pb = stubs.quire
    asked = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=PROMPT), max_tokens=5, cache_salt="cancelled"
    )
    first = stub.Generate(asked, timeout=SECONDS)
    assert next(first).HasField("accepted")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        second = pool.submit(Answer, stubs, stub, cache_salt="cancelled")
        first.cancel()
        assert second.result().bytes == Answer(stubs, stub, cache_salt="another").bytes
