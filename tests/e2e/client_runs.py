"""What the suites of the client subcommands share: runs of the binary with pipes and on terminals."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import termios
import time

import pytest

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
SECONDS = 120
INTERRUPTED, BROKEN_PIPE = 130, 141
LONG = ["--ignore-eos", "--max-tokens", "3000", "--temperature", "0"]


class Ran:
    def __init__(self, process, out, err):
        self.status, self.out, self.err = process.returncode, out, err

    @property
    def text(self):
        return self.out.decode()

    @property
    def events(self):
        return [json.loads(line) for line in self.out.decode().splitlines()]


@pytest.fixture
def run(quire, tmp_path):
    """run(*words, given=b"") runs the binary without a terminal; scratch files have a folder of
    their own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(*words, given=b"", env=None):
        process = subprocess.Popen(
            [word if isinstance(word, bytes) else str(word) for word in (quire, *words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(scratch), **(env or {})},
        )
        try:
            out, err = process.communicate(given, timeout=SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Ran(process, out, err.decode())

    run.scratch = scratch
    return run


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


@pytest.fixture
def ask(run, server):
    """run with the server that the tests share."""

    def ask(name, *words, **more):
        return run(name, "--server", server.address, *words, **more)

    return ask


def wait_until(true, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def stats_of(stubs, server):
    return next(iter(server.stub().WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)))


def running_sequences(stubs, server):
    stats = stats_of(stubs, server)
    return stats.prefill + stats.decode + stats.queued + stats.pages_used


def children_of(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    """Running, and not a zombie that waits for its parent."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def start_on_terminal(words, term="xterm", answer=None, columns=80):
    """A process whose terminal is the descriptor; its answer may go to a file. Not by pty.fork: what
    gRPC does when Python forks may end the child."""
    fd, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, columns))
    out = os.open(answer, os.O_WRONLY | os.O_CREAT) if answer else os.dup(its_end)
    process = subprocess.Popen(
        ["setsid", "--ctty", *(str(word) for word in words)],
        stdin=its_end, stdout=out, stderr=its_end, env={**os.environ, "TERM": term},
    )
    os.close(out)
    os.close(its_end)
    return process, fd


def on_terminal(words, interrupt_at=None, term="xterm", answer=None, columns=80):
    """(exit status, what the terminal got); types Ctrl-C when it shows a pattern."""
    process, fd = start_on_terminal(words, term, answer, columns)
    shown, deadline = b"", time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # EIO: the last process of the terminal has ended
        while time.monotonic() < deadline:
            if select.select([fd], [], [], 1)[0]:
                shown += os.read(fd, 65536)
            if interrupt_at and re.search(interrupt_at, shown):
                os.write(fd, b"\x03")
                interrupt_at = None
    os.close(fd)
    return process.wait(SECONDS), shown.decode()
