#!/usr/bin/env python3
"""The transport against a real gRPC client: grpcio over tests/service/echo_server.

    grpc_transport_peer_test.py PATH-OF-ECHO-SERVER

Messages are plain bytes, so no stubs are needed. Exit 77 (skipped) when grpcio is not installed.
"""
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    import grpc
except ImportError:
    print("skipped: grpcio is not installed (tests/requirements.txt)")
    sys.exit(77)

SERVER = os.environ.get("ECHO_SERVER", "")
PATIENCE = 60
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]


class Server:
    """A server for one test; stop() ends it and says what its handlers counted."""

    def __init__(self, listen="127.0.0.1:0", drain_ms=0):
        self.child = subprocess.Popen([SERVER, listen, str(drain_ms)], stdout=subprocess.PIPE,
                                      text=True)
        self.address = self.child.stdout.readline().split()[1]

    def drain(self):
        self.child.send_signal(signal.SIGTERM)

    def end(self):
        """Waits for the end; returns (held, begun, cancels)."""
        line = self.child.stdout.readline().split()
        code = self.child.wait(PATIENCE)
        self.child.stdout.close()
        assert code == 0, f"exit {code}: {line}"
        return int(line[1]), int(line[3]), int(line[5])

    def stop(self):
        self.drain()
        return self.end()


def wish(n, size):
    return struct.pack(">II", n, size)


class GrpcTransport(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.channel = self.open()

    def tearDown(self):
        self.channel.close()
        held, _, _ = self.server.stop()
        self.assertEqual(held, 0)

    def open(self, options=NARROW):
        return grpc.insecure_channel(self.server.address, options=options)

    def unary(self, name):
        return self.channel.unary_unary(f"/test.Echo/{name}")

    def error(self, call, *arguments, **options):
        with self.assertRaises(grpc.RpcError) as caught:
            result = call(*arguments, timeout=PATIENCE, **options)
            if hasattr(result, "__next__"):
                for _ in result:
                    pass
        return caught.exception

    def test_four_shapes(self):
        self.assertEqual(self.unary("Unary")(b"hello", timeout=PATIENCE), b"hello")
        self.assertEqual(self.unary("Unary")(b"", timeout=PATIENCE), b"")
        self.assertEqual(self.unary("Work")(b"desserts", timeout=PATIENCE), b"stressed")
        count = self.channel.unary_stream("/test.Echo/Count")
        self.assertEqual([len(m) for m in count(wish(500, 3000), timeout=PATIENCE)], [3000] * 500)
        total = self.channel.stream_unary("/test.Echo/Sum")
        pieces = [bytes(n) for n in range(0, 50000, 977)]
        self.assertEqual(int.from_bytes(total(iter(pieces), timeout=PATIENCE), "big"),
                         sum(map(len, pieces)))
        bidi = self.channel.stream_stream("/test.Echo/Bidi")
        self.assertEqual(list(bidi(iter([b"a", b"", b"c" * 1000]), timeout=PATIENCE)),
                         [b"a", b"", b"c" * 1000])

    def test_bidi_is_a_conversation(self):
        asked = threading.Semaphore(0)

        def questions():
            for i in range(20):
                yield b"%d" % i
                asked.acquire()

        answers = self.channel.stream_stream("/test.Echo/Bidi")(questions(), timeout=PATIENCE)
        for i in range(20):
            self.assertEqual(next(answers), b"%d" % i)
            asked.release()
        self.assertEqual(list(answers), [])

    def test_headers_come_before_the_first_message(self):
        call = self.channel.unary_stream("/test.Echo/Never")(b"x", timeout=PATIENCE)
        self.assertIsNotNone(call.initial_metadata())
        call.cancel()

    def test_upload_of_many_windows(self):
        total = self.channel.stream_unary("/test.Echo/Sum")
        got = total((bytes(1 << 20) for _ in range(40)), timeout=PATIENCE)
        self.assertEqual(int.from_bytes(got, "big"), 40 << 20)

    def test_large_unary_request_and_reply(self):
        body = os.urandom(4 << 20)  # exactly what clients take by default
        self.assertEqual(self.unary("Unary")(body, timeout=PATIENCE), body)

    def test_refusals_carry_code_and_sentence(self):
        sentence = "4 of 3% pages: \u00e9 \u20ac \U0001d11e\nsecond line"
        error = self.error(self.channel.unary_stream("/test.Echo/Refuse"), sentence.encode())
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(error.details(), sentence)
        trailers = dict(error.trailing_metadata())
        self.assertEqual(trailers["grpc-status-details-bin"], sentence.encode())

    def test_unknown_method(self):
        self.assertEqual(self.error(self.unary("None"), b"x").code(),
                         grpc.StatusCode.UNIMPLEMENTED)

    def test_message_limit(self):
        self.assertEqual(len(self.unary("Small")(bytes(100), timeout=PATIENCE)), 100)
        error = self.error(self.unary("Small"), bytes(101))
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn("101 bytes", error.details())

    def test_compression_is_refused(self):
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            error = self.error(self.unary("Unary"), b"x" * 5000, compression=kind)
            self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_early_end_of_an_upload(self):
        early = self.channel.stream_unary("/test.Echo/Early")
        error = self.error(early, (bytes(60000) for _ in range(1000)))
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(error.details(), "enough: 100% of it\n\u00e9")
        self.assertEqual(self.unary("Unary")(b"still here", timeout=PATIENCE), b"still here")

    def test_deadline(self):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.channel.unary_stream("/test.Echo/Never")(b"x", timeout=0.2))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_request_id_comes_back(self):
        call = self.channel.unary_unary("/test.Echo/Unary")
        _, info = call.with_call(b"x", timeout=PATIENCE, metadata=[("x-request-id", "r-17"),
                                                                   ("blob-bin", b"\0\1\2")])
        self.assertEqual(dict(info.initial_metadata())["x-request-id"], "r-17")

    def test_too_much_metadata(self):
        error = self.error(self.unary("Unary"), b"x", metadata=[("a", "v" * 9000)])
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_cancel_by_leaving_the_iterator(self):
        count = self.channel.unary_stream("/test.Echo/Count")
        for _ in range(30):
            call = count(wish(1 << 20, 4000), timeout=PATIENCE)
            next(call)
            call.cancel()
        self.assertEqual(self.unary("Unary")(b"x", timeout=PATIENCE), b"x")

    def test_64_streams_at_once(self):
        count = self.channel.unary_stream("/test.Echo/Count")
        calls = [count(wish(50 + i, 1000), timeout=PATIENCE) for i in range(64)]
        for i, call in enumerate(calls):
            if i % 3 == 0:
                next(call)
                call.cancel()
        for i, call in enumerate(calls):
            if i % 3 != 0:
                self.assertEqual(sum(1 for _ in call), 50 + i)

    def test_a_reader_that_rests_gets_everything_later(self):
        count = self.channel.unary_stream("/test.Echo/Count")
        calls = [count(wish(2000, 1000), timeout=PATIENCE) for _ in range(4)]
        for call in calls:
            next(call)
        for _ in range(200):  # the channel is alive meanwhile
            self.unary("Unary")(b"x", timeout=PATIENCE)
        for call in calls:
            self.assertEqual(sum(1 for _ in call), 1999)


class Drain(unittest.TestCase):
    def test_a_running_stream_ends_well_and_new_calls_go_elsewhere(self):
        server = Server()
        channel = grpc.insecure_channel(server.address, options=NARROW)
        questions = threading.Semaphore(0)

        def ask():
            for i in range(5):
                yield b"%d" % i
                questions.acquire()

        call = channel.stream_stream("/test.Echo/Bidi")(ask(), timeout=PATIENCE)
        self.assertEqual(next(call), b"0")
        server.drain()
        for i in range(1, 5):
            questions.release()
            self.assertEqual(next(call), b"%d" % i)
        questions.release()
        self.assertEqual(list(call), [])
        self.assertEqual(server.end(), (0, 1, 0))
        channel.close()

    def test_what_outlives_the_grace_is_told_unavailable(self):
        server = Server(drain_ms=100)
        channel = grpc.insecure_channel(server.address, options=NARROW)
        call = channel.unary_stream("/test.Echo/Never")(b"x", timeout=PATIENCE)
        call.initial_metadata()
        server.drain()
        with self.assertRaises(grpc.RpcError) as caught:
            next(call)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(caught.exception.details(), "the server is shutting down")
        self.assertEqual(server.end(), (0, 1, 1))
        channel.close()

    def test_a_unix_socket_serves_and_goes_away(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "q.sock")
            server = Server(f"unix:{path}")
            with grpc.insecure_channel(f"unix:{path}") as channel:
                echo = channel.unary_unary("/test.Echo/Unary")
                self.assertEqual(echo(b"x", timeout=PATIENCE), b"x")
            self.assertEqual(server.stop()[0], 0)
            self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        SERVER = os.path.abspath(sys.argv.pop(1))
    if not os.path.exists(SERVER):
        sys.exit("usage: grpc_transport_peer_test.py PATH-OF-ECHO-SERVER")
    unittest.main()
