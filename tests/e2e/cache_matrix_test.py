"""The same bytes, whatever the cache did: each kind of group in each dtype, cold, warm, forked, shared
with seven others, after its pages were evicted, after they came back out of the host pool, and after
they went to another while nobody read.

What is compared are the deltas of a greedy answer: its ids, their log-probabilities and those of the
five best beside each. What passed is printed as a matrix.
"""

import concurrent.futures
import random
import time

import pytest

from backpressure_test import RawReader, no_reader_is_left  # noqa: F401  (a fixture)
from client_runs import SECONDS
from make_cell_models import FAMILIES, KINDS, SHAPE
from make_tiny_models import tensors_of, write_model
from tiny_plans import Plan

PAGE = 64
N_PROMPT, N_ANSWER = 300, 24
WHOLE = (N_PROMPT - 1) // PAGE * PAGE  # of the prompt, in pages without its last token
N_OTHERS = 7
N_UNREAD = 400  # tokens with 20 log-probabilities each: more than a server buffers
PREEMPT_MS = 50
PAGES = 64  # of the cache, each of all groups

# Windows and chunks end inside the prompt, and not where pages do; the chunk is two pages.
GROUPS = {
    "global": ("llama", {}),
    "sliding": ("llama, sliding", {"attention.sliding_window": 100}),
    "chunked": ("llama4", {"attention.chunk_size": 128}),
    "latent": ("deepseek2", {}),
}
# Where full pages are packed, the rows of pages being written come on top.
MEMORY = {"f16": "4MiB", "q8": "6MiB", "q4": "6MiB"}
DTYPES = list(MEMORY)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name, (family, keys) in GROUPS.items():
        shape = {**SHAPE, **FAMILIES[family]}
        shape["keys"] = {**shape.get("keys", {}), **keys}
        plan = Plan(f"cache matrix {name}", KINDS["Q8_0"], context=32768, **shape)
        paths[name] = folder / f"{name}.gguf"
        write_model(plan, paths[name], list(tensors_of(plan)))
    return paths


def prompt(seed):
    dice = random.Random(seed)
    return [dice.randrange(4, 250) for _ in range(N_PROMPT)]


class Cache:
    """A server, and what is asked of it."""

    def __init__(self, stubs, server):
        self.pb, self.stub = stubs.quire, server.stub()
        # nothing is shared before
        while not self.stub.GetModel(self.pb.GetModelRequest(), timeout=SECONDS).weights_sha256:
            time.sleep(0.01)

    def stats(self):
        return next(iter(self.stub.WatchStats(self.pb.WatchStatsRequest(), timeout=SECONDS)))

    def request(self, ids, **more):
        asked = {"max_tokens": N_ANSWER, "logprobs": 5, **more}
        return self.pb.GenerateRequest(
            tokens=self.pb.TokenIds(ids=ids),
            sampling=self.pb.Sampling(temperature=0),
            ignore_eos=True,
            **asked,
        )

    def answers(self, ids, **more):
        """Of each choice the bytes of its deltas, and the report of the cache."""
        return self.told(self.stub.Generate(self.request(ids, **more), timeout=SECONDS))

    def told(self, events):
        parts, report = {}, None
        for event in events:
            if event.HasField("delta"):
                choice, event.delta.choice = event.delta.choice, 0
                for token in event.delta.logprobs:
                    parts.setdefault(choice, []).append(token.SerializeToString())
            if event.HasField("finished") and event.finished.HasField("cache"):
                report = event.finished.cache
        return [b"".join(parts[choice]) for choice in sorted(parts)], report

    def answer(self, ids, salt="", **more):
        (got,), report = self.answers(ids, cache_salt=salt, **more)
        return got, report

    def wait_for(self, holds):
        until = time.monotonic() + SECONDS
        while not holds(self.stats()):
            assert time.monotonic() < until, self.stats()
            time.sleep(0.02)

    def preempted_answer(self, address, ids, **more):
        """Of a reader that takes nothing until its pages have gone to another."""
        slow = RawReader(address, self.request(ids, **more))
        self.wait_for(lambda stats: stats.paused == 1)
        pages = max(group.pages for group in self.stats().groups if group.kind == "global")
        tokens = (pages - 4) * PAGE - N_PROMPT  # the prompt with them: all but four pages
        other = self.stub.Generate(self.request(prompt("big"), max_tokens=tokens), timeout=SECONDS)
        next(event for event in other if event.HasField("delta"))
        other.cancel()
        assert self.stats().preempted > 0
        slow.open_window()
        slow.read(SECONDS, take=True)
        assert slow.trailers["grpc-status"] == "0", slow.trailers
        (got,), report = self.told(map(self.pb.GenerateEvent.FromString, slow.messages()))
        return got, report


@pytest.fixture(scope="module")
def matrix():
    """matrix[kind, dtype]: the scenes that gave the bytes of the cold one."""
    rows = {}
    yield rows
    scenes = list(dict.fromkeys(scene for passed in rows.values() for scene in passed))
    print("\n" + " ".join(["matrix", *scenes]))
    for (kind, dtype), passed in rows.items():
        print(" ".join([kind, dtype, *("same" if s in passed else "-" for s in scenes)]))


def evict(cache):
    """Other prompts, until ours is gone."""
    before = cache.stats().pages_evicted
    for i in range(PAGES):
        cache.answer(prompt(f"other {i}"), salt=f"other {i}")
        if i % 8 == 7 and cache.stats().pages_evicted - before > PAGES // 2:
            return
    raise AssertionError("nothing was evicted")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(GROUPS))
def test_bytes_are_those_of_a_cold_cache(stubs, server, models, matrix, kind, dtype):
    running = server(
        "--kv-memory", MEMORY[dtype], "--kv-dtype", dtype, "--max-sequences", "12",
        "--preempt-ms", str(PREEMPT_MS), model=models[kind],
    )
    cache = Cache(stubs, running)
    ids, passed = prompt(kind), matrix.setdefault((kind, dtype), [])

    cold, report = cache.answer(ids)
    assert report.matched_tokens == 0
    passed.append("cold")

    warm, report = cache.answer(ids)
    assert report.matched_tokens == WHOLE, report
    assert warm == cold
    passed.append("warm")

    forks, _ = cache.answers(ids, n=3)
    assert forks == [cold] * 3
    passed.append("forked")

    computed = cache.stats().prompt_tokens
    with concurrent.futures.ThreadPoolExecutor(1 + N_OTHERS) as pool:
        both = list(pool.map(lambda _: cache.answer(ids, "shared"), range(1 + N_OTHERS)))
    assert [got for got, _ in both] == [cold] * (1 + N_OTHERS)
    assert sorted(report.matched_tokens for _, report in both) == [0] + [WHOLE] * N_OTHERS
    assert cache.stats().prompt_tokens - computed == N_PROMPT + N_OTHERS * (N_PROMPT - WHOLE)
    passed.append("shared")

    evict(cache)
    again, report = cache.answer(ids)
    assert report.matched_tokens == 0, report
    assert again == cold
    passed.append("evicted")

    unread = {"max_tokens": N_UNREAD, "logprobs": 20}
    read, _ = cache.answer(ids, "unread", **unread)
    assert cache.preempted_answer(running.address, ids, **unread)[0] == read
    passed.append("preempted")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(GROUPS))
def test_bytes_are_those_of_a_cold_cache_after_spill_and_return(
    stubs, server, models, matrix, kind, dtype
):
    running = server(
        "--kv-memory", MEMORY[dtype], "--kv-dtype", dtype, "--max-sequences", "12",
        "--host-pool", "64MiB", model=models[kind],
    )
    cache, ids = Cache(stubs, running), prompt(kind)
    cold, _ = cache.answer(ids)
    evict(cache)
    spilled = cache.stats()
    assert spilled.pages_spilled > 0 and spilled.host_pages_used == spilled.pages_spilled

    again, report = cache.answer(ids)

    assert report.matched_tokens == WHOLE, report
    assert again == cold
    assert cache.stats().pages_recalled > 0
    matrix.setdefault((kind, dtype), []).append("spilled")


def test_a_prefix_of_many_pages_comes_back_in_parts(stubs, server, models):
    running = server("--kv-memory", "8MiB", "--host-pool", "64MiB", model=models["global"])
    cache, dice = Cache(stubs, running), random.Random("long")
    ids = [dice.randrange(4, 250) for _ in range(100 * PAGE + 1)]
    cold, _ = cache.answer(ids)
    cache.answer(list(reversed(ids)))  # 128 pages are all there are

    again, report = cache.answer(ids)

    assert report.matched_tokens == 100 * PAGE
    assert again == cold
