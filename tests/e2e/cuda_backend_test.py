"""--backend, --device and the memory of a GPU: what is chosen, what is refused, and what is told.
Programs with CUDA: one of emulated devices, which can be few, small, old or lost, and nvcc's."""

import json
import os
import re
import subprocess

import grpc
import pytest

from conftest import cuda_build

SECONDS = 120
MIB = 1 << 20
NAME = "every_head"  # the tiny model with the most heads of keys and values


@pytest.fixture(scope="session")
def quire():
    return cuda_build("build-cuda-emu")


def run(binary, *words, **variables):
    return subprocess.run(
        [str(word) for word in (binary, *words)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=SECONDS, env=os.environ | variables,
    )


def refusal(binary, *words, **variables):
    """The one sentence of a command that must fail."""
    ran = run(binary, *words, **variables)
    assert ran.returncode == 1, (ran.returncode, ran.stdout, ran.stderr)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("quire: "), ran.stderr
    return last


def serve(model, *options):
    return ("serve", "--model", model, "--listen", "127.0.0.1:0", *options)


def record(log, event):
    """The fields of the log's first record of an event, as texts."""
    line = re.search(rf"^.*\bevent={event}\b.*$", log, re.MULTILINE)
    assert line, log
    return {
        key: value.strip('"')
        for key, value in re.findall(r'(\w+)=("[^"]*"|\S+)', line.group(0))
    }


def get_model(server, stubs):
    return server.stub().GetModel(stubs.quire.GetModelRequest(), timeout=SECONDS)


# --- the choice ---


def test_auto_takes_the_gpu_and_everybody_is_told(server, stubs, tiny):
    running = server("--max-context", "64", model=tiny[NAME])
    told = record(running.log(), "ready")
    assert told["device"].startswith("cuda 0, ") and told["activations"] == "f16"
    model = get_model(running, stubs)
    assert model.device == told["device"] and model.activations == "f16"


def test_a_device_is_chosen_by_its_index(server, stubs, tiny):
    running = server("--device", "1", "--max-context", "64", model=tiny[NAME],
                     env={"EMU_DEVICES": "2"})
    assert get_model(running, stubs).device.startswith("cuda 1, ")
    other = server("--max-context", "64", model=tiny[NAME],
                   env={"EMU_DEVICES": "2", "QUIRE_BACKEND": "cuda", "QUIRE_DEVICE": "1"})
    assert get_model(other, stubs).device.startswith("cuda 1, ")


@pytest.mark.parametrize("variables, part", [
    ({"EMU_DEVICES": "0"}, "the CUDA driver shows no GPU; see nvidia-smi"),
    ({"EMU_DRIVER": "0"}, "there is no CUDA driver; install NVIDIA's"),
    ({"EMU_DRIVER": "12020"}, "the CUDA driver is one of CUDA 12.2"),
])
def test_without_a_gpu_auto_is_the_cpu_and_says_so_and_cuda_is_an_error(
    server, quire, tiny, variables, part
):
    running = server("--max-context", "64", model=tiny[NAME], env=variables)
    assert record(running.log(), "ready")["device"].startswith("cpu ")
    fallback = record(running.log(), "backend")
    assert fallback["chosen"] == "cpu" and part in fallback["reason"]
    assert part in refusal(quire, *serve(tiny[NAME], "--backend", "cuda"), **variables)
    assert part in refusal(quire, *serve(tiny[NAME], "--device", "0"), **variables)
    assert part in run(quire, "devices", **variables).stdout


def test_a_device_that_does_not_exist_is_refused_with_how_many_there_are(quire, tiny):
    for options in (["--device", "3"], ["--backend", "cuda", "--device", "3"]):
        said = refusal(quire, *serve(tiny[NAME], *options))
        assert "there is no GPU 3: the driver shows 1" in said and "--device" in said
    said = refusal(quire, "logits", "-m", tiny[NAME], "--tokens", "1", "-o", "/dev/null",
                   "--device", "1")
    assert "there is no GPU 1" in said
    assert "no GPU 2" in refusal(quire, "bench", "-m", tiny[NAME], "--depth", "0",
                                "--device", "2")
    assert "leave one of them out" in refusal(
        quire, *serve(tiny[NAME], "--backend", "cpu", "--device", "0"))


def test_what_only_the_cpu_does_is_refused_by_cuda_and_leads_auto_to_the_cpu(quire, tiny):
    logits = ("logits", "-m", tiny[NAME], "--tokens", "1,2", "-o", "/dev/null")
    for options in (["--isa", "scalar"], ["--activations", "int8"], ["--activations", "f32"]):
        said = refusal(quire, *logits, "--backend", "cuda", *options)
        assert " ".join(options) in said and "--backend cpu" in said
        ran = run(quire, *logits, *options)
        assert ran.returncode == 0 and " ".join(options) in record(ran.stderr, "backend")["reason"]


def test_a_client_passes_the_choice_on(quire, tiny):
    ran = run(quire, "model", "--model", tiny[NAME], "--backend", "cuda", "--device", "0",
              "--max-context", "64", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["device"].startswith("cuda 0, ")
    ran = run(quire, "generate", "--model", tiny[NAME], "--prompt", "x", "--device", "9")
    assert ran.returncode == 1 and "there is no GPU 9" in ran.stderr
    assert run(quire, "generate", "--prompt", "x", "--device", "9").returncode == 2


def test_bench_has_no_peaks_of_a_gpu(quire, tiny):
    ran = run(quire, "bench", "-m", tiny[NAME], "--backend", "cuda", "--prompt", "4", "--gen", "2",
              "--depth", "0", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["device"].startswith("cuda 0, ") and told["activations"] == "f16"
    (depth,) = told["depths"]
    assert "peaks" not in depth and "share_of_peaks" not in depth["decode"]
    assert depth["decode"]["tokens_per_s"] > 0


# --- memory ---


def small(mbytes):
    return {"EMU_DEVICE_MBYTES": str(mbytes)}


def numbers_of(log):
    return {key: int(value) for key, value in record(log, "memory").items() if value.isdigit()}


def test_the_cache_gets_what_weights_workspace_and_reserve_leave(server, stubs, tiny):
    running = server("--backend", "cuda", model=tiny[NAME], env=small(24))
    memory, model = numbers_of(running.log()), get_model(running, stubs)
    assert memory["device_bytes"] == 24 * MIB and memory["reserve_bytes"] == 24 * MIB // 16
    parts = ("weights_bytes", "workspace_bytes", "reserve_bytes", "room_bytes")
    assert sum(memory[part] for part in parts) == memory["device_bytes"]
    assert memory["kv_bytes"] == memory["room_bytes"]
    page_bytes = model.kv.bytes_per_token * model.kv.page_tokens
    assert memory["kv_bytes"] - page_bytes < model.kv.bytes <= memory["kv_bytes"]


def test_the_cache_is_no_larger_than_all_sequences_can_use(server, stubs, tiny):
    running = server("--backend", "cuda", "--max-sequences", "3", "--max-context", "100",
                     model=tiny[NAME])
    assert get_model(running, stubs).kv.pages == 3 * 2


def test_a_context_that_does_not_fit_is_refused_with_the_longest_that_does(
    server, quire, stubs, tiny
):
    options = ("--backend", "cuda", "--max-sequences", "2")
    said = refusal(quire, *serve(tiny[NAME], *options, "--max-context", "2048"), **small(4))
    most = re.search(r"([\d,]+) tokens are the most that fit", said).group(1)
    longest = int(most.replace(",", ""))
    assert "--max-context 2,048 does not fit on cuda 0" in said and 16 <= longest < 2048
    fits = server(*options, "--max-context", str(longest), model=tiny[NAME], env=small(4))
    assert get_model(fits, stubs).context_tokens == longest
    said = refusal(quire, *serve(tiny[NAME], *options, "--max-context", str(longest + 1)),
                   **small(4))
    assert "does not fit" in said
    cut = server(*options, model=tiny[NAME], env=small(4))  # nobody asked for all of it
    assert get_model(cut, stubs).context_tokens == longest
    with pytest.raises(grpc.RpcError) as beyond:
        tokens = stubs.quire.TokenIds(ids=[1] * longest)
        request = stubs.quire.GenerateRequest(tokens=tokens, max_tokens=1)
        list(cut.stub().Generate(request, timeout=SECONDS))
    assert beyond.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the memory of cuda 0" in beyond.value.details()
    assert "--max-context" not in beyond.value.details()  # a larger one would not start


def test_a_cache_that_does_not_fit_is_refused_with_what_is_left(server, quire, tiny):
    options = ("--backend", "cuda", "--max-context", "64")
    said = refusal(quire, *serve(tiny[NAME], *options, "--kv-memory", "64MiB"), **small(24))
    assert "--kv-memory 64.0 MiB does not fit on cuda 0" in said
    left = re.search(r"leaves [^(]*\((\d+) bytes\)", said).group(1)
    server(*options, "--kv-memory", left, model=tiny[NAME], env=small(24))


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(quire, model, tiny):
    said = refusal(quire, *serve(model, "--backend", "cuda"), **small(64))
    assert "its weights take" in said and "cuda 0" in said and "--device" in said
    said = refusal(quire, *serve(tiny[NAME], "--backend", "cuda", "--max-sequences", "2"),
                   **small(1))
    assert "does not hold this model: of 1.0 MiB, weights and the batch take" in said
    assert "GPU with more" in said


# --- a device that is lost ---


def test_a_lost_device_ends_calls_with_a_sentence_and_the_process_with_a_failure(
    server, stubs, tiny, tmp_path
):
    lost = tmp_path / "lost"
    running = server("--backend", "cuda", "--max-context", "2048", model=tiny[NAME],
                     env={"EMU_LOSE_WHEN": str(lost)})
    pb = stubs.quire
    request = pb.GenerateRequest(tokens=pb.TokenIds(ids=[5, 6, 7]), max_tokens=400,
                                 ignore_eos=True)
    stub = running.stub()
    calls = [stub.Generate(request, timeout=3 * SECONDS) for _ in range(2)]
    for call in calls:
        while not next(call).HasField("delta"):
            continue
    watching = stub.WatchStats(pb.WatchStatsRequest(interval_ms=1000), timeout=SECONDS)
    next(watching)
    lost.touch()
    for call in [*calls, watching]:
        with pytest.raises(grpc.RpcError) as ended:
            for _ in call:
                continue
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    for call in calls:
        assert "the device failed" in call.details() and "again" in call.details()
    with pytest.raises(grpc.RpcError) as refused:
        for _ in stub.Generate(request, timeout=SECONDS):
            continue
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert running.process.wait(SECONDS) == 1
    log = running.log()
    assert record(log, "device_error")["text"] == "unspecified launch failure"
    last = log.splitlines()[-1]
    assert last.startswith("quire: the device (cuda 0, ") and "start the server again" in last


def test_a_device_that_is_lost_before_anybody_asks_is_told_too(quire, tiny):
    said = refusal(quire, *serve(tiny[NAME], "--backend", "cuda"), EMU_LOSE_WHEN="/")
    assert "failed in the first steps" in said and "start the server again" in said
    said = refusal(quire, "logits", "-m", tiny[NAME], "--tokens", "1", "-o", "/dev/null",
                   EMU_LOSE_WHEN="/")
    assert "a step of 1 rows failed on cuda 0, " in said


# --- nvcc's program, on a machine without a driver ---


@pytest.fixture(scope="session")
def compiled():
    binary = cuda_build("build-cuda")
    told = json.loads(run(binary, "devices", "--json").stdout)
    if told["cuda"]:
        pytest.skip("a GPU is here: scripts/gpu-check runs on it")
    return binary


def test_the_compiled_program_says_why_there_is_no_gpu_and_uses_the_cpu(
    compiled, stubs, tiny, tmp_path
):
    (why,) = [line for line in run(compiled, "devices").stdout.splitlines() if "cuda" in line]
    assert "none: there is no CUDA driver" in why or "shows no GPU" in why, why
    logits = ("logits", "-m", tiny[NAME], "--tokens", "1,2,3", "-o", tmp_path / "out.npy")
    said = refusal(compiled, *logits, "--backend", "cuda")
    assert "--backend cuda: " in said and why.split("none: ")[1] in said
    assert why.split("none: ")[1] in refusal(compiled, *serve(tiny[NAME], "--backend", "cuda"))
    ran = run(compiled, *logits)
    assert ran.returncode == 0 and record(ran.stderr, "backend")["chosen"] == "cpu"
    assert (tmp_path / "out.npy").exists()
