"""tests/e2e/table.py: what passed, cell by cell, and what is missing."""

import pytest

import make_cell_models
import table

ALL = [
    (family, kind, check)
    for family in make_cell_models.FAMILIES
    for kind in make_cell_models.KINDS
    for check in table.CHECKS
]


@pytest.fixture
def run(tmp_path, capsys):
    def call(cells, *options, name=table.TEST):
        log = "\n".join("|".join(("cell", *cell)) for cell in cells)
        results = tmp_path / "results.xml"
        results.write_text(
            f'<testsuite><testcase name="{name}" status="run"><system-out>{log}</system-out>'
            "</testcase></testsuite>"
        )
        status = table.main(["--results", str(results), *options])
        return status, capsys.readouterr().out

    return call


def test_a_table_whose_cells_all_passed_is_printed(run):
    status, out = run(ALL)
    assert status == 0
    line = next(line for line in out.splitlines() if line.startswith("qwen3moe"))
    assert line.split()[1:] == ["lbg"] * len(make_cell_models.KINDS)


def test_a_check_that_did_not_pass_is_missed(run):
    without = [cell for cell in ALL if cell != ("llama4", "Q6_K", "bytes")]
    status, out = run(without)
    assert status == 1
    assert "not all of it passed: llama4, Q6_K" in out
    assert out.count("not all of it passed") == 1


def test_a_cell_that_did_not_run_is_missed(run):
    status, out = run([cell for cell in ALL if cell[:2] != ("qwen2", "F16")])
    assert status == 1
    assert "not all of it passed: qwen2, F16" in out


def test_a_table_that_was_not_made_fails_where_all_tests_ran(run):
    assert run(ALL, name="e2e.other")[0] == 0
    assert run(ALL, "--all", name="e2e.other")[0] == 1
