"""The client subcommands as a user meets them: pipes and terminals, exit codes, JSON, Ctrl-C."""

import json
import pathlib
import re
import subprocess

import pytest

import real_model
from client_runs import (ANSWER, INTERRUPTED, QUESTION, SECONDS, ask, on_terminal, run,
                         running_sequences, server, wait_until)

GPL_3 = pathlib.Path("/usr/share/common-licenses/GPL-3")


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


def test_generate_biases_tokens(ask):
    words = ["--prompt", real_model.TEXTS["P1"], "--temperature", "0", "-n", "1", "--quiet"]
    assert ask("generate", *words).text == " Paris"
    assert ask("generate", *words, "--logit-bias", "28:1,7042:-100").text == " the"


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
    minutes, seconds = map(int, re.search(r"written in (\d+):(\d+), ", ran.err).groups())
    phases = {line.split("  ")[0] for line in ran.err.splitlines() if "  " in line}
    plain = 2 * len(phases) + (60 * minutes + seconds) // 5 + 2  # the ends, and every 5 s
    assert len(ran.err.splitlines()) <= plain
    assert re.search(r"^sections  \d+ of [\d,]+ tokens", ran.err, re.MULTILINE)
    assert not re.search(r"^upload .* tokens", ran.err, re.MULTILINE)  # those are bytes
    # A fast machine reads the last prompt between two events: where its prefill shows, it ends whole.
    prefills = re.findall(r"^prefill  ([\d,]+) of ([\d,]+) tokens", ran.err, re.MULTILINE)
    assert not prefills or prefills[-1][0] == prefills[-1][1]
    heads = re.findall(r"^\[section (\d+), bytes (\d+)-(\d+)\]$", ran.text, re.MULTILINE)
    assert [int(number) for number, _, _ in heads] == list(range(1, sections + 1))
    borders = [int(begin) for _, begin, _ in heads] + [9000]
    assert borders == [0] + [int(end) for _, _, end in heads]
    assert ran.text.count("[summary]\n") == 1 and ran.text.endswith("\n")


def test_summarize_replaces_bytes_that_are_no_utf8_when_asked_to(ask):
    document = b"The caf\xe9 was closed. "
    refused = ask("summarize", "-", "-n", "8", given=document)
    assert refused.status == 1 and "not UTF-8 at byte 7" in refused.err
    read = ask("summarize", "-", "-n", "8", "--replace-invalid", given=document)
    assert read.status == 0 and read.err.count("\n1 invalid sequence") == 1


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
    assert stats[0]["groups"][0]["kind"] == "global"
    absent = ask("stats", "--sequence", "3")
    assert absent.status == 1 and "no sequence of that number" in absent.err
    assert (ask("health").status, ask("health").text) == (0, "SERVING\n")
    assert ask("health", "--json").events == [{"event": "health", "status": "serving"}]
    unknown = ask("health", "--service", "no.such.Service")
    assert unknown.status == 1 and unknown.err.startswith("quire: ")


def test_the_server_comes_from_the_environment_too(run, server):
    assert run("health", env={"QUIRE_SERVER": server.address}).status == 0


def test_every_option_is_a_variable_too(ask):
    env = {"QUIRE_PROMPT": QUESTION, "QUIRE_CHAT": "1", "QUIRE_TEMPERATURE": "0",
           "QUIRE_STOP": " France", "QUIRE_JSON": "yes"}
    events = ask("generate", env=env).events
    assert "".join(event.get("text", "") for event in events) == "The capital of"
    env = {"QUIRE_IGNORE_EOS": "1", "QUIRE_MAX_TOKENS": "3", "QUIRE_LOGPROBS": "1",
           "QUIRE_TOP_K": "1", "QUIRE_SEED": "7"}
    assert len(ask("generate", "--prompt", "Once", env=env).text.splitlines()) == 3
    assert ask("generate", "--prompt", "x", env={"QUIRE_TOP_P": "2"}).status == 2


def test_what_is_typed_goes_before_variables(ask):
    words = ["-n", "2", "--quiet"]
    env = {"QUIRE_PROMPT": "x", "QUIRE_TOKENS": "none", "QUIRE_SYSTEM": "y", "QUIRE_MODEL": "none"}
    assert ask("generate", "--prompt", "Once", *words, env=env).status == 0
    assert ask("generate", "--tokens", "504", *words, env={"QUIRE_PROMPT": "x"}).status == 0


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
        ["generate", "--prompt"],
        ["generate", "--prompt", "x", "--temperature", "hot"],
        ["generate", "--prompt", "x", "--top-p", "1.5"],
        ["generate", "--prompt", "x", "--stop", ""],
        ["generate", "--prompt", "x", "--logit-bias", "7042=1"],
        ["generate", "--prompt", "x", "--stop", "y" * 257],
        ["generate", "--prompt", "x", "--server", "nonsense"],
        ["generate", "--prompt", "x", "--server", "[::1"],
        ["generate", "--prompt", "x", "--timeout", "-1"],
        ["generate", "--prompt", "x", "--request-id", "a\tb"],
        ["generate", "--prompt", "x", "--repetition-penalty", "0"],
        ["generate", "--tokens", "1,two"],
        ["summarize"],
        ["summarize", "one", "two"],
        ["summarize", "/dev/null", "--section-tokens", "many"],
        ["summarize", "/dev/null", "--section-tokens", "15"],
        ["detokenize", "one"],
        ["stats", "--interval", "0"],
        ["tokenize", "operand"],
        ["nonsense"],
        ["help", "nonsense"],
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


def test_help_of_a_command_and_the_version(run):
    assert run("help", "generate").out == run("generate", "--help").out
    every = run("--help")
    assert every.status == 0 and "  quire generate --chat" in every.text.split("Examples:")[1]
    version = run("--version")
    assert version.status == 0 and re.fullmatch(r"quire \d+\.\d+\.\d+\n", version.text)
    bare = run()
    assert (bare.status, bare.out) == (2, b"") and "Usage:" in bare.err


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


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["generate", "--prompt", "-"], "INVALID_ARGUMENT"),
        (["generate", "--chat", "--prompt", b"\xff"], "INVALID_ARGUMENT"),
        (["generate", "--prompt", "x", "--stop", b"\xff"], "INVALID_ARGUMENT"),
        (["generate", "--prompt", "@/no/such/file"], "NOT_FOUND"),
        (["tokenize"], "INVALID_ARGUMENT"),
        (["detokenize"], "INVALID_ARGUMENT"),
        (["summarize", "/dev/null", "--instruction", b"\xff"], "INVALID_ARGUMENT"),
        (["summarize", "/no/such/file"], "NOT_FOUND"),
    ],
)
def test_a_failure_is_an_event_of_json_too(run, server, words, status):
    ran = run(*words, "--server", server.address, "--json", given=b"caf\xe9!")
    assert (ran.status, [event["status"] for event in ran.events]) == (1, [status])
    assert ran.err.startswith("quire: ")


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


# --- terminals ---


def test_a_dumb_terminal_gets_plain_lines(quire, server):
    status, shown = on_terminal(
        [quire, "generate", "--prompt", "Once", "-n", "3", "--server", server.address], term="dumb"
    )
    assert status == 0 and "\x1b" not in shown


def test_stats_draws_the_tables_of_a_sequence(ask, stubs, server):
    request = stubs.quire.GenerateRequest(text="Once " * 200, ignore_eos=True)
    answer = server.stub().Generate(request, timeout=SECONDS)
    while not next(answer).HasField("delta"):
        pass
    shown = ask("stats", "--sequence", "0")
    answer.cancel()
    assert shown.status == 0, shown.err
    assert re.fullmatch(r"sequence 0: [A-Z]+, [\d,]+ tokens written, [\d,]+ committed, "
                        r"[\d,]+ promised\n"
                        r"global, 30 layers: pages of 64 tokens\n"
                        r"  0-\d+ +at \d+-\d+ +full\n"
                        r"(  [\d,-]+ +at [\d,-]+ +(open|full)\n)+", shown.text)


def test_stats_draws_a_table_over_itself(quire, server):
    status, shown = on_terminal(
        [quire, "stats", "--interval", "0.1", "--server", server.address],
        interrupt_at=rb"\x1b\[\d+A(.|\n)*\x1b\[\d+A(.|\n)*sequences ",
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
