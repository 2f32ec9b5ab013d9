"""tests/budget.py: the minutes of suites, added up and held to."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import budget  # noqa: E402

GATE_MOST_MINUTES = 50  # what the gate may take on any day
BUDGET = "# a comment\neverything 25/40 phase\nsetup 2 phase\nasan 1 asan\\..*\nunit 1 base\\..*\n"


def results(**tests):
    cases = "".join(
        f'<testcase name="{name.replace("__", ".")}" time="{seconds}" status="run"/>'
        for name, seconds in tests.items()
    )
    return f"<testsuite>{cases}</testsuite>"


@pytest.fixture
def run(tmp_path, capsys):
    def call(phases, xml, *options):
        for name, text in (("budget", BUDGET), ("phases", phases), ("results", xml)):
            (tmp_path / name).write_text(text)
        status = budget.main(
            [
                word
                for name in ("budget", "phases", "results")
                for word in (f"--{name}", str(tmp_path / name))
            ]
            + list(options)
        )
        return status, capsys.readouterr().out

    return call


def test_suites_within_their_minutes_pass(run):
    status, out = run("setup 60\n", results(base__ring=30, base__hash=20, asan__base__ring=80))
    assert status == 0
    assert "unit" in out and "83%" in out and "133%" in out


def test_a_suite_over_one_and_a_half_times_fails(run):
    status, out = run("setup 60\n", results(base__ring=50, base__hash=41))
    assert status == 1 and "unit took 1.5 minutes; 1.5 is the most" in out


def test_a_phase_over_one_and_a_half_times_fails(run):
    assert run("setup 181\n", results(base__ring=1))[0] == 1


def test_the_whole_warns_beyond_its_minutes_and_fails_at_the_most_of_its_line(run):
    some = results(base__ring=1)
    assert "beyond" not in run("everything 1500\n", some)[1]
    status, out = run("everything 2399\n", some)
    assert status == 0 and "beyond its minutes; 40 fail" in out
    status, out = run("everything 2401\n", some)
    assert status == 1 and "everything took 40.0 minutes; 40.0 is the most" in out


def test_a_test_that_no_line_takes_fails(run):
    status, out = run("setup 1\n", results(base__ring=1, sundry__x=1))
    assert status == 1 and "takes sundry.x" in out


def test_report_only_fails_nothing(run):
    assert run("setup 1000\n", results(sundry__x=1), "--report-only")[0] == 0


def test_the_committed_budget_is_well_formed():
    lines = budget.read_budget((ROOT / "tests" / "budget.txt").read_text())
    most = {name: most for name, _, most, _ in lines}
    assert most["everything"] == GATE_MOST_MINUTES
    assert len(most) == len(lines)
    assert all(minutes < at_most for _, minutes, at_most, _ in lines)
