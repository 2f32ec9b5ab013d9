"""`scripts/gpu-check --emulate`: all of its logic without a GPU, with tiny shapes. Speed means
nothing here, and nothing here looks at it."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

BUILD = ROOT / "build-cuda-emu"
PROGRAM = BUILD / "bench" / "cuda" / "gpu_check"
SECONDS = 300

pytestmark = pytest.mark.skipif(
    os.environ.get("QUIRE_CUDA_BUILDS") == "no" or not PROGRAM.exists(),
    reason="build-cuda-emu is not built: scripts/test builds it",
)


def gpu_check(*options, emulate=True, **variables):
    """(what it did, its report or None)"""
    output = next((options[i + 1] for i, name in enumerate(options) if name == "--output"), None)
    kind = ["--emulate", "--build", str(BUILD)] if emulate else []
    ran = subprocess.run(
        [str(ROOT / "scripts" / "gpu-check"), *kind, *map(str, options)],
        capture_output=True, text=True, timeout=SECONDS, env=os.environ | variables,
    )
    report = pathlib.Path(output) if output else None
    return ran, json.loads(report.read_text()) if report and report.exists() else None


def program(*options, **variables):
    return subprocess.run(
        [str(PROGRAM), *map(str, options)],
        capture_output=True, text=True, timeout=SECONDS, env=os.environ | variables,
    )


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def build_of(folder, **tests):
    """A folder like a build: the real program, and these scripts as tests of ops."""
    (folder / "bench" / "cuda").mkdir(parents=True)
    (folder / "bench" / "cuda" / "gpu_check").symlink_to(PROGRAM)
    for name, text in tests.items():
        script(folder / "tests" / "cuda_on_cpu" / name, text)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run of everything."""
    output = tmp_path_factory.mktemp("gpu_check") / "new folder" / "report.json"
    ran, report = gpu_check("--no-build", "--output", output)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran, report


def test_every_test_of_an_op_runs_and_passes(whole):
    _, report = whole
    outcomes = {test["name"]: test["outcome"] for test in report["tests"]}
    sources = (ROOT / "tests" / "kernels").glob("cuda_*_test.c")
    ops = {"op." + path.name.removesuffix("_test.c") for path in sources}
    assert ops | {"op.layout", "op.wrapper"} <= set(outcomes)
    assert set(outcomes.values()) == {"passed"} and report["n_failed"] == 0


def test_a_model_is_held_beside_the_cpu_and_to_law_2(whole):
    _, report = whole
    names = {test["name"] for test in report["tests"]}
    for weights in ("Q4_0", "Q4_1", "Q8_0", "F16", "BF16", "F32", "Q4_K", "Q5_1", "Q6_K", "MXFP4",
                    "scout"):
        assert {f"model.logits_near_cpu.{weights}", f"model.ids_as_cpu.{weights}"} <= names
    for group in ("law2", "law2.scout"):
        assert {f"{group}.{what}" for what in ("chunks", "decode", "graph", "company")} <= names
    for test in report["tests"]:
        if test["name"].startswith("model.ids_as_cpu"):
            other, _, sure = test["note"].split()[:3]
            assert int(other) == 0 < int(sure)


def test_the_report_says_that_it_is_emulated_and_where_it_was_made(whole):
    ran, report = whole
    assert report["emulated"] is True and report["version"] == 2
    assert "EMULATED" in ran.stdout and "mean nothing" in ran.stdout
    assert "emulated" in report["device"]["name"] and report["device"]["major"] == 9
    assert report["device"]["memory_bytes"] > 0
    assert report["peaks"]["copy_bytes_per_s"] > 0 and report["peaks"]["mma_ops_per_s"] > 0
    assert report["seconds"] > 0 and report["commit"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["date"])
    dense, scout = report["models"]
    for model in dense, scout:
        assert model["synthetic"] and model["weights"] == "Q4_0" and model["weights_bytes"] > 0
        assert f"{model['name']}, Q4_0, " in ran.stdout
    assert "are a seed's" in ran.stdout


def test_each_kernel_is_measured_at_one_row_and_at_a_step(whole):
    ran, report = whole
    kernels = report["kernels"]
    ops = {"linear", "linear_glu", "embed", "norm", "rope_append", "page_seal", "attend", "gather",
           "sample", "page_zero", "page_copy"}
    assert {kernel["name"] for kernel in kernels} == ops
    for kernel in kernels:
        assert kernel["seconds"] > 0 and kernel["read_bytes"] + kernel["written_bytes"] > 0
        assert kernel["shape"] in ran.stdout
    for name in ("linear", "linear_glu", "attend"):
        assert all(kernel["mma_ops"] > 0 for kernel in kernels
                   if kernel["name"] == name and "bf16" not in kernel["shape"])
    one, many = (next(kernel for kernel in kernels if kernel["name"] == "norm"
                      and kernel["shape"].startswith(rows)) for rows in ("1 ", "40 "))
    assert many["written_bytes"] == 40 * one["written_bytes"]


def test_pages_of_each_type_are_attended_over_and_packed(whole):
    _, report = whole
    read, packed = ({kernel["shape"]: kernel for kernel in report["kernels"]
                     if kernel["name"] == name} for name in ("attend", "page_seal"))
    steps = [f"{rows} rows at the end of {end}, " for rows, end in ((1, 600), (40, 128))]
    assert set(read) == {f"{step}{dtype} pages" for step in steps
                         for dtype in ("f16", "bf16", "q8", "q4")}
    assert set(packed) == {f"{steps[1]}{dtype} pages" for dtype in ("q8", "q4")}
    of = [read[f"{steps[0]}{dtype} pages"]["read_bytes"] for dtype in ("f16", "q8", "q4")]
    assert of[0] > 1.5 * of[1] > 2 * of[2]  # less than 2 and 4: scales, and the row's own page
    for kernel in packed.values():
        assert kernel["read_bytes"] > 1.5 * kernel["written_bytes"]


def test_tokens_are_decoded_behind_each_context_and_a_prompt_is_read(whole):
    _, report = whole
    dense, scout = (model["name"] for model in report["models"])
    decode = [run for run in report["decode"] if run["model"] == dense]
    assert [run["context"] for run in decode] == [64, 512, 1100, 16384]
    reads = [run["read_bytes"] / run["tokens"] for run in decode]
    assert reads == sorted(reads)
    # 2 layers of 2 heads of 64 values of K and of V, two bytes each, for 15,284 tokens more
    assert reads[3] - reads[2] == pytest.approx(2 * 2 * 2 * 64 * 2 * 15284, rel=0.02)
    assert report["prefill"][-1]["tokens"] == report["prefill"][-1]["context"] == 256
    # of 3 layers a chunk of 128, of the fourth all 448 tokens more; a chunk begins at 512
    decode = [run for run in report["decode"] if run["model"] == scout]
    assert [run["context"] for run in decode] == [64, 512]
    reads = [run["read_bytes"] / run["tokens"] for run in decode]
    assert 0 < reads[1] - reads[0] < 2 * 2 * 64 * 2 * 448
    assert report["cut"] == [] and report["does_not_fit"] == []
    for run in report["decode"] + report["prefill"]:
        assert run["tokens_per_s"] > 0 and run["seconds"] >= run["best_step_seconds"] > 0


def test_what_time_does_not_allow_is_named(tmp_path):
    ran, report = gpu_check("--no-build", "--part-seconds", "0.000001", "--output",
                            tmp_path / "report.json")
    assert ran.returncode == 0, ran.stderr
    assert {test["outcome"] for test in report["tests"]} == {"cut"}
    assert report["kernels"] == report["decode"] == report["prefill"] == []
    cut = "\n".join(report["cut"])
    for what in ("copy bandwidth", "law 2", "linear, ", "a tiny model, decode behind 16,384",
                 "a tiny Scout, decode behind 512", "prefill from 0"):
        assert what in cut
        assert f"cut: {what}" in ran.stdout


def test_what_does_not_fit_is_named_with_its_bytes(tmp_path):
    output = tmp_path / "report.json"
    ran = program("--output", output, EMU_DEVICE_MBYTES="12")
    report = json.loads(output.read_text())
    assert ran.returncode == 0, ran.stderr
    assert [run["context"] for run in report["decode"]] == [64, 512, 1100, 64, 512]
    lack, = (lack for lack in report["does_not_fit"] if "decode" in lack["what"])
    assert lack["what"] == "a tiny model, decode behind 16,384 tokens"
    assert 0 < lack["free_bytes"] < 12 << 20 < lack["needed_bytes"]
    assert "does not fit: a tiny model, decode behind 16,384 tokens takes" in ran.stdout


@pytest.mark.parametrize("ending", ["exit 1", "exit 77", "kill -SEGV $$"])
def test_a_test_that_fails_or_is_skipped_fails_the_whole(tmp_path, ending):
    build = build_of(
        tmp_path / "build", cuda_sound_test_sm90="exit 0",
        cuda_broken_test_sm90=f"echo its own words; {ending}",
    )
    ran, report = gpu_check("--no-build", "--build", build, "--output", tmp_path / "report.json",
                            "--seconds", "1")
    assert ran.returncode == 1
    assert "its own words" in ran.stderr
    outcomes = {test["name"]: test["outcome"] for test in report["tests"]}
    assert outcomes["op.cuda_broken"] == "failed" and outcomes["op.cuda_sound"] == "passed"
    assert report["n_failed"] >= 1


@pytest.mark.parametrize("verdict", [0, 9])
def test_on_a_gpu_the_sanitizer_sees_some_tests(tmp_path, verdict):
    """The script's way on a GPU, with a sanitizer that is a script."""
    tests = ("cuda_norm_test_gpu", "cuda_page_test_gpu", "wrapper_test_gpu")
    build = build_of(tmp_path / "build", **{name: "exit 0" for name in tests})
    script(tmp_path / "bin" / "compute-sanitizer",
           f'echo "$@" >> {tmp_path}/seen; for test; do :; done; "$test"; exit {verdict}')
    ran, report = gpu_check(
        "--no-build", "--build", build, "--output", tmp_path / "report.json", "--seconds", "1",
        emulate=False, PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    seen = (tmp_path / "seen").read_text()
    for tool in ("memcheck", "racecheck", "synccheck"):
        assert f"--tool {tool} --error-exitcode" in seen
    outcomes = {test["name"]: test["outcome"] for test in report["tests"]}
    assert outcomes["op.cuda_norm"] == "passed"
    assert outcomes["memcheck.cuda_norm"] == ("failed" if verdict else "passed")
    assert ran.returncode == (1 if verdict else 0)


def test_without_a_sanitizer_the_report_says_so(tmp_path):
    toolkits = [os.environ["PATH"], "/usr/local/cuda/bin", str(ROOT / "build" / "cuda" / "bin")]
    if shutil.which("compute-sanitizer", path=":".join(toolkits)):
        pytest.skip("compute-sanitizer is installed here")
    build = build_of(tmp_path / "build", cuda_norm_test_gpu="exit 0")
    ran, report = gpu_check("--no-build", "--build", build, "--output", tmp_path / "report.json",
                            "--seconds", "1", emulate=False, CUDA_HOME="/none", CUDA_ROOT="/none")
    assert ran.returncode == 0, ran.stderr
    assert {"compute-sanitizer": "absent"}.items() <= {
        test["name"]: test["outcome"] for test in report["tests"]}.items()


def test_no_device_is_one_sentence():
    ran = program(EMU_DEVICES="0")
    assert ran.returncode == 1 and ran.stdout == ""
    assert ran.stderr.startswith("gpu-check: ") and ran.stderr.count("\n") == 1


def test_missing_tools_are_named_with_what_installs_them(tmp_path):
    for name in ("bash", "env", "dirname", "mktemp", "awk", "rm", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name))
    ran, _ = gpu_check("--build", tmp_path / "build", PATH=str(tmp_path))
    assert ran.returncode == 1
    assert "apt-get install cmake ninja-build gcc g++ pkg-config libcmocka-dev" in ran.stderr


def test_wrong_usage_is_refused():
    for options in (["--what"], ["--seconds"], ["--seconds", "soon"]):
        ran, _ = gpu_check(*options)
        assert ran.returncode == 2 and "scripts/gpu-check --help" in ran.stderr
    assert "--emulate" in gpu_check("--help")[0].stdout
    assert program("--what").returncode == 2
