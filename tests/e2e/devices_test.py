"""`quire devices`: what this machine can compute with, and why there is no GPU if there is none."""

import json
import os
import subprocess


def run(quire, *options, **variables):
    return subprocess.run(
        [str(quire), "devices", *options], capture_output=True, text=True, timeout=60,
        env=os.environ | variables,
    )


def told(quire, **variables):
    ran = run(quire, "--json", **variables)
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    return json.loads(ran.stdout)


def test_the_cpu_is_as_the_kernel_has_it(quire):
    cpu = told(quire)["cpu"]
    assert cpu["name"]
    assert 1 <= cpu["cores"] <= len(os.sched_getaffinity(0))
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < cpu["memory_free_bytes"] <= cpu["memory_bytes"] <= physical
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = set(file.read().split())
    sets = cpu["instruction_sets"]
    assert sets[0] == "scalar" and cpu["isa"] == sets[-1]
    assert ("avx2" in sets) == ({"avx2", "fma", "f16c"} <= flags)
    wide = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}
    assert ("avx512" in sets) == ("avx2" in sets and wide <= flags)


def test_fewer_cores_are_told_when_fewer_are_allowed(quire):
    one = min(os.sched_getaffinity(0))
    ran = subprocess.run(["taskset", "-c", str(one), str(quire), "devices", "--json"],
                         capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout)["cpu"]["cores"] == 1


def test_gpus_are_listed_or_one_sentence_says_why_there_are_none(quire):
    answer = told(quire)
    for index, gpu in enumerate(answer["cuda"]):
        assert gpu["index"] == index and gpu["name"] and gpu["memory_bytes"] > 0
        assert gpu["usable"] == (float(gpu["compute_capability"]) >= 8)
    assert ("cuda_why" in answer) == (answer["cuda"] == [])
    hidden = told(quire, CUDA_VISIBLE_DEVICES="")
    assert hidden["cuda"] == [] and "\n" not in hidden["cuda_why"]
    words = hidden["cuda_why"]
    assert "built without CUDA" in words or "driver" in words, words


def test_the_text_says_the_same(quire):
    ran, answer = run(quire), told(quire)
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("cpu ") and answer["cpu"]["name"] in lines[0]
    assert "instruction sets: " + " ".join(answer["cpu"]["instruction_sets"]) in lines[1]
    if answer["cuda"] == []:
        assert lines[2:] == ["cuda    none: " + answer["cuda_why"]]
    for gpu in answer["cuda"]:
        assert gpu["name"] in ran.stdout


def test_wrong_usage_is_refused(quire):
    for options in [["--what"], ["extra"]]:
        ran = run(quire, *options)
        assert ran.returncode == 2 and ran.stderr.startswith("quire: "), ran.stderr
    assert "quire devices [--json]" in run(quire, "--help").stdout
