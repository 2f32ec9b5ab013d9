"""A reader that takes nothing pauses its own sequence, costs no memory, and slows nobody."""

import socket
import statistics
import struct
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

SECONDS = 300
WINDOW = 1024
TOKENS = 4000
MEMORY = 1 << 20
OUT_BUFFER_MARK = 32 << 10


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


class RawReader:
    """One Generate over HTTP/2 by hand: it gives no window until it is told to."""

    def __init__(self, address, request):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        OPEN.append(self)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self.h2.initiate_connection()
        self.stream = self.h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"), (":scheme", "http"), (":authority", address),
            (":path", "/quire.v1.Quire/Generate"), ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self.h2.send_headers(self.stream, headers)
        body = request.SerializeToString()
        self.h2.send_data(self.stream, b"\0" + struct.pack(">I", len(body)) + body, end_stream=True)
        self.socket.sendall(self.h2.data_to_send())
        self.data, self.trailers, self.was_reset, self.owed = b"", None, False, 0

    def read(self, seconds, take=False):
        """Reads what comes within so many seconds; take: gives the window back."""
        deadline = time.monotonic() + seconds
        while self.trailers is None and not self.was_reset and time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                received = self.socket.recv(1 << 16)
            except TimeoutError:
                break
            assert received, "the server closed the connection"
            for event in self.h2.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    self.data += event.data
                    self.owed += event.flow_controlled_length
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers = dict(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    self.was_reset = True
            if take:
                self.take()
            self.socket.sendall(self.h2.data_to_send())

    def take(self):
        if self.owed:
            self.h2.acknowledge_received_data(self.owed, self.stream)
            self.owed = 0

    def open_window(self):
        self.h2.increment_flow_control_window(1 << 20, self.stream)
        self.h2.increment_flow_control_window(1 << 20)
        self.socket.sendall(self.h2.data_to_send())

    def messages(self):
        at = 0
        while at + 5 <= len(self.data):
            (size,) = struct.unpack(">I", self.data[at + 1 : at + 5])
            yield self.data[at + 5 : at + 5 + size]
            at += 5 + size

    def close(self):
        self.socket.close()


OPEN = []


@pytest.fixture(autouse=True)
def no_reader_is_left():
    yield
    while OPEN:
        OPEN.pop().close()


def big_request(stubs, n_tokens):
    pb = stubs.quire
    return pb.GenerateRequest(
        text="Once upon a time", sampling=pb.Sampling(temperature=0.8, seed=5),
        max_tokens=n_tokens, ignore_eos=True, logprobs=20,
    )


class Watch:
    """The newest Stats of a server."""

    def __init__(self, stubs, server):
        self.call = server.stub().WatchStats(stubs.quire.WatchStatsRequest(interval_ms=100))
        self.last, self.n_looks = next(self.call), 1
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def follow(self):
        try:
            for self.last in self.call:
                self.n_looks += 1
        except Exception:
            pass  # cancelled

    def wait(self, condition, seconds=SECONDS):
        deadline = time.monotonic() + seconds
        while not condition(self.last):
            assert time.monotonic() < deadline, f"what was waited for did not come: {self.last}"
            time.sleep(0.02)

    def look_again(self, n):
        until = self.n_looks + n
        self.wait(lambda told: self.n_looks >= until)

    def close(self):
        self.call.cancel()
        self.thread.join()


@pytest.fixture
def watch(stubs, server):
    watching = Watch(stubs, server)
    yield watching
    watching.close()


def ids_of(stubs, messages):
    events = [stubs.quire.GenerateEvent.FromString(message) for message in messages]
    return [token for event in events for token in event.delta.tokens], events


def alone(stubs, server, n_tokens):
    call = server.stub().Generate(big_request(stubs, n_tokens), timeout=SECONDS)
    return [token for event in call for token in event.delta.tokens]


def stall(stubs, server, watch, n_tokens, quiet_seconds, patience=SECONDS):
    """A paused raw reader, after what it may not do was looked at."""
    warm = RawReader(server.address, big_request(stubs, 8))
    warm.open_window()
    warm.read(60, take=True)
    warm.close()
    watch.wait(lambda told: told.pages_used == 0)
    before = server.resident_bytes()
    reader = RawReader(server.address, big_request(stubs, n_tokens))
    reader.read(0.5)
    watch.wait(lambda told: told.paused == 1, patience)
    watch.look_again(3)  # the step that it was in has ended
    generated = watch.last.generated_tokens
    reader.read(quiet_seconds)
    told = watch.last
    assert told.generated_tokens == generated, "a paused sequence went on"
    assert told.paused == 1 and reader.trailers is None
    assert len(reader.data) <= WINDOW
    assert server.resident_bytes() - before < MEMORY
    return reader


def test_a_reader_that_takes_nothing_is_paused_and_goes_on_where_it_was(stubs, server, watch):
    n_tokens = 400
    expected = alone(stubs, server, n_tokens)
    reader = stall(stubs, server, watch, n_tokens, 3)
    reader.open_window()
    reader.read(SECONDS, take=True)
    reader.close()
    assert reader.trailers and reader.trailers["grpc-status"] == "0"
    ids, events = ids_of(stubs, reader.messages())
    assert ids == expected and len(ids) == n_tokens
    assert events[-1].finished.timings.paused_seconds > 2
    watch.wait(lambda told: told.paused == 0 and told.pages_used == 0)


def test_a_paused_reader_that_leaves_gives_its_pages_back(stubs, server, watch):
    reader = stall(stubs, server, watch, TOKENS, 0.5)
    reader.close()
    watch.wait(lambda told: told.paused == 0 and told.pages_used == 0)


def test_a_paused_reader_is_told_after_its_time(stubs, module_server):
    impatient = module_server("--max-paused-ms", "3000")
    watching = Watch(stubs, impatient)
    try:
        reader = RawReader(impatient.address, big_request(stubs, TOKENS))
        watching.wait(lambda told: told.paused == 1)
        watching.wait(lambda told: told.paused == 0 and told.pages_used == 0)
    finally:
        watching.close()
    reader.open_window()
    reader.read(30, take=True)
    reader.close()
    # A message that was cut in its middle leaves only a reset to tell it by.
    assert reader.was_reset or reader.trailers["grpc-status"] not in ("0", None)


def four_streams(stubs, server, n_tokens):
    """Tokens a second of four streams at once."""
    pb = stubs.quire
    stub = server.stub()

    def work(seed):
        request = pb.GenerateRequest(
            text="Once upon a time", max_tokens=n_tokens, ignore_eos=True,
            sampling=pb.Sampling(seed=seed),
        )
        for _ in stub.Generate(request, timeout=SECONDS):
            pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 4 * n_tokens / (time.monotonic() - began)


@pytest.mark.long
def test_a_paused_reader_for_long_slows_nobody(stubs, server, watch):
    expected = alone(stubs, server, TOKENS)
    reader = stall(stubs, server, watch, TOKENS, 28, patience=1.5)  # after 0.5 of reading
    reader.open_window()
    reader.read(SECONDS, take=True)
    reader.close()
    assert ids_of(stubs, reader.messages())[0] == expected

    four_streams(stubs, server, 50)
    ratios = []
    for _ in range(3):
        without = four_streams(stubs, server, 500)
        paused = stall(stubs, server, watch, TOKENS, 0.5)
        beside = four_streams(stubs, server, 500)
        paused.close()
        watch.wait(lambda told: told.pages_used == 0)
        ratios.append(beside / without)
    print("beside over without:", [round(ratio, 3) for ratio in ratios])
    assert statistics.median(ratios) >= 0.9, f"beside over without: {ratios}"
