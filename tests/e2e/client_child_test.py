"""--model: a server of its own, as a child that ends with the command, however that ends."""

import os
import re
import signal
import subprocess
import time

import pytest

from client_runs import (ANSWER, BROKEN_PIPE, INTERRUPTED, LONG, QUESTION, SECONDS, children_of,
                         is_alive, on_terminal, run, start_on_terminal, wait_until)


def test_a_model_is_served_by_a_child_that_leaves_nothing(run, model):
    ran = run("generate", "--model", model, "--chat", "--prompt", QUESTION, "--temperature", "0",
              "--threads", "1", "--kv-dtype", "f32", "--max-context", "1024")
    assert (ran.status, ran.text) == (0, ANSWER)
    assert list(run.scratch.iterdir()) == []


def test_a_child_that_cannot_serve_says_why(run, tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    ran = run("model", "--model", bad)
    assert ran.status == 1 and "bad.gguf" in ran.err and "ended with 1" in ran.err
    assert list(run.scratch.iterdir()) == []
    wrong = run("model", "--model", bad, "--kv-dtype", "f17")
    assert wrong.status == 2 and "--kv-dtype takes f16, f32" in wrong.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(quire, model, tmp_path, number):
    with subprocess.Popen(
        [quire, "generate", "--model", model, "--prompt", "Once", *LONG],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        process.stdout.read(1)
        (child,) = children_of(process.pid)
        assert list(tmp_path.iterdir()) == []  # removed as soon as the connection stood
        process.send_signal(number)
        process.stdout.read()
        process.wait(SECONDS)
        wait_until(lambda: not is_alive(child))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_child_that_starts_or_loads_ends_with_its_parent(quire, model, tmp_path, delay):
    with subprocess.Popen(
        [quire, "model", "--model", model], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        wait_until(lambda: children_of(process.pid) or process.poll() is not None)
        time.sleep(delay)
        children = children_of(process.pid) if process.poll() is None else []
        process.kill()
        process.wait(SECONDS)
        wait_until(lambda: not any(is_alive(child) for child in children))
        assert b"ssertion" not in process.stderr.read()  # the child's too
    wait_until(lambda: list(tmp_path.iterdir()) == [])


def test_a_child_that_dies_first_is_told_of(quire, model, tmp_path):
    with subprocess.Popen(
        [quire, "generate", "--model", model, "--prompt", "Once", *LONG],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        process.stdout.read(1)
        (child,) = children_of(process.pid)
        os.kill(child, signal.SIGKILL)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert err.decode().splitlines()[-1] == (
        "quire: the server that was started for --model was ended by signal 9 (Killed)"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_child_ends_when_its_reader_goes_away(quire, model, tmp_path):
    with subprocess.Popen(
        [quire, "generate", "--model", model, "--prompt", "Once", *LONG, "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        process.stdout.read(1)
        (child,) = children_of(process.pid)
        process.stdout.close()
        assert process.wait(SECONDS) == BROKEN_PIPE
        assert process.stderr.read() == b""
    assert not is_alive(child) and list(tmp_path.iterdir()) == []


def test_loading_has_no_part_in_the_deadline(run, model):
    ran = run("health", "--model", model, "--timeout", "0.1")  # loading takes longer
    assert (ran.status, ran.text) == (0, "SERVING\n")


def test_loading_is_said_on_a_pipe_too(run, model):
    ran = run("model", "--model", model)
    assert re.search(r"^loading  .* of 92\.1 MiB", ran.err, re.MULTILINE)
    assert run("model", "--model", model, "--quiet").err == ""


def test_ctrl_c_on_a_terminal_cancels_and_ends_the_child(quire, model):
    status, shown = on_terminal(
        [quire, "generate", "--model", model, "--prompt", "Once upon a time", *LONG],
        interrupt_at=rb"\x1b\[K[^\r]*, ",
    )
    assert status == INTERRUPTED
    assert "quire:" not in shown


def test_a_terminal_gets_a_live_line_and_ends_on_a_line_of_its_own(quire, model):
    status, shown = on_terminal(
        [quire, "generate", "--model", model, "--chat", "--prompt", QUESTION, "--temperature", "0"]
    )
    assert status == 0
    assert re.search(r"\r\x1b\[Kloading  .* of 92\.1 MiB", shown)
    assert re.search(r"\r\x1b\[Kprefill  \d+ of 37 tokens", shown)
    assert re.search(re.escape(ANSWER) + r"\r\n37 prompt tokens", shown)


def test_a_terminal_that_closes_ends_the_command_and_its_child(quire, model):
    process, fd = start_on_terminal(
        [quire, "generate", "--model", model, "--prompt", "Once", *LONG]
    )
    shown = b""
    while b", " not in shown:  # it is answering
        shown += os.read(fd, 65536)
    (child,) = children_of(process.pid)
    os.close(fd)
    assert process.wait(SECONDS) == 128 + signal.SIGHUP
    wait_until(lambda: not is_alive(child))
