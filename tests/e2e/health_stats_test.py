"""The health service, GetModel and WatchStats."""

import os
import pathlib
import signal
import time

import grpc
import pytest

from client_runs import wait_until

SECONDS = 60
SHA_256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def check(stubs, server, name):
    request = stubs.health.HealthCheckRequest(service=name)
    return server.health().Check(request, timeout=SECONDS).status


def cpu_ticks(server):
    fields = pathlib.Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_the_server_and_its_service_are_serving(stubs, server):
    running = server()
    serving = stubs.health.HealthCheckResponse.SERVING
    assert check(stubs, running, "") == serving
    assert check(stubs, running, "quire.v1.Quire") == serving
    with pytest.raises(grpc.RpcError) as caught:
        check(stubs, running, "quire.v1.Other")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watch_hears_the_drain_and_calls_may_end(stubs, server):
    running = server()
    response = stubs.health.HealthCheckResponse
    watch = running.health().Watch(stubs.health.HealthCheckRequest(), timeout=SECONDS)
    stranger = running.health().Watch(
        stubs.health.HealthCheckRequest(service="nobody"), timeout=SECONDS
    )
    assert next(watch).status == response.SERVING
    assert next(stranger).status == response.SERVICE_UNKNOWN
    stats = running.stub().WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)
    assert next(stats).pages > 0
    answer = running.stub().Generate(
        stubs.quire.GenerateRequest(text="Once", max_tokens=150, ignore_eos=True), timeout=SECONDS
    )
    assert next(answer).HasField("accepted")
    os.kill(running.pid, signal.SIGTERM)
    assert next(watch).status == response.NOT_SERVING
    for watched in (watch, stranger, stats):  # a drain waits for work, not for watchers
        with pytest.raises(grpc.RpcError) as caught:
            list(watched)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    events = list(answer)
    assert events[-1].finished.usage.completion_tokens == 150
    assert running.process.wait(SECONDS) == 0
    assert "drain_over" not in running.log()


def test_a_second_signal_stops_at_once(stubs, server):
    running = server()
    answer = running.stub().Generate(
        stubs.quire.GenerateRequest(text="Once", max_tokens=6000, ignore_eos=True)
    )
    assert next(answer).HasField("accepted")
    os.kill(running.pid, signal.SIGTERM)
    wait_until(lambda: "event=draining" in running.log())
    os.kill(running.pid, signal.SIGTERM)
    with pytest.raises(grpc.RpcError):
        list(answer)
    assert running.process.wait(SECONDS) == 0


def test_a_stop_does_not_wait_for_a_text_that_a_worker_reads(stubs, server):
    running = server()
    word = "".join(chr(97 + i * i % 26) for i in range(15 << 20))  # one word: seconds of work
    stub, began = running.stub(), time.monotonic()
    stub.Tokenize(stubs.quire.TokenizeRequest(text=word[: 1 << 20]), timeout=SECONDS)
    part_seconds = time.monotonic() - began
    ticks = cpu_ticks(running)
    reply = stub.Tokenize.future(stubs.quire.TokenizeRequest(text=word))
    wait_until(lambda: cpu_ticks(running) > ticks + 20)  # a worker has it
    began = time.monotonic()
    os.kill(running.pid, signal.SIGTERM)
    wait_until(lambda: "event=draining" in running.log())
    os.kill(running.pid, signal.SIGTERM)
    assert running.process.wait(SECONDS) == 0
    assert time.monotonic() - began < 8 * part_seconds + 0.2  # the rest would take 13 or more
    with pytest.raises(grpc.RpcError):
        reply.result()


def test_the_model_says_what_it_is(stubs, server):
    running = server("--kv-memory", "256MiB", "--max-context", "4096")
    deadline = time.monotonic() + SECONDS
    while True:
        model = running.stub().GetModel(stubs.quire.GetModelRequest(), timeout=SECONDS)
        if model.weights_sha256 and SHA_256 in running.log():
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert model.weights_sha256 == SHA_256
    assert model.architecture == "llama" and model.vocabulary == 49152
    assert model.context_tokens == 4096 and model.trained_context_tokens == 8192
    assert model.kv.page_tokens == 64 and model.kv.dtype == "f16" and model.kv.groups == 1
    assert model.kv.bytes_per_token == 2 * 30 * 3 * 64 * 2
    assert 0 < model.kv.bytes <= 256 << 20
    assert model.kv.pages * 64 * model.kv.bytes_per_token <= model.kv.bytes
    assert model.activations == "16" and 2 in model.end_tokens and model.top_logprobs_max == 20
    assert model.chat_format and not model.chat_refusal
    assert 1 < model.summarize_repetition_penalty < 2


def test_stats_count_what_was_done(stubs, server):
    pb, running = stubs.quire, server()
    watch = running.stub().WatchStats(pb.WatchStatsRequest(interval_ms=100), timeout=SECONDS)
    first = next(watch)
    assert first.pages > 0 and first.pages_used == first.calls == 0
    assert first.resident_bytes > 50 << 20 and first.connections == 1
    request = pb.GenerateRequest(text="Once upon a time", max_tokens=20, ignore_eos=True)
    list(running.stub().Generate(request, timeout=SECONDS))
    for told in watch:
        if told.calls == 1 and told.pages_used == 0:
            break
    assert told.generated_tokens == 20 and told.prompt_tokens == 4 and told.steps >= 20
    assert told.connections == 2 and told.uptime_seconds > first.uptime_seconds
    watch.cancel()


def test_pages_are_told_by_group_and_those_of_a_sequence_by_place(stubs, server):
    pb, running = stubs.quire, server()
    request = pb.GenerateRequest(text="Once upon a time " * 40, ignore_eos=True)
    answer = running.stub().Generate(request, timeout=SECONDS)
    while not next(answer).HasField("delta"):
        pass
    told = next(running.stub().WatchStats(pb.WatchStatsRequest(), timeout=SECONDS))
    (group,), (holder,) = told.groups, told.sequences
    assert (group.kind, group.window, group.layers, group.dtype) == ("global", 0, 30, "f16")
    assert group.page_bytes == 64 * 2 * 30 * 3 * 64 * 2
    assert group.free + group.open + group.full == group.pages == told.pages
    assert group.open + group.full == group.own == told.pages_used
    assert group.reserved == told.pages_reserved > 0
    assert holder.state in ("DECODE", "PAUSED") and not holder.tables
    watch = pb.WatchStatsRequest(sequence=holder.id)
    sequence = next(running.stub().WatchStats(watch, timeout=SECONDS)).sequence
    assert sequence.id == holder.id and sequence.tokens >= holder.tokens >= 160
    (table,) = sequence.tables
    assert table.first_page == 0 and table.pages == -(-sequence.tokens // 64)
    assert sum(stretch.pages for stretch in table.stretches) + table.untold == table.pages
    assert [stretch.open for stretch in table.stretches][:2] == [False, True]
    absent = next(running.stub().WatchStats(pb.WatchStatsRequest(sequence=99), timeout=SECONDS))
    assert not absent.HasField("sequence")
    answer.cancel()


@pytest.mark.parametrize("interval", [99, 60001])
def test_an_interval_out_of_range_is_refused(stubs, server, interval):
    call = server().stub().WatchStats(stubs.quire.WatchStatsRequest(interval_ms=interval))
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(interval) in caught.value.details()
