"""scripts/demo as its users run it: from anywhere, with any file, interrupted, and what it leaves."""

import os
import pathlib
import random
import re
import signal
import subprocess
import time
import uuid

import pytest

from conftest import ROOT

DEMO = ROOT / "scripts" / "demo"
SECONDS = 300
ANSWER = "The capital of France is Paris."
TEXT = "Pages hold the keys and values of a document. Tables name the pages of a sequence. " * 30


@pytest.fixture
def demo(model, tmp_path):
    """demo(*arguments, cwd, path) starts it with a temporary folder and a mark of its own."""
    (tmp_path / "scratch").mkdir()
    mark = f"DEMO_TEST={uuid.uuid4()}"
    started = []

    def start(*arguments, cwd=tmp_path, path=()):
        name, value = mark.split("=")
        process = subprocess.Popen(
            [DEMO, *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={
                **os.environ,
                "TMPDIR": str(tmp_path / "scratch"),
                "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]]),
                name: value,
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert left_running(mark) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def left_running(mark):
    """The commands of what still runs with this mark in its environment."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            pass  # it has just ended, or is not ours
    return found


def end_of(process):
    """(exit status, standard output, standard error)"""
    answers, told = process.communicate(timeout=SECONDS)
    return process.returncode, answers, told


def read_until(stream, words):
    """Lines up to the one that holds the words; a child that ends before is a failure."""
    for line in stream:
        if words in line:
            return
    pytest.fail(f"it ended without {words!r}")


@pytest.mark.parametrize("name", ["two words.txt", "-n", "$(exit 7) 'once' \"twice\" né\n東\n"])
def test_a_file_of_any_name_is_summarized_from_its_own_folder(demo, tmp_path, name):
    (tmp_path / name).write_text(TEXT)
    status, answers, told = end_of(demo("--", name))
    assert status == 0, told
    assert f"covered {len(TEXT)} of {len(TEXT)} bytes" in told
    assert answers.rstrip().endswith(ANSWER) and len(answers) > 2 * len(ANSWER)


def test_a_file_that_is_not_text_is_refused_with_the_place_of_its_first_bad_byte(demo, tmp_path):
    (tmp_path / "picture.bin").write_bytes(b"\x89PNG\r\n" + random.Random(5).randbytes(3000))
    status, answers, told = end_of(demo("picture.bin"))
    assert (status, answers) == (1, ""), told
    assert re.search("^quire: .*UTF-8.*byte 0", told, re.MULTILINE), told


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["absent.txt"], 1, "absent.txt: no such file"),
        (["."], 1, ". is not a file"),
        (["/dev/null"], 1, "/dev/null is not a file"),
        (["empty.txt"], 1, "empty.txt is empty"),
        ([""], 2, "the name of FILE is empty"),
        (["one", "two"], 2, "one FILE at most"),
        (["--loud"], 2, "unknown option --loud"),
    ],
)
def test_what_cannot_be_summarized_is_said_before_any_work(
    demo, tmp_path, arguments, status, words
):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "one").write_text("text")
    ended, answers, told = end_of(demo(*arguments))
    assert (ended, answers) == (status, "")
    assert words in told and "setup" not in told


def test_help_is_no_run(demo):
    status, answers, told = end_of(demo("--help"))
    assert (status, told) == (0, "") and answers.startswith("Usage: scripts/demo [FILE]")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_amid_the_summary_ends_all_at_once(demo, tmp_path, number):
    (tmp_path / "long.txt").write_text(TEXT * 20)
    process = demo("long.txt")
    read_until(process.stderr, "summary of")
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(number)
    assert end_of(process)[0] == 128 + number
    assert time.monotonic() - begun < 10


def test_a_signal_amid_setup_ends_what_setup_runs(demo, tmp_path):
    (tmp_path / "bin").mkdir()
    ninja = tmp_path / "bin" / "ninja"
    ninja.write_text("#!/bin/sh\necho the build begins >&2\nsleep 600\n")
    ninja.chmod(0o755)
    process = demo(path=[tmp_path / "bin"])
    read_until(process.stderr, "the build begins")
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert end_of(process)[0] == 143
    assert time.monotonic() - begun < 10
