"""The Python package as a user meets it: installed by pip into a fresh environment, against a server."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT

PACKAGE = ROOT / "clients" / "python"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment into which `pip install ./clients/python` went."""
    folder = tmp_path_factory.mktemp("client")
    clone = folder / "clone"  # what git holds, so that nothing of the work tree helps
    for part in ("clients/python", "proto"):
        shutil.copytree(
            ROOT / part,
            clone / part,
            ignore=shutil.ignore_patterns("build", "*_pb2*", "*.egg-info", "__pycache__"),
        )
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    interpreter = folder / "env" / "bin" / "python"
    subprocess.run(
        [interpreter, "-m", "pip", "install", "--quiet", f"{clone / 'clients/python'}[test]"],
        check=True,
    )
    return interpreter


@pytest.fixture(scope="module")
def running(module_server):
    return module_server()


def run(python, server, arguments, folder):
    environment = dict(os.environ, QUIRE_SERVER=server.address, no_proxy="127.0.0.1")
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def test_the_packages_own_tests_pass(python, running, tmp_path):
    done = run(
        python, running, ["-m", "pytest", "-q", "-p", "no:cacheprovider", PACKAGE / "tests"],
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.parametrize(
    "example, words",
    [
        (["complete.py"], "Paris"),
        (["chat.py"], "The capital of France is Paris."),
        (["cancel.py"], "Count|[0-9]"),
    ],
)
def test_examples_run(python, running, tmp_path, example, words):
    path = PACKAGE / "examples" / example[0]
    done = run(python, running, [path, *example[1:]], tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(words, done.stdout), done.stdout


def test_the_summary_example_covers_a_file(python, running, tmp_path):
    text = tmp_path / "long.txt"
    text.write_text("Quire keeps the keys and values of long documents in pages. " * 40)
    done = run(python, running, [PACKAGE / "examples" / "summarize.py", text], tmp_path)
    assert done.returncode == 0, done.stderr
    n = text.stat().st_size
    assert f"covered {n} of {n} bytes" in done.stderr


def test_no_stub_is_committed():
    tracked = subprocess.run(
        ["git", "ls-files", "clients/python"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert "_pb2" not in tracked
    assert BUILD.exists()
