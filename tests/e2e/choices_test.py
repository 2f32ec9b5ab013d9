"""n and best_of: several answers to one prompt, over the wire and by every client of ours."""

import time

import grpc
import pytest

from backpressure_test import RawReader, no_reader_is_left
from client_runs import SECONDS, run

PROMPT = [(7 * i) % 250 + 4 for i in range(150)]


@pytest.fixture(scope="module")
def server(module_server, tiny):
    return module_server("--max-sequences", "16", model=tiny["q4_0"])


@pytest.fixture(scope="module")
def stub(server):
    return server.stub()


class Answers:
    def __init__(self, stubs, stub, **request):
        pb = stubs.quire
        sampling = pb.Sampling(temperature=1.5, seed=11)
        asked = {"sampling": sampling, "max_tokens": 20, "ignore_eos": True, **request}
        self.ids, self.texts, self.ends = {}, {}, []
        call = stub.Generate(
            pb.GenerateRequest(tokens=pb.TokenIds(ids=PROMPT), **asked), timeout=SECONDS
        )
        for event in call:
            if event.HasField("accepted"):
                self.accepted = event.accepted
            if event.HasField("delta"):
                choice = event.delta.choice
                self.ids.setdefault(choice, []).extend(event.delta.tokens)
                self.texts[choice] = self.texts.get(choice, "") + event.delta.text
            if event.HasField("finished"):
                self.ends.append(event.finished)
        self.trailing = dict(call.trailing_metadata())
        self.last = self.ends[-1]


def pages_in_use(stubs, stub):
    stats = next(iter(stub.WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)))
    return stats.pages_used + stats.pages_reserved


def wait_until_no_page_is_used(stubs, stub):
    until = time.monotonic() + SECONDS
    while pages_in_use(stubs, stub) > 0:
        assert time.monotonic() < until, "pages are held"
        time.sleep(0.02)


def test_choice_0_is_what_one_answer_is_and_the_others_differ(stubs, stub):
    one, four = Answers(stubs, stub), Answers(stubs, stub, n=4)
    assert one.accepted.choices == 1 and four.accepted.choices == 4
    assert four.ids[0] == one.ids[0] and four.texts[0] == one.texts[0]
    assert len({tuple(ids) for ids in four.ids.values()}) == 4
    assert Answers(stubs, stub, n=2).ids[1] == four.ids[1]
    assert sorted(end.choice for end in four.ends) == [0, 1, 2, 3]
    wait_until_no_page_is_used(stubs, stub)


def test_usage_counts_the_prompt_once_and_all_answers(stubs, stub):
    three = Answers(stubs, stub, n=3)
    assert [end.HasField("usage") for end in three.ends] == [False, False, True]
    assert three.last.usage.prompt_tokens == len(PROMPT)
    assert three.last.usage.completion_tokens == 3 * 20
    assert three.trailing["quire-prompt-tokens"] == str(len(PROMPT))
    assert three.trailing["quire-completion-tokens"] == "60"


def test_best_of_gives_those_with_the_highest_mean_logprob(stubs, stub):
    every = Answers(stubs, stub, n=5, logprobs=0)
    best = Answers(stubs, stub, n=2, best_of=5)
    pb = stubs.quire
    request = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=PROMPT), sampling=pb.Sampling(temperature=1.5, seed=11),
        max_tokens=20, ignore_eos=True, n=5, logprobs=0,
    )
    sums = {}
    for event in stub.Generate(request, timeout=SECONDS):
        for token in event.delta.logprobs:
            sums[event.delta.choice] = sums.get(event.delta.choice, 0.0) + token.logprob
    order = sorted(sums, key=lambda choice: -sums[choice])
    assert [best.ids[0], best.ids[1]] == [every.ids[order[0]], every.ids[order[1]]]
    assert [end.choice for end in best.ends] == [0, 1]
    for end, choice in zip(best.ends, order):
        assert end.mean_logprob == pytest.approx(sums[choice] / 20, rel=1e-5)
    assert best.last.usage.completion_tokens == 5 * 20
    wait_until_no_page_is_used(stubs, stub)


@pytest.mark.parametrize("fields, told", [
    ({"n": 0}, "n is 0; it takes 1 to 16"),
    ({"n": 17}, "n is 17; it takes 1 to 16"),
    ({"n": 3, "best_of": 2, "max_tokens": 5}, "best_of is 2; it takes 3 to 16"),
    ({"best_of": 2}, "give max_tokens"),
])
def test_what_makes_no_sense_is_refused(stubs, stub, fields, told):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Generate(stubs.quire.GenerateRequest(text="x", **fields), timeout=SECONDS))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert told in caught.value.details()


def test_a_call_that_is_cancelled_gives_all_pages_back(stubs, stub):
    pb = stubs.quire
    for n_read in (0, 1, 9):
        call = stub.Generate(
            pb.GenerateRequest(tokens=pb.TokenIds(ids=PROMPT), n=6, ignore_eos=True),
            timeout=SECONDS,
        )
        for _ in range(n_read):
            next(call)
        call.cancel()
        wait_until_no_page_is_used(stubs, stub)


def test_a_reader_that_takes_nothing_pauses_all_and_gets_all_the_same(stubs, stub, server):
    pb = stubs.quire
    request = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=PROMPT), sampling=pb.Sampling(temperature=1.5, seed=11), n=4,
        max_tokens=100, ignore_eos=True, logprobs=20,
    )
    reader = RawReader(server.address, request)
    until = time.monotonic() + SECONDS
    while next(iter(stub.WatchStats(pb.WatchStatsRequest(), timeout=SECONDS))).paused < 4:
        assert time.monotonic() < until, "they do not pause"
        reader.read(0.05)
    assert Answers(stubs, stub, n=2).last.usage.completion_tokens == 40  # nobody else waits
    reader.open_window()
    reader.read(SECONDS, take=True)
    assert reader.trailers["grpc-status"] == "0"
    ids = {}
    for message in reader.messages():
        delta = pb.GenerateEvent.FromString(message).delta
        ids.setdefault(delta.choice, []).extend(delta.tokens)
    assert [len(ids[choice]) for choice in range(4)] == [100] * 4
    assert ids[0][:20] == Answers(stubs, stub).ids[0]
    wait_until_no_page_is_used(stubs, stub)


@pytest.mark.parametrize("moment", ["waiting", "paused"])
def test_all_pages_come_home_whenever_the_reader_leaves(stubs, stub, server, moment):
    pb = stubs.quire
    request = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=PROMPT), n=4, ignore_eos=True, logprobs=20
    )
    n_calls = 5 if moment == "waiting" else 1  # four times four are all sequences that there are
    held = [RawReader(server.address, request) for _ in range(n_calls)]

    def now():
        return next(iter(stub.WatchStats(pb.WatchStatsRequest(), timeout=SECONDS)))

    until = time.monotonic() + SECONDS
    while (now().waiting_pages if moment == "waiting" else now().paused) < 4:
        assert time.monotonic() < until, f"never {moment}: {now()}"
        held[-1].read(0.05)
    for reader in held:
        reader.close()
    wait_until_no_page_is_used(stubs, stub)


def test_the_command_shows_one_answer_below_the_other(run, server):
    words = ["generate", "--server", server.address, "--tokens", ",".join(map(str, PROMPT)),
             "--temperature", "1.5", "--seed", "11", "--max-tokens", "20", "--ignore-eos"]
    shown = run(*words, "--n", "3")
    assert shown.status == 0
    heads = [line for line in shown.out.splitlines() if line.startswith(b"--- answer ")]
    assert heads[0] == b"--- answer 1 of 3" and heads[-1] == b"--- answer 3 of 3"
    told = run(*words, "--n", "2", "--best-of", "4", "--json")
    ends = [event for event in told.events if event["event"] == "finished"]
    assert len(ends) == 2 and ends[1]["usage"]["completion_tokens"] == 80
    assert run(*words, "--n", "3", "--best-of", "2").status == 2
    assert run("generate", "--prompt", "x", "--best-of", "2").status == 2
