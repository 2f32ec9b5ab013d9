"""The Python package as a user meets it: installed by pip into a fresh environment."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

PACKAGE = ROOT / "clients" / "python"


def tracked(*folders):
    """Paths that git holds, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name]


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What git holds of the package and the protos, so that nothing of the work tree takes part."""
    folder = tmp_path_factory.mktemp("clone")
    for name in tracked("clients/python", "proto"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def python(clone, tmp_path_factory):
    """The interpreter of an environment into which `pip install ./clients/python` went."""
    environment = tmp_path_factory.mktemp("environment")
    before = everything_in(clone)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    interpreter = environment / "bin" / "python"
    subprocess.run(
        [interpreter, "-m", "pip", "install", "--quiet", "./clients/python[test]"],
        cwd=clone,
        check=True,
    )
    assert everything_in(clone) == before, "pip install left files in the source tree"
    return interpreter


@pytest.fixture(scope="module")
def running(module_server):
    return module_server()


def run(python, server, arguments, folder):
    # A proxy of the machine is not for a server on it.
    environment = dict(os.environ, QUIRE_SERVER=server.address, grpc_proxy="http://127.0.0.1:9")
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


def test_the_cancel_example_sees_its_pages_come_back(python, running, tmp_path):
    done = run(python, running, [PACKAGE / "examples" / "cancel.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert 10 < len(done.stdout) < 1000
    assert done.stderr.splitlines()[-1] == "pages in use: 0, sequences that decode: 0"


@pytest.mark.parametrize("example", sorted(path.name for path in PACKAGE.glob("examples/*.py")))
def test_an_example_without_a_server_ends_with_a_sentence(python, tmp_path, example):
    environment = dict(os.environ, QUIRE_SERVER=f"unix:{tmp_path}/nobody")
    done = subprocess.run(
        [python, PACKAGE / "examples" / example],
        env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{example[:-3]}: UNAVAILABLE: ")


def test_no_stub_is_committed():
    assert not [name for name in tracked("clients/python") if "_pb2" in name]
