"""What the e2e suites share: the binary, models, generated stubs, a server that ends with its test.

The binary is build/quire, or what QUIRE_BINARY names (the sanitized builds set it). Nothing here
waits for a fixed time: a server is ready when its log says so, and a test ends it by SIGTERM and
reads its exit status.
"""

import contextlib
import fcntl
import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
sys.path.insert(0, str(ROOT / "tests" / "golden"))

import make_tiny_models  # noqa: E402  (of tests/golden)
import real_model  # noqa: E402

READY_SECONDS = 60  # for a sanitized server that loads the real model on a busy machine
STOP_SECONDS = 60


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also what CI has no time for")


CELLS = pytest.StashKey()  # (family, tensor type, check) that passed: for table.py


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs only with --long")
    config.stash[CELLS] = []


def pytest_terminal_summary(terminalreporter, config):
    for cell in config.stash[CELLS]:
        terminalreporter.write_line("|".join(("cell", *cell)))


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long") or os.environ.get("QUIRE_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: runs in scripts/test --long"))


@pytest.fixture(scope="session")
def quire():
    """The path of the binary under test."""
    path = pathlib.Path(os.environ.get("QUIRE_BINARY", BUILD / "quire"))
    if not path.exists():
        pytest.fail(f"{path} is missing: run scripts/setup")
    return path


def cuda_build(folder):
    """The program of a build with CUDA; a named skip where that was not made."""
    if os.environ.get("QUIRE_CUDA_BUILDS") == "no":
        pytest.skip(f"{folder}/quire: scripts/test made no CUDA build")
    path = ROOT / folder / "quire"
    if not path.exists():
        pytest.skip(f"{folder}/quire is missing: scripts/setup --cuda, then CONTRIBUTING.md, Tests")
    return path


@pytest.fixture(scope="session")
def model():
    """The real model."""
    path = ROOT / "models" / real_model.NAME
    if not path.exists():
        pytest.fail(f"{path} is missing: run scripts/fetch-model")
    return path


@pytest.fixture(scope="session")
def tiny():
    """{name: path} of the tiny random models."""
    return make_tiny_models.make_all(BUILD / "tiny")


def _cpu_flags():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


ISA_FLAGS = {
    "scalar": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
}


def need_isa(isa):
    """A named skip where the machine lacks the instruction set."""
    lacking = ISA_FLAGS[isa] - _cpu_flags()
    if lacking:
        pytest.skip(f"this machine has no {isa}: it lacks {' '.join(sorted(lacking))}")


class Stubs:
    """Modules generated from proto/: quire, quire_grpc, health, health_grpc, details."""

    def __init__(self, folder):
        sys.path.insert(0, str(folder))
        self.quire = importlib.import_module("quire.v1.quire_pb2")
        self.quire_grpc = importlib.import_module("quire.v1.quire_pb2_grpc")
        self.health = importlib.import_module("grpc_health_stubs.health_pb2")
        self.health_grpc = importlib.import_module("grpc_health_stubs.health_pb2_grpc")
        self.details = importlib.import_module("google.rpc.details_pb2")


@pytest.fixture(scope="session")
def stubs():
    """Generated anew when a .proto is newer than what was generated."""
    folder = BUILD / "stubs"
    folder.mkdir(parents=True, exist_ok=True)
    protos = sorted((ROOT / "proto").rglob("*.proto"))
    stamp = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # suites that run side by side make them once
        generate_where_old(folder, protos, stamp)
    return Stubs(folder)


def generate_where_old(folder, protos, stamp):
    if not stamp.exists() or any(proto.stat().st_mtime > stamp.stat().st_mtime for proto in protos):
        generate_stubs(folder)
        stamp.touch()


def generate_stubs(folder):
    from grpc_tools import protoc

    # A package named grpc.health would hide grpcio itself: the health service gets a folder of its
    # own.
    health = folder / "grpc_health_stubs"
    health.mkdir(parents=True, exist_ok=True)
    (folder / "grpc_health_stubs" / "__init__.py").touch()
    runs = [
        (ROOT / "proto", folder, ["quire/v1/quire.proto", "google/rpc/details.proto"]),
        (ROOT / "proto" / "grpc" / "health" / "v1", health, ["health.proto"]),
    ]
    for include, out, files in runs:
        status = protoc.main(
            ["protoc", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed on {' '.join(files)}")
    source = health / "health_pb2_grpc.py"
    source.write_text(source.read_text().replace("import health_pb2", "from . import health_pb2"))


class Server:
    """A running `quire serve`."""

    def __init__(self, process, log_path, stubs):
        self.process, self.log_path, self._stubs = process, log_path, stubs
        self.address = None
        self._channels = []

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, seconds=READY_SECONDS):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready = re.search(
                r"^.*\bevent\W+ready\b.*\baddress\"?[=:]\"?([^\s\"]+)", self.log(), re.MULTILINE
            )
            if ready:
                self.address = ready.group(1)
                return
            if self.process.poll() is not None:
                pytest.fail(
                    f"the server ended with {self.process.returncode} before it was ready:\n"
                    f"{self.log()}"
                )
            time.sleep(0.01)
        pytest.fail(f"the server was not ready within {seconds} s:\n{self.log()}")

    def channel(self, options=()):
        import grpc

        # A proxy of the machine is not for the loopback; a fresh channel is a fresh connection.
        fixed = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 64 << 20),
        ]
        channel = grpc.insecure_channel(self.address, options=fixed + list(options))
        self._channels.append(channel)
        return channel

    def stub(self, options=()):
        """A Quire stub over a connection of its own."""
        return self._stubs.quire_grpc.QuireStub(self.channel(options))

    def health(self):
        return self._stubs.health_grpc.HealthStub(self.channel())

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) * 1024

    def stop(self, expect=0):
        """SIGTERM, and the exit status that a drained server has."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the server did not end within {STOP_SECONDS} s of SIGTERM:\n{self.log()}")
        assert status == expect, f"the server ended with {status}:\n{self.log()}"


@pytest.fixture
def server(quire, model, stubs, tmp_path):
    """server(*options, model=FILE, env={}) starts a server on a free port; all are stopped, and
    must stop well."""
    with server_factory(quire, model, stubs, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def module_server(quire, model, stubs, tmp_path_factory):
    """The same for servers that the tests of one file share."""
    with server_factory(quire, model, stubs, tmp_path_factory.mktemp("servers")) as start:
        yield start


@contextlib.contextmanager
def server_factory(quire, model, stubs, folder):
    default_model, started, lock = model, [], threading.Lock()

    def start(*options, model=None, env=None, listen="127.0.0.1:0", ready_seconds=READY_SECONDS):
        with lock:
            log_path = folder / f"server-{len(started)}.log"
            command = [
                quire,
                "serve",
                "--model",
                model or default_model,
                "--listen",
                listen,
                *options,
            ]
            with log_path.open("wb") as log:
                process = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **(env or {})},
                )
            server = Server(process, log_path, stubs)
            started.append(server)
        server.wait_ready(ready_seconds)
        return server

    try:
        yield start
    finally:
        try:
            for server in started:
                if server.process.poll() is None:
                    server.stop()
        finally:
            for server in started:
                if server.process.poll() is None:
                    server.process.kill()
                    server.process.wait()
