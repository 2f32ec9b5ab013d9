"""64 streams of mixed lengths at once, a third cancelled: the others get what they get alone."""

import random
import threading
import time

import grpc
import pytest

import real_model

SECONDS = 300
STREAMS = 64
GROWTH = 1.05


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


def make_jobs(seed):
    """[(prompt ids, max_tokens, events to read before a cancel or None)]: lengths of 1 to 700."""
    draw = random.Random(seed)
    jobs = []
    for i in range(STREAMS):
        n_prompt = draw.choice([1, 7, 30, 64, 65, 150, 400])
        prompt = [draw.randrange(20, 40000) for _ in range(n_prompt)]
        jobs.append([prompt, draw.randrange(1, 40), None])
    for i in draw.sample(range(STREAMS), STREAMS // 3):
        jobs[i][2] = draw.randrange(0, 12)
    return jobs


def generate(stubs, stub, prompt, max_tokens, cancel_after, seed):
    """The ids, or None of a cancelled one."""
    pb = stubs.quire
    sampling = pb.Sampling(temperature=0.9, top_k=50, seed=seed)
    call = stub.Generate(
        pb.GenerateRequest(
            tokens=pb.TokenIds(ids=prompt), sampling=sampling, max_tokens=max_tokens,
            ignore_eos=True,
        ),
        timeout=SECONDS,
    )
    ids, seen = [], 0
    if cancel_after == 0:
        call.cancel()
        return None
    for event in call:
        ids += event.delta.tokens
        seen += 1
        if seen == cancel_after:
            call.cancel()
            return None
    assert len(ids) == max_tokens
    return ids


def run_together(stubs, server, jobs):
    results = [None] * len(jobs)
    stub = server.stub()

    def work(i):
        try:
            results[i] = generate(stubs, stub, *jobs[i], seed=i)
        except grpc.RpcError as error:
            results[i] = error
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def stats(stubs, server):
    call = server.stub().WatchStats(stubs.quire.WatchStatsRequest(interval_ms=100), timeout=60)
    told = next(iter(call))
    call.cancel()
    return told


def own_bytes(server, told):
    """Resident bytes without the pages that are kept for prompts to come."""
    return server.resident_bytes() - sum(group.cached * group.page_bytes for group in told.groups)


def wait_until_empty(stubs, server):
    deadline = time.monotonic() + 30
    while True:
        told = stats(stubs, server)
        if told.pages_used == told.pages_reserved == 0:
            return told
        assert time.monotonic() < deadline, f"pages are still in use: {told}"


def test_streams_beside_others_get_what_they_get_alone(stubs, server):
    jobs = make_jobs(3)
    # The warm-up touches as many pages as any round can: nobody leaves.
    run_together(stubs, server, [[prompt, n, None] for prompt, n, _ in jobs])
    warm = own_bytes(server, wait_until_empty(stubs, server))

    together = run_together(stubs, server, jobs)
    survivors = [i for i, job in enumerate(jobs) if job[2] is None]
    assert len(survivors) >= STREAMS * 2 // 3
    stub = server.stub()
    for i in survivors:
        assert not isinstance(together[i], grpc.RpcError), together[i]
        assert together[i] == generate(stubs, stub, *jobs[i], seed=i), f"stream {i} differs"

    told = wait_until_empty(stubs, server)
    assert told.prefill + told.decode + told.paused + told.queued + told.waiting_pages == 0
    assert told.cancelled > 0
    # a stream writes a page that is kept already once more, until it is full
    twice = STREAMS * sum(group.page_bytes for group in told.groups)
    assert own_bytes(server, told) <= warm * GROWTH + twice


def test_golden_ids_beside_a_long_prefill(stubs, server):
    pb = stubs.quire
    stub = server.stub()
    long_one = stub.Generate(
        pb.GenerateRequest(
            tokens=pb.TokenIds(ids=[1000 + i for i in range(3000)]), max_tokens=1
        ),
        timeout=SECONDS,
    )
    assert next(iter(long_one)).HasField("accepted")
    request = pb.GenerateRequest(
        tokens=pb.TokenIds(ids=real_model.PROMPTS["P2"]), sampling=pb.Sampling(temperature=0),
        max_tokens=48,
    )
    text = "".join(event.delta.text for event in stub.Generate(request, timeout=SECONDS))
    assert text == real_model.ANSWERS["P2"]
    long_one.cancel()
