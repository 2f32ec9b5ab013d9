"""Standard output of the client subcommands: closed, full, non-blocking, without a reader; signals."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from client_runs import (BROKEN_PIPE, INTERRUPTED, LONG, SECONDS, on_terminal, running_sequences,
                         server, stats_of, wait_until)

GPL_3 = pathlib.Path("/usr/share/common-licenses/GPL-3")


def test_a_full_disk_is_said(quire, server):
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [quire, "generate", "--prompt", "Once", "-n", "4", "--server", server.address],
            stdout=full, stderr=subprocess.PIPE, timeout=SECONDS,
        )
        assert ran.returncode == 1 and b"No space left" in ran.stderr
        ran = subprocess.run([quire, "plan", "--model", "llama4-scout"], stdout=full,
                             stderr=subprocess.PIPE, timeout=SECONDS)
    assert ran.returncode == 1 and ran.stderr.count(b"No space left") == 1


def test_live_statistics_are_drawn_over_themselves_on_a_narrow_terminal(quire, server):
    status, shown = on_terminal([quire, "stats", "--server", server.address, "-i", "0.1"],
                                interrupt_at=rb"(?s)server  .*server  .*\x1b\[J", columns=40)
    assert status == INTERRUPTED
    tables = re.split(r"\x1b\[(\d+)A", shown)
    lines = tables[0].replace("\x1b[K", "").replace("\x1b[J", "").split("\r\n")
    assert len(tables) > 2 and int(tables[1]) == len(lines) - 1 > 10
    assert max(map(len, lines)) < 40


def test_a_closed_standard_output_is_said(quire, server):
    for words in (["tokenize", "--server", server.address], ["--version"]):
        ran = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", quire, *words],
            input=b"Once", stderr=subprocess.PIPE, timeout=SECONDS,
        )
        assert ran.returncode == 1 and b"Bad file descriptor" in ran.stderr


def test_a_standard_output_that_does_not_block_loses_nothing(quire, server):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "Hello, world! " * 60000  # more than a pipe holds as ids
    with subprocess.Popen(
        [quire, "tokenize", "--server", server.address], stdin=subprocess.PIPE, stdout=writer,
    ) as process:
        os.close(writer)
        process.stdin.write(text.encode())
        process.stdin.close()
        with open(reader, "rb") as ids:
            words = ids.read().split()
        assert process.wait(SECONDS) == 0
    assert len(words) > 4 * 60000


def test_a_reader_that_goes_away_cancels_quietly(quire, stubs, server):
    process = subprocess.Popen(
        [quire, "generate", "--prompt", "Once", *LONG, "--quiet", "--server", server.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(SECONDS) == BROKEN_PIPE
    assert process.stderr.read() == b""
    process.stderr.close()
    wait_until(lambda: running_sequences(stubs, server) == 0)


def test_an_interrupted_command_does_not_wait_for_its_reader(quire, stubs, server):
    words = ["--logprobs", "20", "--json", *LONG, "--quiet", "--server", server.address]
    with subprocess.Popen(
        [quire, "generate", "--prompt", "Once", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1)
        wait_until(lambda: stats_of(stubs, server).paused == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == INTERRUPTED
    wait_until(lambda: running_sequences(stubs, server) == 0)


def test_a_reply_that_nobody_reads_ends_as_by_sigpipe(quire, server):
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [quire, "model", "--server", server.address], stdout=writer, stderr=subprocess.PIPE,
        timeout=SECONDS,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (BROKEN_PIPE, b"")


def test_a_reader_that_goes_away_ends_a_prefill_too(quire, stubs, server):
    before = stats_of(stubs, server)
    process = subprocess.Popen(
        [quire, "generate", "--prompt", f"@{GPL_3}", "-n", "8", "--quiet",
         "--server", server.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    wait_until(lambda: stats_of(stubs, server).prefill == 1)
    process.stdout.close()
    assert process.wait(SECONDS) == BROKEN_PIPE
    assert process.stderr.read() == b""
    process.stderr.close()
    wait_until(lambda: running_sequences(stubs, server) == 0)
    assert stats_of(stubs, server).generated_tokens == before.generated_tokens


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_call(quire, stubs, server, number):
    with subprocess.Popen(
        [quire, "generate", "--prompt", "Once", *LONG, "--server", server.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1)
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + number
    wait_until(lambda: running_sequences(stubs, server) == 0)


def test_a_live_line_stays_while_the_answer_goes_elsewhere(quire, server, tmp_path):
    document, answer = tmp_path / "document", tmp_path / "answer"
    document.write_bytes(GPL_3.read_bytes()[:3000])
    words = ["--section-tokens", "300", "--section-max-tokens", "30", "-n", "20"]
    status, shown = on_terminal(
        [quire, "summarize", document, *words, "--server", server.address], answer=answer
    )
    assert status == 0 and answer.read_text().count("[summary]\n") == 1
    assert shown.count("\r\x1b[K") > 5
    wiped = r"sections  [^\r]*\r\x1b\[K\r\x1b\[Ksections"  # and nothing drawn in its place
    assert not re.search(wiped, shown)
