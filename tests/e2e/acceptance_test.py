"""What the API promises, asked from outside with many inputs: prompts round the borders of pages,
any stop string, any text, broken frames and messages, more calls than are admitted, ends of life.
"""

import concurrent.futures
import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import time

import grpc
import h2.config
import h2.connection
import numpy
import pytest

import real_model

SECONDS = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(":method", "POST"), (":scheme", "http"), (":authority", "test"),
           (":path", "/quire.v1.Quire/Generate"), ("te", "trailers"),
           ("content-type", "application/grpc")]
STORY = "Once upon a time"


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


@pytest.fixture(scope="module")
def stub(server):
    return server.stub()


class Answer:
    """A whole generation."""

    def __init__(self, stubs, stub, **request):
        self.ids, self.text, self.logprobs = [], "", []
        call = stub.Generate(stubs.quire.GenerateRequest(**request), timeout=SECONDS)
        for event in call:
            self.ids += event.delta.tokens
            self.text += event.delta.text
            self.logprobs += event.delta.logprobs
            if event.HasField("finished"):
                self.finished = event.finished


def greedy(stubs, **sampling):
    return stubs.quire.Sampling(temperature=0, **sampling)


def stats(stubs, server):
    call = server.stub().WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)
    now = next(iter(call))
    call.cancel()
    return now


def wait_for_rest(stubs, server, seconds=20):
    """Until nothing runs and no page is held."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = stats(stubs, server)
        if now.pages_used == now.pages_reserved == now.queued == now.prefill == now.decode == 0:
            return
        time.sleep(0.05)
    pytest.fail(f"the server holds pages or runs: {now}")


# --- answers ---


def test_greedy_by_any_name_is_the_same(stubs, stub):
    wanted = Answer(stubs, stub, text=STORY, max_tokens=12, sampling=greedy(stubs)).ids
    for name in [{"temperature": 1e-38}, {"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}]:
        sampling = stubs.quire.Sampling(seed=7, **name)
        assert Answer(stubs, stub, text=STORY, max_tokens=12, sampling=sampling).ids == wanted, name


@pytest.mark.parametrize("n", [1, 63, 64, 65, 511, 512, 513])
def test_a_prompt_that_ends_at_a_border_goes_on_the_same(stubs, stub, n):
    ids = stub.Tokenize(stubs.quire.TokenizeRequest(text="The quick brown fox jumps. " * 100)).ids

    def go_on(prompt, count):
        tokens = stubs.quire.TokenIds(ids=prompt)
        return Answer(stubs, stub, tokens=tokens, max_tokens=count, ignore_eos=True,
                      sampling=greedy(stubs)).ids

    whole = go_on(ids[:n], 3)
    assert go_on(list(ids[:n]) + whole[:1], 2) == whole[1:]


def test_any_stop_string_cuts_the_text_before_it(stubs, stub):
    same = {"text": STORY, "max_tokens": 24, "ignore_eos": True, "sampling": greedy(stubs)}
    whole, chosen = Answer(stubs, stub, **same).text, random.Random(1)
    for _ in range(6):
        begin = chosen.randrange(len(whole) - 1)
        stop = whole[begin : begin + chosen.randrange(1, 20)]
        answer = Answer(stubs, stub, stop=["\0never", stop], **same)
        assert answer.text == whole[: whole.index(stop)], stop
        assert answer.finished.stop == stop
    beyond = whole[-4:] + "\0"  # held back until the end shows that it is none
    assert Answer(stubs, stub, stop=[beyond], **same).text == whole


def test_text_of_parts_of_characters_is_that_of_the_ids(stubs, stub):
    ids = stub.Tokenize(stubs.quire.TokenizeRequest(text="🙂" * 4)).ids
    texts = ""
    for cut in range(1, len(ids)):
        answer = Answer(stubs, stub, tokens=stubs.quire.TokenIds(ids=ids[:cut]), max_tokens=6,
                        ignore_eos=True, sampling=greedy(stubs))
        whole = stub.Detokenize(stubs.quire.DetokenizeRequest(ids=answer.ids))
        assert answer.text == whole.text == whole.bytes.decode(errors="replace")
        texts += answer.text
    assert "\ufffd" in texts, "the test needs parts of characters"


def test_log_probabilities_are_those_of_the_logits(stubs, stub, quire, model, tmp_path):
    rows = tmp_path / "row.npy"
    ids = ",".join(map(str, real_model.PROMPTS["P1"]))
    subprocess.run([quire, "logits", "--model", model, "--tokens", ids, "--output", rows],
                   check=True, capture_output=True, timeout=SECONDS)
    logits = numpy.load(rows)[0].astype(float)
    exact = logits - numpy.log(numpy.exp(logits).sum())
    tokens = stubs.quire.TokenIds(ids=real_model.PROMPTS["P1"])
    for seed in range(4):  # a hot draw: the token is often not among the best
        hot = stubs.quire.Sampling(seed=seed, temperature=3.0)
        drawn = Answer(stubs, stub, tokens=tokens, max_tokens=1, logprobs=20,
                       sampling=hot).logprobs[0]
        assert [top.token for top in drawn.top] == list(numpy.argsort(-logits, kind="stable")[:20])
        assert max(abs(top.logprob - exact[top.token]) for top in drawn.top) < 1e-4
        assert abs(drawn.logprob - exact[drawn.token]) < 1e-4


TEXTS = ["Привет, мир!", "你好，世界", "こんにちは", "안녕하세요", "مرحبا بالعالم", "नमस्ते दुनिया", "שלום עולם",
         "ሰላም ልዑል", "สวัสดีชาวโลก", "🙂👍🏽👨‍👩‍👧", "e\u0301 é ﬁ Ａ", "\ufeff\ufffd\0", "\r\n\r\n  x",
         "'s 'LL", "<|im_start|>", " " * 3000, "é" * 3000, "0" * 3000]


def any_texts(n):
    chosen = random.Random(7)
    ranges = [(32, 127), (0xA0, 0x800), (0x800, 0xD800), (0xE000, 0x40000), (9, 11)]
    for _ in range(n):
        yield "".join(chr(chosen.randrange(*chosen.choice(ranges)))
                      for _ in range(chosen.randrange(1, 60)))


def test_any_text_comes_round_with_spans_without_a_gap(stubs, stub):
    for text in [*TEXTS, *any_texts(60)]:
        reply = stub.Tokenize(stubs.quire.TokenizeRequest(text=text, spans=True))
        borders = [0, *(span.end for span in reply.spans)]
        assert [span.begin for span in reply.spans] == borders[:-1]
        assert borders[-1] == len(text.encode()) and len(reply.ids) == len(reply.spans)
        back = stub.Detokenize(stubs.quire.DetokenizeRequest(ids=reply.ids))
        assert back.bytes == text.encode() and back.text == text


def test_a_cancel_within_a_prefill_frees_its_pages(stubs, server, stub):
    tokens = stubs.quire.TokenIds(ids=[7] * 7000)
    call = stub.Generate(stubs.quire.GenerateRequest(tokens=tokens, max_tokens=5))
    assert next(iter(call)).HasField("accepted")
    call.cancel()
    wait_for_rest(stubs, server)


def session_bytes(body):
    """A client's side of a connection with one call."""
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    client.send_headers(1, REQUEST)
    client.send_data(1, b"\0" + struct.pack(">I", len(body)) + body, end_stream=True)
    return client.data_to_send()


def connect(server):
    host, port = server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def read_out(peer):
    """Until the server ends the connection: then it has read all that was sent."""
    with contextlib.suppress(ConnectionResetError):
        while peer.recv(1 << 16):
            pass


def test_a_disconnect_at_every_byte_of_a_call_leaves_nothing(stubs, server):
    sent = session_bytes(stubs.quire.GenerateRequest(text="a", max_tokens=50).SerializeToString())
    for cut in range(len(sent) + 1):
        peer = connect(server)
        peer.sendall(sent[:cut])
        if cut % 2:  # every other by a reset
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    wait_for_rest(stubs, server)


def frame(kind, flags, stream, body=b"", length=None):
    length = len(body) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


HELLO = PREFACE + frame(4, 0, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"\0" * 100, HELLO + frame(0, 0, 1, length=0xFFFFFF), HELLO + frame(0, 0, 0, b"data"),
        HELLO + frame(1, 5, 1, b"\xff" * 50), HELLO + frame(9, 4, 1, b"\x82"),
        HELLO + frame(1, 4 | 8, 1, b"\xff\x82"), HELLO + frame(5, 4, 1, b"\0\0\0\2\x82"),
        HELLO + frame(6, 0, 0, b"short"), HELLO + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
        PREFACE + frame(4, 0, 0, b"12345"), PREFACE + frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
        PREFACE + frame(4, 0, 0, b"\0\5\0\0\0\1"),
    ],
)
def test_a_malformed_frame_ends_its_connection(stubs, server, stub, sent):
    peer = connect(server)
    peer.sendall(sent)
    read_out(peer)
    assert len(Answer(stubs, stub, text="a", max_tokens=1, ignore_eos=True).ids) == 1


def mutated(body, chosen):
    body = bytearray(body)
    for _ in range(chosen.randrange(1, 5)):
        at, kind = chosen.randrange(len(body)), chosen.randrange(3)
        if kind == 0:
            body[at] = chosen.randrange(256)
        elif kind == 1 and len(body) > 1:
            del body[at]
        else:
            body.insert(at, chosen.randrange(256))
    return bytes(body)


def test_mutated_sessions_leave_nothing(stubs, server):
    chosen = random.Random(5)
    whole = session_bytes(stubs.quire.GenerateRequest(text="a", max_tokens=2).SerializeToString())
    for _ in range(300):
        peer = connect(server)
        with contextlib.suppress(OSError):  # it may be ended while it speaks
            peer.sendall(PREFACE + mutated(whole[len(PREFACE) :], chosen))
            peer.shutdown(socket.SHUT_WR)
            read_out(peer)
        peer.close()
    wait_for_rest(stubs, server)


def test_mutated_messages_are_answered_or_refused_with_a_sentence(stubs, server):
    chosen, pb = random.Random(6), stubs.quire
    request = pb.GenerateRequest(text="hé", max_tokens=2, stop=["x"], logprobs=2,
                                 sampling=pb.Sampling(temperature=0.5, seed=4, top_k=3))
    call_of = server.channel().unary_stream("/quire.v1.Quire/Generate")
    for _ in range(200):
        call = call_of(mutated(request.SerializeToString(), chosen))
        try:
            next(iter(call))
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
            assert len(error.details()) > 10
        call.cancel()
    wait_for_rest(stubs, server)


# --- more than fits, and ends ---


def test_calls_beyond_what_may_wait_are_refused_with_numbers(stubs, server_by_variables):
    def ask(i):
        try:
            return len(Answer(stubs, server_by_variables.stub(), text=f"{i}", max_tokens=30,
                              ignore_eos=True).ids)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert re.search(r"\d", error.details())
            return 0

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(ask, range(16)))
    assert set(counts) == {0, 30} and counts.count(30) >= 5
    model = server_by_variables.stub().GetModel(stubs.quire.GetModelRequest())
    assert model.kv.dtype == model.activations == "f32" and model.context_tokens == 512
    wait_for_rest(stubs, server_by_variables)


@pytest.fixture(scope="module")
def server_by_variables(module_server):
    return module_server(env={"QUIRE_MAX_SEQUENCES": "2", "QUIRE_MAX_QUEUED": "3",
                              "QUIRE_KV_DTYPE": "f32", "QUIRE_MAX_CONTEXT": "512",
                              "QUIRE_KV_MEMORY": "64MiB", "QUIRE_ACTIVATIONS": "f32"})


def serve(quire, *options, env=None):
    return subprocess.run([quire, "serve", *options], capture_output=True, text=True, env=env,
                          timeout=SECONDS)


def test_every_variable_is_named_when_its_value_cannot_be(quire, model):
    names = set(re.findall(r"QUIRE_[A-Z_]+", serve(quire, "--help").stdout))
    names -= {"QUIRE_MODEL", "QUIRE_LISTEN", "QUIRE_CHAT_FORMAT"}  # judged when they are opened
    assert len(names) > 10
    for name in names:
        ended = serve(quire, "--model", model, env={**os.environ, name: "\x01"})
        assert ended.returncode == 2 and name in ended.stderr, name


def test_a_unix_socket_is_private_and_goes_with_its_server(
    stubs, quire, model, module_server, tmp_path_factory
):
    path = tmp_path_factory.mktemp("sockets") / "q"
    options = ["--model", model, "--listen", f"unix:{path}"]
    path.write_text("a file of somebody")
    ended = serve(quire, *options)
    assert ended.returncode == 1 and "not a socket" in ended.stderr
    assert path.read_text() == "a file of somebody"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # nobody listens here any more: it may be replaced
    server = module_server(listen=f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    ended = serve(quire, *options)
    assert ended.returncode == 1 and str(path) in ended.stderr
    answer = Answer(stubs, server.stub(), text=STORY, max_tokens=2, ignore_eos=True)
    assert len(answer.ids) == 2
    server.stop()
    assert not path.exists()


def test_a_drain_lets_a_summary_end(stubs, module_server):
    server = module_server("--max-context", "1024")
    request, pb = stubs.quire.SummarizeRequest, stubs.quire
    options = pb.SummarizeOptions(section_tokens=64, max_tokens=8, section_max_tokens=8)
    pieces = [request(options=options), request(text=b"Words of a text. " * 60)]
    call = iter(server.stub().Summarize(iter(pieces), timeout=SECONDS))
    for event in call:
        if event.HasField("section"):
            server.process.send_signal(signal.SIGTERM)
            break
    last = list(call)[-1].finished
    assert last.covered_bytes == last.total_bytes == len(pieces[1].text)
    assert server.process.wait(SECONDS) == 0
