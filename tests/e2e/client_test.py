"""The client subcommands as a user meets them: pipes and terminals, exit codes, JSON, Ctrl-C, and a
server of their own that ends with them."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest

import real_model

GPL_3 = pathlib.Path("/usr/share/common-licenses/GPL-3")
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
            [str(word) for word in (quire, *words)],
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


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def running_sequences(stubs, server):
    stats = next(iter(server.stub().WatchStats(stubs.quire.WatchStatsRequest(), timeout=SECONDS)))
    return stats.prefill + stats.decode + stats.queued + stats.pages_used


def children_of(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    """Running, and not a zombie that waits for its parent."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


# --- answers ---


def test_generate_answers_a_question_on_standard_output_alone(ask):
    ran = ask("generate", "--chat", "--prompt", QUESTION, "--temperature", "0")
    assert (ran.status, ran.text) == (0, ANSWER)
    assert re.search(r"37 prompt tokens .* 8 of answer .* ended by stop", ran.err)


def test_generate_reads_a_pipe_and_a_file(ask, tmp_path):
    file = tmp_path / "question.txt"
    file.write_text(QUESTION)
    words = ["--chat", "--temperature", "0", "--quiet"]
    piped = ask("generate", "--prompt", "-", *words, given=QUESTION.encode())
    read = ask("generate", "--prompt", f"@{file}", *words)
    assert (piped.text, piped.err) == (ANSWER, "")
    assert (read.text, read.err) == (ANSWER, "")


def test_generate_takes_token_ids(ask):
    ids = ",".join(str(token) for token in real_model.PROMPTS["P1"])
    ran = ask("generate", "--tokens", ids, "--temperature", "0", "-n", "48", "--json")
    made = [token for event in ran.events for token in event.get("tokens", [])]
    assert ran.status == 0
    golden = [token for token in real_model.GREEDY["P1"] if token != 2]
    assert [token for token in made if token != 2] == golden


def test_json_is_one_object_an_event(ask):
    ran = ask("generate", "--chat", "--prompt", QUESTION, "--temperature", "0", "--json",
              "--logprobs", "2", "--request-id", "seven")
    events = ran.events
    assert events[0]["event"] == "accepted" and events[0]["id"] == "seven"
    assert events[-1]["event"] == "finished" and events[-1]["reason"] == "stop"
    assert events[-1]["usage"] == {"prompt_tokens": 37, "completion_tokens": 8}
    deltas = [event for event in events if event["event"] == "delta"]
    assert "".join(delta["text"] for delta in deltas) == ANSWER
    tokens = [token for delta in deltas for token in delta["logprobs"]]
    assert bytes(byte for token in tokens for byte in token["bytes"]).decode().startswith(ANSWER)
    assert all(len(token["top"]) == 2 and token["logprob"] <= 0 for token in tokens)


def test_the_same_seed_gives_the_same_text(ask):
    words = ["--prompt", "Once", "--seed", str(2**64 - 1), "-n", "12", "--quiet"]
    first, second = ask("generate", *words), ask("generate", *words)
    assert first.status == 0 and first.out == second.out != b""


def test_a_stop_string_ends_the_answer_before_it(ask):
    ran = ask("generate", "--chat", "--prompt", QUESTION, "--temperature", "0", "--stop", "zzz",
              "--stop", " France")
    assert ran.text == "The capital of"


def test_a_prompt_with_nul_bytes_is_text_like_any_other(ask, tmp_path):
    file = tmp_path / "nul"
    file.write_bytes(b"a\0b")
    ran = ask("generate", "--prompt", f"@{file}", "-n", "2", "--temperature", "0", "--json")
    ids = ask("tokenize", given=b"a\0b")
    assert ran.status == 0
    assert ran.events[-1]["usage"]["prompt_tokens"] == len(ids.text.split())
    assert ask("detokenize", given=ids.out).out == b"a\0b"


def test_tokenize_and_detokenize_give_the_bytes_back(ask):
    text = "Hello, wörld! 日本語 <|im_end|>\n".encode()
    ids = ask("tokenize", given=text)
    assert ids.text.count("\n") == 1
    assert ask("detokenize", given=ids.out).out == text
    assert ask("detokenize", *ids.text.split()).out == text
    special = ask("tokenize", "--special", given=text)
    assert len(special.text.split()) < len(ids.text.split())
    spans = [line.split("\t") for line in ask("tokenize", "--spans", given=text).text.splitlines()]
    assert [word[0] for word in spans] == ids.text.split()
    assert b"".join(text[int(begin) : int(end)] for _, begin, end in spans) == text
    assert ask("tokenize", given=b"").out == b"\n"


def test_summarize_covers_a_document_by_sections(ask, tmp_path):
    document = tmp_path / "document"
    document.write_bytes(GPL_3.read_bytes()[:9000])
    ran = ask("summarize", document, "--section-tokens", "700", "--temperature", "0", "-n", "60",
              "--section-max-tokens", "40")
    assert ran.status == 0
    sections = int(re.search(r"covered 9000 of 9000 bytes in (\d+) sections", ran.err).group(1))
    assert sections >= 2
    assert re.search(r"^sections  \d+ of [\d,]+ tokens", ran.err, re.MULTILINE)
    assert not re.search(r"^upload .* tokens", ran.err, re.MULTILINE)  # those are bytes
    heads = re.findall(r"^\[section (\d+), bytes (\d+)-(\d+)\]$", ran.text, re.MULTILINE)
    assert [int(number) for number, _, _ in heads] == list(range(1, sections + 1))
    borders = [int(begin) for _, begin, _ in heads] + [9000]
    assert borders == [0] + [int(end) for _, _, end in heads]
    assert ran.text.count("[summary]\n") == 1 and ran.text.endswith("\n")


def test_summarize_reads_a_slow_pipe_as_it_comes(quire, server):
    with subprocess.Popen(
        [quire, "summarize", "-", "--server", server.address, "-n", "8", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:
        first = json.loads(process.stdout.readline())  # long before the document has ended
        assert first["event"] == "accepted"
        for part in (b"The cat sat ", b"on the mat.\n"):
            process.stdin.write(part)
            process.stdin.flush()
        out, _ = process.communicate(timeout=SECONDS)
        last = json.loads(out.splitlines()[-1])
        assert process.returncode == 0
        assert last["covered_bytes"] == last["total_bytes"] == 24


def test_model_stats_and_health_tell_text_and_json(ask, server):
    assert "llama, 134,515,008 parameters" in ask("model").text
    assert ask("model", "--json").events[0]["vocabulary"] == 49152
    assert re.fullmatch(r"uptime=\S+ pages=\d+ .*\n", ask("stats", "--once").text)
    stats = ask("stats", "--once", "--json").events
    assert len(stats) == 1 and stats[0]["event"] == "stats" and stats[0]["pages"] > 0
    assert (ask("health").status, ask("health").text) == (0, "SERVING\n")
    assert ask("health", "--json").events == [{"event": "health", "status": "serving"}]
    unknown = ask("health", "--service", "no.such.Service")
    assert unknown.status == 1 and unknown.err.startswith("quire: ")


def test_the_server_comes_from_the_environment_too(run, server):
    assert run("health", env={"QUIRE_SERVER": server.address}).status == 0


# --- what goes wrong ---


@pytest.mark.parametrize(
    "words",
    [
        ["generate"],
        ["generate", "--prompt", "x", "--tokens", "1"],
        ["generate", "--prompt", "x", "--system", "y"],
        ["generate", "--prompt", "x", "--seed", "-1"],
        ["generate", "--prompt", "x", "--nonsense"],
        ["generate", "--prompt", "x", "--server", "h:1", "--model", "m"],
        ["generate", "--prompt", "x", "--threads", "1"],
        ["generate", "--prompt", "x", "--max-tokens", "0"],
        ["summarize"],
        ["detokenize", "one"],
        ["stats", "--interval", "0"],
        ["tokenize", "operand"],
    ],
)
def test_wrong_usage_exits_with_2_and_a_sentence(run, words):
    ran = run(*words)
    assert (ran.status, ran.out) == (2, b"")
    assert re.fullmatch(r"quire: .+\n", ran.err)


@pytest.mark.parametrize("name", ["generate", "summarize", "tokenize", "detokenize", "model",
                                  "stats", "health"])
def test_help_has_examples(run, name):
    ran = run(name, "--help")
    assert ran.status == 0 and f"  quire {name}" in ran.text.split("Examples:")[1]


def test_no_server_is_said_with_what_to_do(run):
    ran = run("generate", "--prompt", "x", "--server", "127.0.0.1:1")
    assert ran.status == 1
    assert ran.err == (
        "quire: no server at 127.0.0.1:1 (connection refused); start one with "
        "`quire serve --model FILE`, or give --model FILE\n"
    )


def test_invalid_utf8_is_refused_with_its_offset(ask):
    ran = ask("generate", "--prompt", "-", given=b"caf\xe9!")
    assert ran.status == 1 and "0xE9 at offset 3 of 5" in ran.err


def test_a_refusal_shows_the_numbers_of_the_server(ask):
    words = ["--prompt", "x", "--max-tokens", "900000"]
    ran = ask("generate", *words)
    assert ran.status == 1 and ran.out == b""
    assert re.match(r"quire: .*900,?00\d", ran.err)
    events = ask("generate", *words, "--json").events
    assert [event["event"] for event in events] == ["error"]
    assert events[0]["code"] != 0 and events[0]["message"] and events[0]["details"]


def test_a_deadline_ends_a_call(ask, stubs, server):
    ran = ask("generate", "--prompt", "Once", "--ignore-eos", "--timeout", "0.5", "--json")
    assert ran.status == 1 and ran.events[-1]["status"] == "DEADLINE_EXCEEDED"
    wait_until(lambda: running_sequences(stubs, server) == 0)


def test_a_missing_document_is_named(ask):
    ran = ask("summarize", "/no/such/file")
    assert ran.status == 1 and "/no/such/file" in ran.err
    assert ask("summarize", "/tmp").status == 1


def test_a_full_disk_is_said(quire, server):
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [quire, "generate", "--prompt", "Once", "-n", "4", "--server", server.address],
            stdout=full, stderr=subprocess.PIPE, timeout=SECONDS,
        )
    assert ran.returncode == 1 and b"No space left" in ran.stderr


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


# --- a server of its own ---


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
    assert run("model", "--model", bad, "--kv-dtype", "f17").status == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(quire, model, tmp_path, number):
    with subprocess.Popen(
        [quire, "generate", "--model", model, "--prompt", "Once", *LONG],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        process.stdout.read(1)
        (child,) = children_of(process.pid)
        assert list(tmp_path.iterdir()) == []  # removed once the connection stood
        process.send_signal(number)
        process.stdout.read()
        process.wait(SECONDS)
        wait_until(lambda: not is_alive(child))
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_still_loads_ends_with_its_parent(quire, model, tmp_path):
    with subprocess.Popen(
        [quire, "model", "--model", model], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        wait_until(lambda: children_of(process.pid) or process.poll() is not None)
        children = children_of(process.pid)
        process.kill()
        process.wait(SECONDS)
        wait_until(lambda: not any(is_alive(child) for child in children))


# --- terminals ---


def on_terminal(words, interrupt_at=None, term="xterm"):
    """(exit status, what the terminal of 80 columns got); types Ctrl-C when it shows a pattern."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = term
        os.execv(str(words[0]), [str(word) for word in words])
    shown, deadline = b"", time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # EIO: the last process of the terminal has ended
        while time.monotonic() < deadline:
            if select.select([fd], [], [], 1)[0]:
                shown += os.read(fd, 65536)
            if interrupt_at and re.search(interrupt_at, shown):
                os.write(fd, b"\x03")
                interrupt_at = None
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_terminal_gets_a_live_line_and_ends_on_a_line_of_its_own(quire, model):
    status, shown = on_terminal(
        [quire, "generate", "--model", model, "--chat", "--prompt", QUESTION, "--temperature", "0"]
    )
    assert status == 0
    assert re.search(r"\r\x1b\[Kloading  .* of 92\.1 MiB", shown)
    assert re.search(r"\r\x1b\[Kprefill  \d+ of 37 tokens", shown)
    assert re.search(re.escape(ANSWER) + r"\r\n37 prompt tokens", shown)


def test_a_dumb_terminal_gets_plain_lines(quire, server):
    status, shown = on_terminal(
        [quire, "generate", "--prompt", "Once", "-n", "3", "--server", server.address], term="dumb"
    )
    assert status == 0 and "\x1b" not in shown


def test_ctrl_c_on_a_terminal_cancels_and_ends_the_child(quire, model):
    status, shown = on_terminal(
        [quire, "generate", "--model", model, "--prompt", "Once upon a time", *LONG],
        interrupt_at=rb"\x1b\[K[^\r]*, ",
    )
    assert status == INTERRUPTED
    assert "quire:" not in shown


def test_stats_draws_a_table_over_itself(quire, server):
    status, shown = on_terminal(
        [quire, "stats", "--interval", "0.1", "--server", server.address],
        interrupt_at=rb"\x1b\[6A(.|\n)*\x1b\[6A",
    )
    assert status == INTERRUPTED
    assert shown.count("sequences ") >= 3


def test_a_terminal_is_shown_no_controls_of_the_text(quire, ask, server):
    text = b"a\x1b[31mb\r\x07\n"
    ids = ask("tokenize", given=text)
    assert ask("detokenize", given=ids.out).out == text
    status, shown = on_terminal(
        [quire, "detokenize", "--server", server.address, *ids.text.split()]
    )
    assert (status, shown) == (0, "a\\x1B[31mb\\x0D\\x07\r\n")
