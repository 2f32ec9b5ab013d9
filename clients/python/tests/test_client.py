"""The wrapper against a running server (QUIRE_SERVER)."""

import gc
import inspect
import os
import threading
import time

import grpc
import pytest

import quire
from quire.v1 import quire_pb2 as pb

pytestmark = pytest.mark.skipif("QUIRE_SERVER" not in os.environ,
                                reason="QUIRE_SERVER names no server to test against")


@pytest.fixture(scope="module")
def client():
    with quire.Client() as client:
        yield client


def wait_until_no_page_is_used(client):
    for stats in client.stats(interval=0.1):
        if stats.pages_used == 0 and stats.decode == 0 and stats.prefill == 0:
            return stats


def test_a_completion_streams_deltas_and_ends_with_usage(client):
    answer = client.generate("The capital of France is", max_tokens=8, temperature=0)
    texts = [delta.text for delta in answer]
    assert len(texts) > 1
    assert "".join(texts) == answer.text
    assert answer.text.startswith(" Paris")
    assert answer.accepted.prompt_tokens == 5
    assert answer.finished.usage.prompt_tokens == 5
    assert answer.finished.usage.completion_tokens == 8
    assert answer.reason == "length"


def test_ids_are_a_prompt_like_text(client):
    text = "The capital of France is"
    ids = client.tokenize(text).ids
    assert client.detokenize(ids) == text
    assert (client.generate(ids, max_tokens=6, temperature=0).result()
            == client.generate(text, max_tokens=6, temperature=0).result())


def test_spans_cover_the_text(client):
    text = "naïve café — “quotes”"
    tokens = client.tokenize(text, spans=True)
    assert tokens.spans[0][0] == 0 and tokens.spans[-1][1] == len(text.encode())
    assert all(a[1] == b[0] for a, b in zip(tokens.spans, tokens.spans[1:]))


def test_chat_answers(client):
    answer = client.chat("What is the capital of France?", max_tokens=48, temperature=0).result()
    assert answer == "The capital of France is Paris."


def test_a_stop_string_ends_the_answer_and_is_not_shown(client):
    answer = client.generate("The capital of France is", max_tokens=64, temperature=0,
                             stop="answer")
    assert answer.result() == " Paris.\n\nThe "
    assert answer.finished.stop == "answer" and answer.reason == "stop"


def test_logprobs_come_with_alternatives(client):
    answer = client.generate("The capital of France is", max_tokens=2, temperature=0, logprobs=3)
    first = next(iter(answer)).logprobs[0]
    assert first.bytes == b" Paris" and len(first.top) == 3
    assert first.top[0].token == first.token and first.logprob <= 0


def test_the_same_seed_gives_the_same_text(client):
    texts = {client.generate("Once upon a time", max_tokens=24, temperature=1, seed=7).result()
             for _ in range(3)}
    assert len(texts) == 1


def test_several_answers_to_one_prompt(client):
    options = {"max_tokens": 12, "temperature": 1, "seed": 7}
    one = client.generate("Once upon a time", **options).result()
    many = client.generate("Once upon a time", n=3, **options)
    assert many.result() == one == many.texts[0]
    assert len(set(many.texts)) == 3 and sorted(many.ends) == [0, 1, 2]
    assert many.finished.usage.prompt_tokens == 4
    best = client.generate("Once upon a time", best_of=3, **options)
    assert best.result() in many.texts and best.ends[0].mean_logprob < 0


def leave_by_break(answer):
    for _ in answer:
        break


def leave_by_exception(answer):
    with pytest.raises(ZeroDivisionError):
        for _ in answer:
            1 / 0


def leave_by_close(answer):
    events = iter(answer)
    next(events)
    events.close()


def leave_by_dropping_the_iterator(answer):
    events = iter(answer)
    next(events)
    del events
    gc.collect()


def leave_by_with(answer):
    with answer:
        next(iter(answer))


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_exception, leave_by_close,
                                   leave_by_dropping_the_iterator, leave_by_with])
def test_leaving_the_iterator_cancels_and_frees_the_pages(client, leave):
    before = next(client.stats(interval=0.1))
    answer = client.generate("1 2 3", max_tokens=6000, ignore_eos=True)
    leave(answer)  # the Completion itself is still held
    after = wait_until_no_page_is_used(client)
    assert after.cancelled == before.cancelled + 1
    assert after.generated_tokens - before.generated_tokens < 6000
    assert answer.finished is None


def test_a_completion_that_nobody_reads_ends_when_it_is_dropped(client):
    before = next(client.stats(interval=0.1))
    answer = client.generate("1 2 3", max_tokens=6000, ignore_eos=True)
    for stats in client.stats(interval=0.1):
        if stats.decode:
            break
    del answer
    gc.collect()
    assert wait_until_no_page_is_used(client).cancelled == before.cancelled + 1


def test_cancel_from_another_thread_ends_the_loop_with_its_error(client):
    answer = client.generate("1 2 3", max_tokens=6000, ignore_eos=True)
    timer = threading.Timer(0.3, answer.cancel)
    timer.start()
    with pytest.raises(quire.Cancelled) as caught:
        answer.result()
    timer.join()
    assert caught.value.code is grpc.StatusCode.CANCELLED
    answer.cancel()  # harmless


def test_an_exception_of_on_progress_comes_out_and_cancels(client):
    ids = [1000 + i for i in range(4000)]
    answer = client.generate(ids, max_tokens=1, on_progress=lambda progress: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answer.result()
    wait_until_no_page_is_used(client)


@pytest.mark.parametrize("form", ["str", "bytes", "path", "file", "text file", "pieces",
                                  "one large piece"])
def test_every_form_of_a_document_is_summarized(client, tmp_path, form):
    text = "Pages hold keys and values — tables name the pages of a sequence. " * 20
    path = tmp_path / "document.txt"
    path.write_text(text)
    raw = text.encode()
    document = {"str": text, "bytes": raw, "path": path, "file": path.open("rb"),
                "text file": path.open(encoding="utf-8"),
                "pieces": (raw[i:i + 7] for i in range(0, len(raw), 7)),
                "one large piece": [raw]}[form]
    progress = []
    summary = client.summarize(document, max_tokens=16, on_progress=progress.append)
    assert summary.result()
    assert summary.finished.covered_bytes == summary.finished.total_bytes == len(raw)


def test_a_pipe_has_no_size_and_is_read_to_its_end(client, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    raw = b"Pages hold keys and values. " * 30
    writer = threading.Thread(target=pipe.write_bytes, args=(raw,))
    writer.start()
    summary = client.summarize(pipe, max_tokens=8)
    assert summary.result() and summary.finished.covered_bytes == len(raw)
    writer.join()


def test_sections_stream_before_the_summary(client):
    text = "A paragraph about pages and their tables.\n\n" * 60
    summary = client.summarize(text, section_tokens=200, section_max_tokens=8, max_tokens=8)
    kinds = [type(event) for event in summary]
    assert pb.SectionDelta in kinds and kinds[-1] is pb.SummaryDelta
    assert summary.finished.sections >= 2


def test_what_breaks_the_reading_of_a_document_comes_out(client, tmp_path):
    def pieces():
        yield b"The first page of many. " * 10
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.summarize(pieces(), max_tokens=8).result()
    with pytest.raises(FileNotFoundError):
        client.summarize(tmp_path / "absent.txt")
    with pytest.raises(TypeError):
        client.summarize([3.5], max_tokens=8).result()
    wait_until_no_page_is_used(client)


def test_bytes_that_are_not_text_are_refused_or_replaced_as_asked(client):
    document = b"Pages hold keys \xff and values."
    with pytest.raises(quire.InvalidRequest, match="16"):
        client.summarize(document, max_tokens=8).result()
    summary = client.summarize(document, max_tokens=8, replace_invalid=True)
    assert summary.result() and summary.finished.replaced_bytes == 1


def test_a_summary_is_left_like_any_answer(client):
    text = "A paragraph about pages and their tables.\n\n" * 400
    for _ in client.summarize(text, section_tokens=200):
        break
    wait_until_no_page_is_used(client)


def test_errors_are_typed_and_hold_the_servers_sentence(client):
    with pytest.raises(quire.InvalidRequest, match="temperature") as caught:
        client.generate("x", temperature=-1).result()
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT and caught.value.reason
    with pytest.raises(quire.QuireError) as caught:
        client.generate([10 ** 9], max_tokens=1).result()
    assert "1000000000" in caught.value.message
    with pytest.raises(TypeError, match="unknown option"):
        client.generate("x", temprature=1)


def test_what_cannot_be_done_in_time_is_refused_with_numbers(client):
    begun = time.monotonic()
    with pytest.raises(quire.DeadlineExceeded) as caught:
        client.generate(list(range(1000, 7000)), max_tokens=2000, ignore_eos=True,
                        timeout=2.0).result()
    assert time.monotonic() - begun < 0.9  # at admission, not when the time was over
    # and told by the server: a time that is over has no reason
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED and caught.value.reason
    assert caught.value.numbers["unit"] == "seconds"
    numbers = caught.value.numbers
    assert float(numbers["available"]) <= 2.1 < float(numbers["requested"])


def test_a_server_that_is_not_there_is_unavailable():
    with quire.Client("127.0.0.1:1", timeout=2) as nobody, pytest.raises(quire.Unavailable):
        nobody.model()
    assert not quire.Client("127.0.0.1:1").is_serving(timeout=1)


def test_the_model_and_its_health_are_told(client):
    model = client.model()
    assert model.architecture == "llama" and model.kv.page_tokens == 64
    assert client.is_serving()


def test_an_estimate_tells_pages_and_admission(client):
    told = client.estimate("Once upon a time", max_tokens=60)
    assert told.fits and told.pages == 1 and told.total_seconds > 0
    refused = client.estimate(10 ** 6)
    assert not refused.fits and "1000001 tokens" in refused.refusal


def test_what_a_chat_format_has_no_place_for_is_unsupported(client):
    with pytest.raises(quire.Unsupported, match="tools"):
        client.chat("Hi", tools=[{"name": "add"}]).result()
    with pytest.raises(quire.Unsupported, match="thinking"):
        client.chat("Hi", thinking=True).result()


def test_stats_go_on_until_the_caller_leaves(client):
    begun = time.monotonic()
    told = [stats for stats, _ in zip(client.stats(interval=0.2), range(3))]
    assert time.monotonic() - begun >= 0.35
    assert told[0].uptime_seconds < told[1].uptime_seconds < told[2].uptime_seconds
    assert told[2].pages == client.model().kv.pages


def test_everything_public_is_typed_and_described():
    nouns = [getattr(quire, name) for name in quire.__all__ if name != "Document"]
    for noun in nouns:
        assert inspect.getdoc(noun), noun
    methods = [value for noun in (quire.Client, quire.Completion, quire.Summary)
               for name, value in inspect.getmembers(noun, inspect.isfunction)
               if not name.startswith("_") or name == "__init__"]
    assert len(methods) > 10
    for method in methods:
        signature = inspect.signature(method)
        hints = [parameter.annotation for name, parameter in signature.parameters.items()
                 if name != "self"] + [signature.return_annotation]
        assert inspect.Parameter.empty not in hints, method
        assert method.__name__ == "__init__" or inspect.getdoc(method), method
