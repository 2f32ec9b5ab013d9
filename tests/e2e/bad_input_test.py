"""What no client should send, and options that cannot be: said clearly, and the server lives on."""

import base64
import os
import socket
import struct
import subprocess

import h2.config
import h2.connection
import h2.events
import pytest

SECONDS = 60
GENERATE = "/quire.v1.Quire/Generate"


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


@pytest.fixture(autouse=True)
def lives_on(stubs, request):
    """After each test the server that it used still answers, and holds no page."""
    yield
    if "server" in request.fixturenames:
        running = request.getfixturevalue("server")
        question = stubs.quire.GenerateRequest(text="One", max_tokens=1)
        assert list(running.stub().Generate(question, timeout=SECONDS))[-1].HasField("finished")


class Wire:
    """A stream of HTTP/2 by hand."""

    def __init__(self, server):
        host, port = server.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def call(self, path, body, content_type="application/grpc", method="POST"):
        """(headers, data, trailers) of the answer; body None: the stream stays open."""
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "http"), (":authority", "test"),
                   (":path", path), ("te", "trailers"), ("content-type", content_type)]
        self.h2.send_headers(stream, headers)
        for at in range(0, len(body), 16000):
            if self.h2.local_flow_control_window(stream) < 16000:
                self.flush()
                self.read_some()
            self.h2.send_data(stream, body[at : at + 16000])
        self.h2.end_stream(stream)
        self.flush()
        self.answer = [None, b"", None]
        while not self.over:
            self.read_some()
        return self.answer

    answer, over = None, False

    def read_some(self):
        received = self.socket.recv(1 << 16)
        assert received, "the server closed the connection"
        for event in self.h2.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                self.answer = [dict(event.headers), b"", None]
            elif isinstance(event, h2.events.DataReceived):
                self.answer[1] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.answer[2] = dict(event.headers)
            self.over |= isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset))
        self.flush()


def message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def status_of(answer):
    headers, _, trailers = answer
    told = trailers or headers
    return int(told["grpc-status"]), told.get("grpc-message", "")


def details_of(stubs, answer):
    """(reason, {key: value}) of what a refusal holds for programs."""
    headers, _, trailers = answer
    packed = (trailers or headers)["grpc-status-details-bin"]
    status = stubs.details.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = stubs.details.ErrorInfo.FromString(status.details[0].value)
    return info.reason, {entry.key: entry.value for entry in info.metadata}


def test_what_the_transport_refuses_has_its_numbers_too(stubs, server):
    small = b"\0" + struct.pack(">I", (64 << 10) + 1) + b"\x0a"
    reason, numbers = details_of(stubs, Wire(server).call("/quire.v1.Quire/GetModel", small))
    assert reason == "TOO_LARGE"
    assert numbers == {"requested": "65537", "available": "65536", "unit": "bytes"}
    two = message(b"\x0a\x01a") + message(b"\x0a\x01b")
    reason, numbers = details_of(stubs, Wire(server).call(GENERATE, two))
    assert reason == "UNSUPPORTED" and numbers["unit"] == "messages"
    nothing = Wire(server).call("/quire.v1.Quire/Nothing", message(b""))
    assert details_of(stubs, nothing)[0] == "UNSUPPORTED"
    other = Wire(server).call("/grpc.health.v1.Health/Check", message(b"\x0a\x01x"))
    assert details_of(stubs, other)[0] == "NOT_FOUND"


def test_an_amplifying_message_is_refused(server):
    chats = b"\x0a\x00" * 500000
    size = b"\xc0\x84\x3d"
    assert sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(size)) == len(chats)
    before = server.resident_bytes()
    code, said = status_of(Wire(server).call(GENERATE, message(b"\x1a" + size + chats)))
    assert code == 8 and "fewer, larger fields" in said
    assert server.resident_bytes() - before < 40 << 20


def test_a_message_that_is_not_protobuf_is_refused(server):
    code, said = status_of(Wire(server).call(GENERATE, message(b"\x0a\x7f\x01")))
    assert code == 13 and "quire.v1.GenerateRequest" in said


def test_text_that_is_not_utf8_is_refused_with_its_byte(server):
    code, said = status_of(Wire(server).call(GENERATE, message(b"\x0a\x03ab\xff")))
    assert code == 3 and "byte 2" in said


def test_an_oversized_message_is_refused_by_its_length(server):
    too_long = b"\0" + struct.pack(">I", (16 << 20) + 1) + b"\x0a"
    code, said = status_of(Wire(server).call(GENERATE, too_long))
    assert code == 8 and "16" in said
    small = b"\0" + struct.pack(">I", (64 << 10) + 1) + b"\x0a"
    code, _ = status_of(Wire(server).call("/quire.v1.Quire/GetModel", small))
    assert code == 8


def test_a_wrong_content_type_gets_plain_http(server):
    headers, body, _ = Wire(server).call(GENERATE, b"{}", content_type="application/json")
    assert headers[":status"] == "415" and b"application/grpc" in body


@pytest.mark.parametrize("path", ["/quire.v1.Quire/Nothing", "/quire.v1.Nobody/Generate", "/x"])
def test_an_unknown_method_is_unimplemented(server, path):
    assert status_of(Wire(server).call(path, message(b"")))[0] == 12


def test_two_messages_of_a_method_that_takes_one_are_refused(server):
    two = message(b"\x0a\x01a") + message(b"\x0a\x01b")
    assert status_of(Wire(server).call(GENERATE, two))[0] == 12


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 40])
def test_a_disconnect_at_any_byte_leaves_nothing(server, cut):
    wire = Wire(server)
    wire.h2.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "test"),
                             (":path", GENERATE), ("content-type", "application/grpc")])
    wire.h2.send_data(1, message(b"\x0a\x40" + b"a" * 64)[:cut])
    wire.flush()
    wire.socket.close()


# --- options ---


def serve(quire, *options, env=None):
    return subprocess.run(
        [str(word) for word in (quire, "serve", *options)],
        capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize(
    "options, status, part",
    [
        ([], 2, "--model"),
        (["--threads", "many"], 2, "--threads takes a whole number"),
        (["--kv-dtype", "q2"], 2, "f16, f32, bf16, q8 or q4"),
        (["--kv-dtype", "global=q4,global=f16"], 2, "named once"),
        (["--kv-dtype", "local=q4"], 1, "--kv-dtype local=q4 changes no page"),
        (["--max-context", str((1 << 24) + 1)], 2, "16777216"),
        (["--tread", "2"], 2, "--threads"),
        (["--listen", "nonsense"], 2, "nonsense"),
        (["--parent-fd", "999"], 2, "--parent-fd 999"),
        (["--listen", "0.0.0.0:0"], 1, "--insecure"),
        (["--listen", "no.such.host.invalid:7070"], 1, "no.such.host.invalid"),
        (["--listen", "192.0.2.1:7070", "--insecure"], 1, "does not have that address"),
        (["--backend", "tpu"], 2, "--backend takes cpu, cuda or auto"),
        (["--backend", "cuda", "--device", "many"], 2, "--device takes a whole number"),
        (["--backend", "cpu", "--device", "0"], 1, "leave one of them out"),
        (["--kv-memory", "1000"], 1, "--kv-memory"),
        (["--kv-memory", "16MiB", "--max-context", "4096"], 1, "holds 704 tokens"),
        (["--kv-memory", "9000GiB"], 1, "--kv-memory"),
    ],
)
def test_options_that_cannot_be_are_named(quire, model, options, status, part):
    named = ["--model", model] if options else []
    ended = serve(quire, *named, *options)
    assert ended.returncode == status, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("quire: ") and part in last


def test_a_variable_is_an_option(quire, model):
    ended = serve(quire, "--model", model, env={"QUIRE_MAX_STEP_MS": "never"})
    assert ended.returncode == 2 and "QUIRE_MAX_STEP_MS takes a whole number" in ended.stderr
    ended = serve(quire, "--model", model, env={"QUIRE_LISTEN": "bad"})
    assert ended.returncode == 2 and "QUIRE_LISTEN: cannot listen" in ended.stderr


def test_a_taken_port_fails_before_the_model_is_loaded(quire, server):
    ended = serve(quire, "--model", "/nowhere.gguf", "--listen", server.address)
    assert ended.returncode == 1 and server.address in ended.stderr
    assert "holds this address" in ended.stderr and "nowhere" not in ended.stderr


def test_a_missing_model_is_named(quire):
    ended = serve(quire, "--model", "/nowhere.gguf", "--listen", "127.0.0.1:0")
    assert ended.returncode == 1 and "/nowhere.gguf" in ended.stderr


def test_the_server_ends_with_its_parent(quire, model):
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [str(quire), "serve", "--model", str(model), "--listen", "127.0.0.1:0", "--parent-fd",
         str(reader)],
        pass_fds=[reader], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    os.close(reader)
    for line in child.stderr:
        if "event=ready" in line:
            break
    os.close(writer)
    child.stderr.read()
    assert child.wait(SECONDS) == 0
