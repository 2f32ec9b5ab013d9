"""estimate, eval, the log as JSON, --chat-format; and what cmake --install puts where."""

import json
import os
import pathlib
import re
import subprocess

import grpc
import pytest

from client_runs import QUESTION, SECONDS, ask, run, server
from conftest import ROOT

GPL = pathlib.Path("/usr/share/common-licenses/GPL-3")


# --- estimate ---


def test_an_estimate_is_what_generate_is_then_told(ask, stubs, server):
    pb, stub = stubs.quire, server.stub()
    request = pb.GenerateRequest(text="Once upon a time", max_tokens=100)
    told = stub.Estimate(pb.EstimateRequest(request=request), timeout=SECONDS)
    accepted = next(iter(stub.Generate(request, timeout=SECONDS))).accepted
    assert told.fits and not told.refusal and told.queued_ahead == 0
    assert told.prompt_tokens == accepted.prompt_tokens == 4
    assert told.max_tokens == accepted.max_tokens == 100
    model = stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
    assert told.pages == 2 and told.bytes == 2 * 64 * model.kv.bytes_per_token
    assert told.free_pages <= model.kv.pages and told.total_seconds > told.first_token_seconds > 0
    by_number = stub.Estimate(pb.EstimateRequest(prompt_tokens=4, max_tokens=100))
    assert (by_number.pages, by_number.fits) == (2, True)
    shown = ask("estimate", "--prompt", "Once upon a time", "-n", "100")
    assert shown.status == 0 and "2 pages" in shown.text and "admission     yes" in shown.text
    chat = ask("estimate", "--chat", "--prompt", QUESTION, "--json")
    assert chat.status == 0 and chat.events[0]["prompt_tokens"] > 30


def test_an_estimate_says_why_it_would_be_refused(ask, stubs, server):
    pb, stub = stubs.quire, server.stub()
    too_long = stub.Estimate(pb.EstimateRequest(prompt_tokens=100000, max_tokens=5))
    assert not too_long.fits and "100005 tokens" in too_long.refusal
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(pb.GenerateRequest(tokens=pb.TokenIds(ids=[1] * 100000), max_tokens=5)).next()
    assert caught.value.details() == too_long.refusal
    assert not stub.Estimate(pb.EstimateRequest(prompt_tokens=0)).fits
    assert not stub.Estimate(pb.EstimateRequest(prompt_tokens=4294967295)).fits
    for bad in (pb.EstimateRequest(), pb.EstimateRequest(request=pb.GenerateRequest())):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Estimate(bad)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    shown = ask("estimate", "--prompt-tokens", "100000")
    assert shown.status == 1 and "admission     no: " in shown.text
    assert ask("estimate").status == 2


# --- eval ---


def test_eval_tells_the_likelihood_that_exact_arithmetic_has(run, model):
    ran = run("eval", "-m", model, "--text", GPL, "--tokens", "512", "--kv-dtype", "f32",
              "--against-kv", "f16")
    assert ran.status == 0, ran.err
    mean = float(re.search(r"mean NLL +([\d.]+)", ran.text).group(1))
    assert abs(mean - 2.9356018) < 2e-3  # models.md 10.3: exact, F32 keys and values
    rms, most = (float(re.search(rf"logits, {name} +([\d.e+-]+)", ran.text).group(1))
                 for name in ("rms", "most"))
    assert 5e-4 < rms < 2e-2 and rms < most < 0.3  # there: 5.5e-3 and 8.2e-2
    assert "tokens             512" in ran.text and "it goes on" in ran.text


@pytest.mark.parametrize("dtype, rms_least, rms_most", [("q8", 2e-3, 0.15), ("q4", 0.1, 1)])
def test_eval_tells_what_packed_pages_cost(run, model, dtype, rms_least, rms_most):
    ran = run("eval", "-m", model, "--text", GPL, "--tokens", "384", "--kv-dtype", dtype,
              "--against-kv", "f32")
    assert ran.status == 0, ran.err
    rms = float(re.search(r"logits, rms +([\d.e+-]+)", ran.text).group(1))
    assert rms_least < rms < rms_most  # of 4096 tokens 2.4e-2 and 0.40
    wrong = run("eval", "-m", model, "--text", GPL, "--against-kv", "q9")
    assert wrong.status == 2 and "--against-kv takes f16, f32, bf16, q8 or q4" in wrong.err


def test_eval_compares_nothing_with_itself_to_zero_and_refuses_bad_texts(run, tiny, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox " * 40)
    same = run("eval", "-m", tiny["q8_0"], "--text", text, "--against-kv", "f16")
    assert same.status == 0 and "logits, most       0.000e+00" in same.text
    assert "it goes on" not in same.text
    coarse = run("eval", "-m", tiny["q8_0"], "--text", text, "--against-activations", "int8")
    assert float(re.search(r"logits, most +([\d.e+-]+)", coarse.text).group(1)) > 1e-3
    given = run("eval", "-m", tiny["q8_0"], "--text", "-", given=text.read_bytes())
    assert given.status == 0 and given.text.splitlines()[1] == same.text.splitlines()[1]
    text.write_bytes(b"ok \xff")
    assert "not UTF-8" in run("eval", "-m", tiny["q8_0"], "--text", text).err
    text.write_bytes(b"")
    assert "at least 2" in run("eval", "-m", tiny["q8_0"], "--text", text).err
    absent = run("eval", "-m", tiny["q8_0"], "--text", tmp_path / "none")
    assert absent.status == 1 and "loading" not in absent.err  # the model, for nothing
    assert run("eval", "-m", tiny["q8_0"]).status == 2


# --- serve ---


def test_the_log_can_be_json_and_holds_what_names_a_call(stubs, module_server, tiny):
    running = module_server("--log-level", "info", model=tiny["q4_0"])
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    as_json = module_server("--log-format", "json", model=tiny["q4_0"])
    stub = as_json.stub()
    _, call = stub.GetModel.with_call(
        stubs.quire.GetModelRequest(), timeout=SECONDS,
        metadata=[("x-request-id", 'one "two"'), ("traceparent", traceparent)],
    )
    stub.GetModel(stubs.quire.GetModelRequest(), timeout=SECONDS,
                  metadata=[("x-request-id", "12345")])
    echoed = dict(call.initial_metadata())
    assert (echoed["x-request-id"], echoed["traceparent"]) == ('one "two"', traceparent)
    as_json.stop()
    records = [json.loads(line) for line in as_json.log().splitlines()]
    ready = next(record for record in records if record["event"] == "ready")
    assert ready["level"] == "info" and isinstance(ready["pages"], int)
    (called,) = [record for record in records if record.get("traceparent") == traceparent]
    assert called["request_id"] == 'one "two"' and called["ts"].endswith("Z")
    assert any(record.get("request_id") == "12345" for record in records)  # a string, as any id
    assert ready["activations"] == "16"
    assert "event=ready" in running.log()


def test_a_chat_format_is_named_for_a_file_that_does_not_say_its_own(run, module_server, tiny):
    wrong = run("model", "-m", tiny["q4_0"], "--chat-format", "llama-9")
    assert wrong.status == 2 and "names no format" in wrong.err and "mistral-v7" in wrong.err
    said = run("serve", "-m", tiny["q4_0"], env={"QUIRE_CHAT_FORMAT": "llama-9"})
    assert said.status == 2 and "QUIRE_CHAT_FORMAT: " in said.err
    lacking = run("model", "-m", tiny["q4_0"], "--chat-format", "llama-3")
    assert lacking.status == 1 and "<|start_header_id|>" in lacking.err
    named = run("model", "-m", tiny["q4_0"], "--chat-format", "qwen3")
    assert named.status == 0 and "chat          qwen3" in named.text


# --- install ---


def test_install_brings_a_man_page_and_completion_of_every_option(quire, tmp_path):
    build = pathlib.Path(quire).parent
    if not (build / "quire.1").exists():
        pytest.skip(f"{build}/quire.1 is not built: ninja -C {build}")
    subprocess.run(["cmake", "--install", build, "--prefix", tmp_path], check=True,
                   stdout=subprocess.DEVNULL)
    page = (tmp_path / "share/man/man1/quire.1").read_text()
    script = tmp_path / "share/bash-completion/completions/quire"
    assert subprocess.run([tmp_path / "bin/quire", "--version"]).returncode == 0

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        told = subprocess.run(
            ["bash", "-c", f"source '{script}'; COMP_WORDS=({line}); "
             f"COMP_CWORD={len(words) - 1}; _quire; echo \"${{COMPREPLY[@]}}\""],
            stdout=subprocess.PIPE, text=True, check=True,
        )
        return told.stdout.split()

    assert complete("quire", "ch") == ["chat"]
    assert complete("quire", "serve", "--chat") == ["--chat-format"]
    assert complete("quire", "generate", "file") == []
    assert complete("quire", "serve", "--isa", "avx") == ["avx2", "avx512"]
    assert complete("quire", "logits", "--rows", "=") == ["last", "all"]  # as bash parts --rows=
    assert complete("quire", "eval", "--against-activations", "=", "i") == ["int8"]
    commands = complete("quire", "")
    assert {"serve", "chat", "estimate", "eval", "help"} <= set(commands)
    for command in commands:
        if command in ("help", "--help", "--version"):
            continue
        told = subprocess.run([quire, command, "--help"], stdout=subprocess.PIPE, text=True,
                              env={"PATH": os.environ["PATH"]}).stdout
        assert "default ;" not in told
        wanted = re.findall(r"^  (?:-.,|   ) (--[a-z0-9-]+)", told, re.MULTILINE)
        assert len(wanted) > 1 and complete("quire", command, "--") == wanted
        for option in wanted:
            assert option.replace("-", "\\-") in page
