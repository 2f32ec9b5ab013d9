"""Summarize over the wire: whole and by sections, in any pieces, bounded, and ended at once."""

import pathlib
import queue
import random
import threading
import time

import grpc
import pytest

SECONDS = 300
GPL_3 = pathlib.Path("/usr/share/common-licenses/GPL-3")


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


class Summary:
    """A whole summary, and what must hold of every one."""

    def __init__(self, stubs, stub, document, piece=1 << 16, metadata=None, **options):
        pb = stubs.quire
        size = len(document)

        def requests():
            yield pb.SummarizeRequest(options=pb.SummarizeOptions(**options))
            for at in range(0, size, piece):
                yield pb.SummarizeRequest(text=document[at : at + piece])

        self.events, self.sections, self.text, self.progress = [], {}, "", []
        self.spans, closed = {}, set()
        for event in stub.Summarize(requests(), timeout=SECONDS, metadata=metadata):
            self.events.append(event.WhichOneof("event"))
            if event.HasField("accepted"):
                self.accepted = event.accepted
            elif event.HasField("progress"):
                self.progress.append((time.monotonic(), event.progress))
            elif event.HasField("section"):
                key = (event.section.level, event.section.index)
                assert key not in closed, "a section goes on after its last delta"
                self.sections[key] = self.sections.get(key, "") + event.section.text
                span = (event.section.begin, event.section.end)
                assert self.spans.setdefault(key, span) == span
                if event.section.last:
                    closed.add(key)
            elif event.HasField("delta"):
                self.text += event.delta.text
            else:
                self.finished = event.finished
        assert self.events[0] == "accepted" and self.events[-1] == "finished"
        assert closed == set(self.sections)
        assert self.finished.covered_bytes == self.finished.total_bytes == size
        self.check_spans(size)

    def check_spans(self, size):
        level_0 = sorted(span for (level, _), span in self.spans.items() if level == 0)
        if not level_0:
            assert self.finished.sections == 1 and self.finished.levels == 0
            return
        assert len(level_0) == self.finished.sections
        assert level_0[0][0] == 0 and level_0[-1][1] == size
        assert all(left[1] == right[0] for left, right in zip(level_0, level_0[1:]))
        assert self.finished.levels == 1 + max(level for level, _ in self.spans)

    def same_as(self, other):
        return (self.sections, self.spans, self.text) == (other.sections, other.spans, other.text)


def refusal(stubs, stub, requests):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Summarize(iter(requests), timeout=SECONDS))
    return caught.value.code(), caught.value.details()


def paragraphs(n):
    """About n bytes of plain text in paragraphs."""
    words = random.Random(7)
    names = "river stone paper house winter letter garden bread music window".split()
    lines, size = [], 0
    while size < n:
        sentence = "The %s and the %s are near the %s." % tuple(words.sample(names, 3))
        lines.append(sentence + ("\n\n" if words.random() < 0.2 else " "))
        size += len(lines[-1])
    return "".join(lines).encode()


# --- whole and by sections ---


def test_a_document_that_fits_is_read_whole(stubs, server):
    summary = Summary(stubs, server.stub(), paragraphs(3000), max_tokens=40)
    assert summary.text and not summary.sections
    assert summary.finished.usage.completion_tokens <= 40
    assert summary.finished.usage.prompt_tokens > 500


def test_section_tokens_ask_for_sections_whatever_fits(stubs, server):
    document = paragraphs(6000)
    summary = Summary(
        stubs, server.stub(), document, section_tokens=400, section_max_tokens=24, max_tokens=32
    )
    assert summary.finished.sections >= 4 and summary.text
    request = stubs.quire.TokenizeRequest
    for begin, end in summary.spans.values():
        text = document[begin:end].decode()
        assert len(server.stub().Tokenize(request(text=text)).ids) <= 400 + 8
        assert end == len(document) or text.endswith("\n\n"), "a paragraph is cut"


def test_too_long_a_document_goes_by_sections_as_large_as_fit(stubs, server, module_server):
    small = module_server("--max-context", "1024")
    summary = Summary(
        stubs, small.stub(), paragraphs(8000), section_max_tokens=24, max_tokens=32
    )
    assert 3 <= summary.finished.sections <= 8


def test_summaries_of_summaries_until_one_prompt_holds_them(stubs, module_server):
    small = module_server("--max-context", "512")
    summary = Summary(
        stubs, small.stub(), paragraphs(8000), section_tokens=128, section_max_tokens=64,
        max_tokens=16,
    )
    assert summary.finished.levels >= 2
    by_level = [sum(1 for level, _ in summary.sections if level == n) for n in (0, 1)]
    assert by_level[1] * 2 < by_level[0]


# --- pieces, bytes ---


def test_the_size_of_the_pieces_changes_nothing(stubs, server):
    document = paragraphs(3500)
    options = {"section_tokens": 300, "section_max_tokens": 16, "max_tokens": 24}
    whole = Summary(stubs, server.stub(), document, piece=1 << 20, **options)
    for piece in (1, 997):
        assert whole.same_as(Summary(stubs, server.stub(), document, piece=piece, **options))
    alone = Summary(stubs, server.stub(), document[:200], piece=1, max_tokens=8)
    assert alone.same_as(Summary(stubs, server.stub(), document[:200], max_tokens=8))


def test_bad_bytes_are_replaced_and_counted_and_spans_are_of_the_original(stubs, server):
    good = paragraphs(2500)
    bad = good[:600] + b"\xff\xfe" + good[600:1500] + b"\xe2\x82" + good[1500:]
    summary = Summary(
        stubs, server.stub(), bad, piece=601, section_tokens=200, section_max_tokens=8,
        max_tokens=8, replace_invalid=True,
    )
    assert summary.finished.replaced_bytes == 3
    whole = Summary(
        stubs, server.stub(), b"Caf\xc3\xa9 \xc3", max_tokens=4, replace_invalid=True
    )
    assert whole.finished.replaced_bytes == 1


def test_bad_bytes_are_refused_with_their_place(stubs, server):
    pb, stub = stubs.quire, server.stub()
    options = pb.SummarizeRequest(options=pb.SummarizeOptions())
    for text, place in [(b"Caf\xc3\xa9 \xff", 6), (b"Caf\xc3", 3)]:
        pieces = [pb.SummarizeRequest(text=text[at : at + 1]) for at in range(len(text))]
        code, said = refusal(stubs, stub, [options, *pieces])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and f"at byte {place}:" in said


def test_nul_is_text_like_any_other(stubs, server):
    summary = Summary(stubs, server.stub(), b"One\0two\0three", piece=2, max_tokens=4)
    assert summary.finished.covered_bytes == 13


def test_characters_of_many_bytes_are_not_parted(stubs, server):
    document = ("東京は雨です。" * 80).encode()
    summary = Summary(
        stubs, server.stub(), document, piece=5, section_tokens=100, section_max_tokens=8,
        max_tokens=8,
    )
    assert summary.finished.replaced_bytes == 0 and summary.finished.sections > 3
    for begin, end in summary.spans.values():
        document[begin:end].decode()


# --- what is told ---


def test_progress_has_its_phases_and_its_pace(stubs, server):
    document = paragraphs(10000)
    summary = Summary(
        stubs, server.stub(), document, section_tokens=1000, section_max_tokens=48, max_tokens=64,
        total_bytes=len(document),
    )
    pb = stubs.quire
    phases = [progress.phase for _, progress in summary.progress]
    assert phases and pb.PHASE_SECTIONS in phases
    assert phases.index(pb.PHASE_SECTIONS) <= len(phases) - 1 - phases[::-1].index(pb.PHASE_ANSWER)
    sections = [told for _, told in summary.progress if told.phase == pb.PHASE_SECTIONS]
    assert [told.done for told in sections] == sorted(told.done for told in sections)
    assert any(told.per_second > 0 and told.seconds_left > 0 for told in sections)
    seconds = summary.progress[-1][0] - summary.progress[0][0]
    assert len(summary.progress) <= seconds / 0.1 + 3


def test_the_request_id_and_the_seed_are_told(stubs, server):
    sampling = stubs.quire.Sampling(temperature=0.8, seed=99)
    options = {"max_tokens": 16, "sampling": sampling}
    first = Summary(
        stubs, server.stub(), b"A short text.", metadata=[("x-request-id", "sum-1")], **options
    )
    assert first.accepted.id == "sum-1" and first.accepted.seed == 99
    assert first.same_as(Summary(stubs, server.stub(), b"A short text.", **options))


def test_the_gpl_by_sections_speaks_of_its_matter(stubs, server):
    document = GPL_3.read_bytes()
    summary = Summary(stubs, server.stub(), document, section_tokens=2000)
    words = "".join(c if c.isalnum() else " " for c in " ".join(
        [*summary.sections.values(), summary.text]).lower()).split()
    assert len({"license", "software", "copyright", "source", "gnu"} & set(words)) >= 3
    runs = [tuple(words[i : i + 6]) for i in range(len(words) - 5)]
    assert max(map(runs.count, runs)) <= 3


# --- refusals ---


def test_what_comes_in_the_wrong_order_is_refused(stubs, server):
    pb, stub = stubs.quire, server.stub()
    options = pb.SummarizeRequest(options=pb.SummarizeOptions())
    text = pb.SummarizeRequest(text=b"text")
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for requests, part in [
        ([text], "options first"),
        ([options, text, options], "options came twice"),
        ([options], "empty"),
        ([options, pb.SummarizeRequest(text=b"")], "empty"),
        ([], "nothing was sent"),
        ([pb.SummarizeRequest()], "neither options nor text"),
    ]:
        code, said = refusal(stubs, stub, requests)
        assert code == invalid and part in said


def test_numbers_out_of_range_are_named(stubs, server):
    pb, stub = stubs.quire, server.stub()
    text = pb.SummarizeRequest(text=b"text")
    for options, code, part in [
        ({"section_tokens": 15}, "INVALID_ARGUMENT", "section_tokens is 15"),
        ({"max_tokens": 0}, "INVALID_ARGUMENT", "max_tokens is 0"),
        ({"section_max_tokens": 0}, "INVALID_ARGUMENT", "section_max_tokens is 0"),
        ({"max_tokens": 9000}, "INVALID_ARGUMENT", "fewer max_tokens"),
        ({"total_bytes": (256 << 20) + 1}, "RESOURCE_EXHAUSTED", "268435457"),
        ({"instruction": "word " * 9000}, "INVALID_ARGUMENT", "shorter instruction"),
    ]:
        request = pb.SummarizeRequest(options=pb.SummarizeOptions(**options))
        told, said = refusal(stubs, stub, [request, text])
        assert told.name == code and part in said


# --- long documents ---


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)


def stats(stubs, server):
    call = server.stub().WatchStats(stubs.quire.WatchStatsRequest(interval_ms=100), timeout=60)
    told = next(iter(call))
    call.cancel()
    return told


def test_a_long_document_takes_bounded_memory_and_ends_at_once(stubs, server):
    pb = stubs.quire
    document = paragraphs(5 << 20)
    small = {"section_tokens": 512, "section_max_tokens": 8, "max_tokens": 8}
    Summary(stubs, server.stub(), document[:10000], **small)
    sent, stop, events = [0], threading.Event(), queue.Queue()

    def requests():
        yield pb.SummarizeRequest(options=pb.SummarizeOptions(section_tokens=512))
        for at in range(0, len(document), 1 << 16):
            sent[0] = at
            if stop.is_set():
                return
            yield pb.SummarizeRequest(text=document[at : at + (1 << 16)])

    before = server.resident_bytes()
    call = server.stub([("grpc.http2.bdp_probe", 0)]).Summarize(requests(), timeout=SECONDS)

    def read():
        try:
            for event in call:
                events.put(event.WhichOneof("event"))
        except grpc.RpcError:
            events.put("ended")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        finished = 0
        while finished < 40:  # deltas of sections: it runs while bytes still come
            finished += events.get(timeout=60) == "section"
        assert sent[0] < len(document) - (1 << 20), "the upload was not held back"
        assert server.resident_bytes() - before < 48 << 20
        assert stats(stubs, server).pages_used > 0
    finally:
        stop.set()
        call.cancel()
        reader.join()
    began = time.monotonic()
    wait_until(lambda: stats(stubs, server).pages_used == 0, 10)
    assert time.monotonic() - began < 5
    last = stats(stubs, server)
    assert last.prefill + last.decode + last.paused + last.queued == 0


def test_a_model_that_can_leave_its_thoughts_out_does(module_server, stubs, tiny):
    stub = module_server("--chat-format", "qwen3", model=tiny["q4_0"]).stub()
    pb, document = stubs.quire, b"The cat sat on the mat."
    content = f"{document.decode()}\n\nSummarize the text above in a few sentences."

    def tokens(**options):
        chat = pb.Chat(messages=[pb.Message(role="user", content=content)], **options)
        request = pb.EstimateRequest(request=pb.GenerateRequest(chat=chat, max_tokens=1))
        return stub.Estimate(request, timeout=SECONDS).prompt_tokens

    read = Summary(stubs, stub, document, max_tokens=1).finished.usage.prompt_tokens
    assert read == tokens(thinking=False) > tokens(thinking=True)
