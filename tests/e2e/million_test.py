"""bench/million: a small text in the gate; with --long the whole of it, in each form of pages, and
what else wants a long text: a prefix that two share, and attention over it in prefill."""

import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests" / "recall"))

import make_recall_model  # noqa: E402
import questions  # noqa: E402

TEXT = pathlib.Path("/usr/share/common-licenses/GPL-3")


@pytest.fixture(scope="module")
def million(quire, model):
    """million(*options): the figures, of a run whose answers are all right. `model`: the file that
    the recall model has its vocabulary of."""

    def run(*options):
        command = [ROOT / "bench" / "million", "--quire", quire, *options]
        ran = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True)
        print(ran.stderr, ran.stdout, sep="")  # scripts/test --long keeps it
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout.strip().splitlines()[-1]

    return run


def test_a_small_text_is_answered_to_the_id(million):
    figures = million("--text", TEXT, "--tokens", 2000, "--questions", 2, "--seed", 3)
    assert "2 of 2 right, the first one cold and warm alike" in figures


def king_james():
    assert shutil.which("bible"), "bible is missing: scripts/setup --tests installs it"
    said = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, check=True)
    return said.stdout.decode()


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["f16", "q8", "q4"])
def test_a_million_tokens_are_answered_to_the_id(million, dtype):
    king_james()
    figures = million("--kv-dtype", dtype)
    assert "20 of 20 right, the first one cold and warm alike" in figures
    assert "1,207,908 tokens" in figures
    assert "(within 64 MiB)" in figures


@pytest.mark.long
def test_prompts_attend_over_all_of_a_long_text(million):
    king_james()
    figures = million("--layers", 8, "--tokens", 131072, "--questions", 8)
    assert "8 of 8 right, the first one cold and warm alike" in figures


@pytest.mark.long
def test_decode_behind_long_texts_is_told_beside_a_plain_read():
    """Speed is told and not asserted: attention of the recall model's only layer that sees all."""
    subprocess.run(["ninja", "-C", str(BUILD), "cpu_kernels"], check=True, capture_output=True)
    shape = ["--threads", "2", "--dim", "256", "--heads", "2", "--kv-heads", "1", "--layers", "1"]
    for depth in ("8192", "131072", "1048576"):
        for dtype in ("f16", "q8", "q4"):
            command = [str(BUILD / "bench" / "cpu_kernels"), *shape, "--dtype", dtype]
            ran = subprocess.run([*command, "--depth", depth], check=True, capture_output=True,
                                 text=True)
            (told,) = [line for line in ran.stdout.splitlines() if line.startswith("decode")]
            print(f"pages of {dtype}: {told}")


PREFIX = 100_000


class Asked:
    """A call, and the ids that it has answered so far."""

    def __init__(self, stubs, server, ids, max_tokens):
        pb = stubs.quire
        self.ids = []
        self.call = server.stub().Generate(pb.GenerateRequest(
            tokens=pb.TokenIds(ids=ids), sampling=pb.Sampling(temperature=0), ignore_eos=True,
            max_tokens=max_tokens, content=pb.CONTENT_TOKENS))

    def read_until(self, kind, n_ids=0):
        for event in self.call:
            self.ids += event.delta.tokens
            if event.HasField(kind) and len(self.ids) >= n_ids:
                return event
        raise AssertionError(f"the call ended before {kind}")


def shared_pages(stubs, server):
    """Of the layers that see everything: (held by several, held)"""
    stats = next(server.stub().WatchStats(stubs.quire.WatchStatsRequest()))
    (group,) = [group for group in stats.groups if group.window == 0]
    held = group.open + group.full
    return held - group.own, held


@pytest.mark.long
@pytest.mark.parametrize("beside", [False, True], ids=["one after the other", "at the same time"])
def test_two_that_share_a_long_prefix_hold_and_compute_it_once(stubs, module_server, beside):
    model = BUILD / "recall-4.gguf"
    make_recall_model.write_model(model, 4)
    server, pb = module_server("--max-sequences", "4", model=model), stubs.quire
    text = king_james()[: 4 * PREFIX]
    ids = list(server.stub().Tokenize(pb.TokenizeRequest(text=text)).ids)[:PREFIX]
    assert len(ids) == PREFIX
    while not server.stub().GetModel(pb.GetModelRequest()).weights_sha256:
        time.sleep(0.1)
    asked = [questions.question_at(ids, begin) for begin in questions.choose(ids, 2, seed=11)]
    first = Asked(stubs, server, ids + asked[0][0], max_tokens=8192)  # it goes on reciting
    first.read_until("accepted" if beside else "delta")
    second = Asked(stubs, server, ids + asked[1][0], max_tokens=questions.ANSWER)
    second.read_until("delta")
    n_shared, n_held = shared_pages(stubs, server)
    assert n_shared >= PREFIX // 64 and n_held <= n_shared + 2 + 8192 // 64
    finished = second.read_until("finished").finished
    computed = finished.usage.prompt_tokens - finished.cache.matched_tokens
    assert computed <= 63 + questions.QUESTION
    first.read_until("delta", questions.ANSWER)
    first.call.cancel()
    assert first.ids[: questions.ANSWER] == asked[0][1] and second.ids == asked[1][1]
