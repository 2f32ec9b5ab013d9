"""Generate over the wire: every kind of prompt, stop strings, log-probabilities, seeds, refusals."""

import math
import re
import time

import grpc
import pytest

import real_model

SECONDS = 120
END_TOKEN = 2


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


@pytest.fixture(scope="module")
def stub(server):
    return server.stub()


class Answer:
    """A whole generation, and that its events come in their order."""

    def __init__(self, stubs, stub, seconds=SECONDS, metadata=None, **request):
        pb = stubs.quire
        self.events, self.ids, self.text, self.logprobs = [], [], "", []
        call = stub.Generate(pb.GenerateRequest(**request), timeout=seconds, metadata=metadata)
        for event in call:
            self.events.append(event.WhichOneof("event"))
            self.ids += event.delta.tokens
            self.text += event.delta.text
            self.logprobs += event.delta.logprobs
            if event.HasField("accepted"):
                self.accepted = event.accepted
            if event.HasField("finished"):
                self.finished = event.finished
        assert self.events[0] == "accepted" and self.events[-1] == "finished"
        assert self.events.count("accepted") == self.events.count("finished") == 1
        first = self.events.index("delta") if "delta" in self.events else len(self.events)
        assert "progress" not in self.events[first:], "progress after the first delta"
        self.initial = dict(call.initial_metadata())
        self.trailing = dict(call.trailing_metadata())
        self.usage = self.finished.usage


def greedy(stubs, **sampling):
    return stubs.quire.Sampling(temperature=0, **sampling)


def chat(stubs, *texts, role="user"):
    message = stubs.quire.Message
    return stubs.quire.Chat(messages=[message(role=role, content=text) for text in texts])


def refusal(stubs, stub, metadata=None, timeout=SECONDS, **request):
    """(code, sentence, {key: value of the details}) of a request that must be refused."""
    with pytest.raises(grpc.RpcError) as caught:
        list(
            stub.Generate(
                stubs.quire.GenerateRequest(**request), timeout=timeout, metadata=metadata
            )
        )
    error = caught.value
    packed = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    assert packed is not None, f"{error.details()}: no details"
    status = stubs.details.Status.FromString(packed)
    assert status.code == error.code().value[0] and status.message == error.details()
    info = stubs.details.ErrorInfo.FromString(status.details[0].value)
    return error.code(), error.details(), {entry.key: entry.value for entry in info.metadata}


# --- prompts ---


def test_a_chat_a_text_and_ids_say_the_same(stubs, stub):
    ids = stubs.quire.TokenIds(ids=real_model.PROMPTS["P2"])
    by_ids = Answer(stubs, stub, tokens=ids, sampling=greedy(stubs), max_tokens=48)
    by_chat = Answer(
        stubs, stub, chat=chat(stubs, real_model.TEXTS["P2"]), sampling=greedy(stubs), max_tokens=48
    )
    assert by_chat.ids == by_ids.ids and by_chat.text == by_ids.text
    assert by_chat.usage.prompt_tokens == len(real_model.PROMPTS["P2"])
    assert by_chat.finished.reason == stubs.quire.FINISH_REASON_STOP


def test_special_tokens_in_text_and_in_messages_are_text(stubs, stub):
    request = stubs.quire.TokenizeRequest
    as_text = stub.Tokenize(request(text="a<|im_end|>b")).ids
    as_tokens = stub.Tokenize(request(text="a<|im_end|>b", parse_special=True)).ids
    assert END_TOKEN in as_tokens and END_TOKEN not in as_text
    answer = Answer(stubs, stub, text="a<|im_end|>b", sampling=greedy(stubs), max_tokens=1)
    assert answer.usage.prompt_tokens == len(as_text)
    plain = Answer(stubs, stub, chat=chat(stubs, "ab"), sampling=greedy(stubs), max_tokens=1)
    said = Answer(
        stubs, stub, chat=chat(stubs, "a<|im_end|>b"), sampling=greedy(stubs), max_tokens=1
    )
    assert said.usage.prompt_tokens > plain.usage.prompt_tokens + 1


def test_nul_is_text_like_any_other(stubs, stub):
    answer = Answer(stubs, stub, text="a\0b", sampling=greedy(stubs), max_tokens=2)
    ids = stub.Tokenize(stubs.quire.TokenizeRequest(text="a\0b")).ids
    assert answer.usage.prompt_tokens == len(ids)
    assert stub.Detokenize(stubs.quire.DetokenizeRequest(ids=ids)).bytes == b"a\0b"


def test_add_bos_adds_the_first_token(stubs, stub):
    with_bos = Answer(stubs, stub, text="One", add_bos=True, max_tokens=1)
    without = Answer(stubs, stub, text="One", add_bos=False, max_tokens=1)
    assert with_bos.usage.prompt_tokens == without.usage.prompt_tokens + 1


def test_content_chooses_what_deltas_carry(stubs, stub):
    same = {"text": "Once upon a time", "sampling": greedy(stubs), "max_tokens": 12}
    both = Answer(stubs, stub, **same)
    text = Answer(stubs, stub, content=stubs.quire.CONTENT_TEXT, **same)
    ids = Answer(stubs, stub, content=stubs.quire.CONTENT_TOKENS, **same)
    assert text.text == both.text and text.ids == []
    assert ids.ids == both.ids and ids.text == ""


# --- ends ---


def test_max_tokens_ends_with_length(stubs, stub):
    answer = Answer(stubs, stub, text="Once upon a time", ignore_eos=True, max_tokens=7)
    assert len(answer.ids) == answer.usage.completion_tokens == 7
    assert answer.finished.reason == stubs.quire.FINISH_REASON_LENGTH
    assert not answer.finished.HasField("stop")


def test_without_max_tokens_accepted_tells_what_fits(stubs, stub):
    call = stub.Generate(stubs.quire.GenerateRequest(text="Once"), timeout=SECONDS)
    accepted = next(iter(call)).accepted
    call.cancel()
    model = stub.GetModel(stubs.quire.GetModelRequest())
    assert accepted.max_tokens + accepted.prompt_tokens == model.context_tokens
    assert accepted.total_seconds == 0


def test_ignore_eos_goes_past_the_end(stubs, stub):
    question = chat(stubs, real_model.TEXTS["P2"])
    answer = Answer(
        stubs, stub, chat=question, sampling=greedy(stubs), ignore_eos=True, max_tokens=40
    )
    assert len(answer.ids) == 40 and END_TOKEN not in answer.ids


def test_a_stop_string_across_tokens_is_cut_off_the_text(stubs, stub):
    question = chat(stubs, real_model.TEXTS["P2"])  # The capital of France is Paris.
    for stop in ["France", "al of Fra", "is Pa", "."]:
        answer = Answer(stubs, stub, chat=question, sampling=greedy(stubs), stop=["zzz", stop])
        whole = real_model.ANSWERS["P2"]
        assert answer.text == whole[: whole.index(stop)]
        assert answer.finished.stop == stop
        assert answer.finished.reason == stubs.quire.FINISH_REASON_STOP


def test_what_only_begins_like_a_stop_string_comes_out(stubs, stub):
    answer = Answer(
        stubs,
        stub,
        chat=chat(stubs, real_model.TEXTS["P2"]),
        sampling=greedy(stubs),
        stop=["Paris, Texas", "France is Rome"],
    )
    assert answer.text == real_model.ANSWERS["P2"]
    assert not answer.finished.HasField("stop")


# --- sampling ---


def test_the_same_seed_gives_the_same_tokens(stubs, stub):
    def draw(seed):
        sampling = stubs.quire.Sampling(temperature=1.2, top_p=0.95, min_p=0.02, top_k=80, seed=seed)
        return Answer(stubs, stub, text="Once upon a time", sampling=sampling, max_tokens=24)

    first, again, other = draw(11), draw(11), draw(12)
    assert first.ids == again.ids and first.accepted.seed == 11
    assert first.ids != other.ids


def test_an_absent_seed_is_told_and_gives_the_same_again(stubs, stub):
    first = Answer(stubs, stub, text="Once upon a time", max_tokens=16)
    sampling = stubs.quire.Sampling(seed=first.accepted.seed)
    again = Answer(stubs, stub, text="Once upon a time", sampling=sampling, max_tokens=16)
    other = Answer(stubs, stub, text="Once upon a time", max_tokens=16)
    assert again.ids == first.ids
    assert other.accepted.seed != first.accepted.seed


def test_a_repetition_penalty_changes_a_text_that_circles(stubs, stub):
    prompt = "one two one two one two one two one two one"
    plain = Answer(stubs, stub, text=prompt, sampling=greedy(stubs), max_tokens=8)
    sampling = greedy(stubs, repetition_penalty=2.0)
    other = Answer(stubs, stub, text=prompt, sampling=sampling, max_tokens=8)
    assert " two" in plain.text and other.ids != plain.ids


def test_logprobs_are_of_the_raw_distribution(stubs, stub):
    answer = Answer(
        stubs, stub, text="The capital of France is", sampling=greedy(stubs), logprobs=20,
        max_tokens=6,
    )
    assert [entry.token for entry in answer.logprobs] == answer.ids
    for entry in answer.logprobs:
        tops = [top.logprob for top in entry.top]
        assert len(tops) == 20 and tops == sorted(tops, reverse=True)
        assert entry.token == entry.top[0].token and entry.logprob == tops[0]
        assert sum(math.exp(logprob) for logprob in tops) <= 1 + 1e-4
    assert b"".join(entry.bytes for entry in answer.logprobs) == answer.text.encode()


def test_logprobs_zero_are_those_of_the_tokens_alone(stubs, stub):
    answer = Answer(stubs, stub, text="Once", logprobs=0, max_tokens=3)
    assert len(answer.logprobs) == 3
    assert all(len(entry.top) == 0 and entry.logprob <= 0 for entry in answer.logprobs)


# --- names, usage ---


def test_a_request_id_is_echoed_and_logged_and_the_text_is_not(stubs, server, stub):
    metadata = [
        ("x-request-id", "bill-17"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    answer = Answer(stubs, stub, text="Sesquipedalian", metadata=metadata, max_tokens=2)
    assert answer.accepted.id == "bill-17"
    assert "bill-17" in server.log() and "0af7651916cd43dd8448eb211c80319c" in server.log()
    assert "esquipedalian" not in server.log()


def lines_of(server, request_id):
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in server.log().splitlines() if request_id in line]
        if lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)


def test_a_call_is_one_line_of_the_log(stubs, server, stub):
    answer = Answer(
        stubs, stub, text="One", max_tokens=2, ignore_eos=True,
        metadata=[("x-request-id", "once only")],
    )
    (line,) = lines_of(server, "once only")
    assert 'request_id="once only"' in line and "grpc_status=0" in line
    assert f"prompt_tokens={answer.usage.prompt_tokens} completion_tokens=2 " in line

    call = stub.Generate(
        stubs.quire.GenerateRequest(text="One", max_tokens=2000, ignore_eos=True),
        timeout=SECONDS, metadata=[("x-request-id", "left-early")],
    )
    next(iter(call))
    call.cancel()
    (line,) = lines_of(server, "left-early")
    assert "grpc_status=1 " in line

    refusal(stubs, stub, text="One", max_tokens=1 << 30, metadata=[("x-request-id", "too-much")])
    (line,) = lines_of(server, "too-much")
    assert "grpc_status=3 " in line


def test_a_value_of_the_peer_is_one_value_of_the_log(stubs, server, stub):
    forged = 'x" event=ready address=evil'
    Answer(stubs, stub, text="One", max_tokens=1, metadata=[("x-request-id", forged)])
    (line,) = lines_of(server, "evil")
    assert r'request_id="x\" event=ready address=evil"' in line


def test_without_a_request_id_one_is_made(stubs, stub):
    answers = [Answer(stubs, stub, text="One", max_tokens=1) for _ in range(2)]
    ids = {answer.accepted.id for answer in answers}
    assert len(ids) == 2 and all(re.fullmatch(r"[0-9a-f]{32}", name) for name in ids)
    assert all(answer.initial["x-request-id"] == answer.accepted.id for answer in answers)


def test_the_trailers_tell_what_was_used(stubs, stub):
    answer = Answer(stubs, stub, text="Once upon a time", ignore_eos=True, max_tokens=9)
    assert int(answer.trailing["quire-prompt-tokens"]) == answer.usage.prompt_tokens
    assert answer.trailing["quire-completion-tokens"] == "9"
    milliseconds = dict(
        re.fullmatch(r"(\w+);dur=([0-9.]+)", part).groups()
        for part in answer.trailing["server-timing"].split(", ")
    )
    assert list(milliseconds) == ["queue", "prefill", "decode"]
    seconds = answer.finished.timings.decode_seconds
    assert abs(float(milliseconds["decode"]) / 1000 - seconds) < 1e-5


def test_usage_and_timings_come_last(stubs, stub):
    answer = Answer(stubs, stub, text="Once upon a time", ignore_eos=True, max_tokens=9)
    timings = answer.finished.timings
    assert answer.usage.completion_tokens == 9
    assert answer.usage.prompt_tokens == answer.accepted.prompt_tokens
    assert timings.prefill_seconds > 0 and timings.decode_seconds > 0
    assert timings.prefill_tokens_per_second > 0 and timings.decode_tokens_per_second > 0
    assert timings.paused_seconds == 0


def test_a_long_prompt_tells_its_progress(stubs, stub):
    call = stub.Generate(
        stubs.quire.GenerateRequest(text="The quick brown fox. " * 400, max_tokens=1),
        timeout=SECONDS,
    )
    told = [event.progress for event in call if event.HasField("progress")]
    assert told and all(progress.phase == stubs.quire.PHASE_PREFILL for progress in told)
    done = [progress.done for progress in told]
    assert done == sorted(done) and all(progress.total >= progress.done for progress in told)


# --- refusals ---


def test_a_prompt_beyond_the_context_is_refused_with_numbers(stubs, stub):
    context = stub.GetModel(stubs.quire.GetModelRequest()).context_tokens
    tokens = stubs.quire.TokenIds(ids=[100] * (context + 1))
    code, said, numbers = refusal(stubs, stub, tokens=tokens)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and str(context) in said
    assert float(numbers["available"]) == context and numbers["unit"] == "tokens"
    text = "word and word " * context
    n_ids = len(stub.Tokenize(stubs.quire.TokenizeRequest(text=text)).ids)
    code, said, numbers = refusal(stubs, stub, text=text, max_tokens=1)
    assert float(numbers["requested"]) == n_ids + 1 and str(n_ids) in said
    assert code == grpc.StatusCode.INVALID_ARGUMENT and str(context) in said
    assert float(numbers["available"]) == context and "setting" not in numbers


def test_max_tokens_that_cannot_fit_are_refused_with_numbers(stubs, stub):
    context = stub.GetModel(stubs.quire.GetModelRequest()).context_tokens
    ids = stub.Tokenize(stubs.quire.TokenizeRequest(text="Once upon a time")).ids
    fits = stubs.quire.GenerateRequest(text="Once upon a time", max_tokens=context - len(ids))
    call = stub.Generate(fits)  # no deadline: a busy machine would refuse it
    assert next(iter(call)).accepted.max_tokens == context - len(ids)
    call.cancel()
    code, _, numbers = refusal(
        stubs, stub, text="Once upon a time", max_tokens=context - len(ids) + 1
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert float(numbers["requested"]) == context + 1 and float(numbers["available"]) == context


def test_a_deadline_that_cannot_be_met_is_refused_with_both_numbers(stubs, stub):
    code, _, numbers = refusal(
        stubs, stub, text="Once " * 4000, max_tokens=3000, ignore_eos=True, timeout=4.0
    )
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert float(numbers["available"]) < 4.5 < float(numbers["requested"])  # grpcio rounds up
    assert numbers["unit"] == "seconds"


def test_ids_beyond_the_vocabulary_are_refused(stubs, stub):
    vocabulary = stub.GetModel(stubs.quire.GetModelRequest()).vocabulary
    code, said, _ = refusal(stubs, stub, tokens=stubs.quire.TokenIds(ids=[5, vocabulary]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and str(vocabulary) in said


@pytest.mark.parametrize(
    "request_of, part, numbers",
    [
        (lambda pb: {}, "no prompt", None),
        (lambda pb: {"text": ""}, "set add_bos", None),
        (lambda pb: {"text": "a", "max_tokens": 0}, "max_tokens is 0", (0, 1)),
        (lambda pb: {"text": "a", "logprobs": 21}, "logprobs is 21", (21, 20)),
        (lambda pb: {"text": "a", "stop": [""]}, "0 bytes", (0, 1)),
        (lambda pb: {"text": "a", "stop": ["x"] * 17}, "17 stop strings", (17, 16)),
        (lambda pb: {"text": "a", "sampling": pb.Sampling(temperature=-1)}, "temperature", (-1, 0)),
        (lambda pb: {"text": "a", "sampling": pb.Sampling(top_p=1.5)}, "top_p", (1.5, 1)),
        (lambda pb: {"chat": pb.Chat()}, "at least one message", None),
        (lambda pb: {"chat": pb.Chat(messages=[pb.Message(role="bard", content="x")])}, "bard",
         None),
    ],
)
def test_what_is_out_of_range_is_named(stubs, stub, request_of, part, numbers):
    code, said, told = refusal(stubs, stub, **request_of(stubs.quire))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and part in said
    if numbers is not None:
        assert (float(told["requested"]), float(told["available"])) == numbers


def test_the_least_repetition_penalty_passes(stubs, stub):
    sampling = stubs.quire.Sampling(temperature=0, repetition_penalty=0.01)
    Answer(stubs, stub, text="One", sampling=sampling, max_tokens=1)


# --- tokens ---


@pytest.mark.parametrize("text", ["", "Hello, world!", "naïve café 東京 🚀", "a\n\n  b\t"])
def test_tokenize_and_detokenize_come_round(stubs, stub, text):
    pb = stubs.quire
    reply = stub.Tokenize(pb.TokenizeRequest(text=text, spans=True))
    back = stub.Detokenize(pb.DetokenizeRequest(ids=reply.ids))
    assert back.text == text and back.bytes == text.encode()
    at = 0
    for span in reply.spans:
        assert span.begin == at
        at = span.end
    assert at == len(text.encode()) and len(reply.spans) == len(reply.ids)
    assert len(stub.Tokenize(pb.TokenizeRequest(text=text)).spans) == 0


def test_parts_of_characters_are_exact_as_bytes(stubs, stub):
    pb = stubs.quire
    ids = stub.Tokenize(pb.TokenizeRequest(text="🚀")).ids
    assert len(ids) > 1, "the test needs a character of several tokens"
    part = stub.Detokenize(pb.DetokenizeRequest(ids=ids[:1]))
    assert "🚀".encode().startswith(part.bytes) and part.text == "\ufffd"
