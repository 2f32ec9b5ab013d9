"""`quire plan`: what a model takes of GPUs, told before there is one."""

import json
import subprocess


def run(quire, *options):
    return subprocess.run(
        [str(quire), "plan", *map(str, options)], capture_output=True, text=True, timeout=60
    )


def plan(quire, *options):
    ran = run(quire, "--json", *options)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def near(value, expected, share=0.03):
    assert abs(value / expected - 1) <= share, (value, expected)


def test_scout_on_one_h100_as_the_arithmetic_has_it(quire):
    for dtype, context, tokens_per_second in [
        ("f16", 131072, 200), ("q8", 131072, 256), ("q4", 131072, 300), ("q4", 1048576, 143),
    ]:
        told = plan(quire, "--model", "llama4-scout", "--gpu", "h100", "--context", context,
                    "--kv-dtype", dtype)
        near(told["weights_bytes"], 60.6e9)
        near(told["decode_tokens_per_second"], tokens_per_second, 0.06)  # its scales are f16
        assert told["fits"] and told["workspace_bytes"] > 0
        assert told["longest_context"] >= context
        packs = dtype != "f16"  # one sequence, two steps of 512 rows under way
        assert told["kv_open_bytes"] == packs * 17 * 64 * 196608
    told = plan(quire, "--model", "llama4-scout", "--context", 1048576)
    near(told["kv_global_bytes"], 51.5e9)
    assert not told["fits"] and told["longest_context"] < 1048576


def test_a_file_is_planned_with_its_own_weights(quire, model):
    told = plan(quire, "--model", model, "--gpu", "rtx4090")
    assert told["weights"] == "file" and told["fits"]
    assert told["kv_bytes"] == 23040 * 8192 and told["longest_context"] == 8192
    # the planes of Q4_1, and of its Q8_0 head, are as wide as the file's blocks
    near(told["weights_bytes"], told["file_bytes"], 0.01)


def test_weights_are_planned_as_a_gpu_holds_them(quire, tiny):
    """Of 2.6 bits in the file 12 (kernels/cuda/cuda_weight.h)."""
    told = plan(quire, "--model", tiny["q2_k"], "--gpu", "h100")
    assert told["weights_bytes"] > 3 * told["file_bytes"], told


def test_what_nobody_published_is_said(quire):
    ran = run(quire, "--model", "llama4-behemoth")
    assert ran.returncode == 0 and "not released" in ran.stdout
    assert "kv_bytes" not in plan(quire, "--model", "llama4-behemoth")


def test_bad_wishes_are_refused_with_what_to_change(quire, tmp_path):
    for options, status, words in [
        (["--model", "llama4-scout", "--gpus", "3"], 2, "8 heads"),
        (["--model", "qwen3-8b", "--context", "40961"], 2, "40,960"),
        (["--model", "nobody-7b"], 2, "llama4-scout"),
        (["--model", "llama4-scout", "--gpu", "h300"], 2, "h100"),
        (["--model", "llama4-scout", "--gpus", "0"], 2, "1"),
        (["--model", str(tmp_path / "no.gguf")], 1, "No such file"),
        (["--model", "qwen3-8b", "--kv-dtype", "local=q4"], 2, "none of the model's 36 layers"),
        (["--model", "/dev/null"], 1, "/dev/null"),
        ([], 2, "--model"),
    ]:
        ran = run(quire, *options)
        assert ran.returncode == status, (options, ran.stderr)
        assert words in ran.stderr and not ran.stdout
