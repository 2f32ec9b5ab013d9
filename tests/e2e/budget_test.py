"""tests/budget.py: the minutes of suites, added up and held to."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import budget  # noqa: E402

GATE_MOST_MINUTES = 50  # what the gate may take on any day
BUDGET = "# a comment\neverything 25 phase\nsetup 2 phase\nasan 1 asan\\..*\nunit 1 base\\..*\n"


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


def test_the_whole_fails_at_one_and_a_half_of_its_minutes(run):
    some = results(base__ring=1)
    assert run("everything 2249\n", some)[0] == 0
    status, out = run("everything 2251\n", some)
    assert status == 1 and "everything took 37.5 minutes; 37.5 is the most" in out


def test_a_test_that_no_line_takes_fails(run):
    status, out = run("setup 1\n", results(base__ring=1, sundry__x=1))
    assert status == 1 and "takes sundry.x" in out


def test_report_only_fails_nothing(run):
    assert run("setup 1000\n", results(sundry__x=1), "--report-only")[0] == 0


def test_the_committed_budget_is_well_formed():
    lines = budget.read_budget((ROOT / "tests" / "budget.txt").read_text())
    everything = dict((name, minutes) for name, minutes, _ in lines)["everything"]
    assert everything * budget.TOLERANCE <= GATE_MOST_MINUTES
    assert len({name for name, _, _ in lines}) == len(lines)
