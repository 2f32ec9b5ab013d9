#!/usr/bin/env python3
"""matrix.py lays out what tests printed, and finds runs that lack cases and ops without one."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import matrix  # noqa: E402

LINES = "matrix|norm|f32|widths|11\nmatrix|norm|f32|company|3\n"


def results_of(*cases):
    xml = "".join(f'<testcase name="{name}" status="{status}"><system-out>{text}</system-out>'
                  "</testcase>" for name, status, text in cases)
    return matrix.read_results(f"<testsuite>{xml}</testsuite>")


class Matrix(unittest.TestCase):
    def test_rows_are_ops_and_columns_are_runs(self):
        rows, wrong = matrix.compare(results_of(
            ("cuda-emu.cuda.cuda_norm_test.sm80.seed0", "run", LINES),
            ("cuda-emu.cuda.cuda_norm_test.sm80.medium.seed0", "run", "matrix|norm|f32|medium|2\n"),
            ("cuda-emu-tsan.cuda.cuda_norm_test.sm90.seed0.workers2", "run", LINES),
            ("kernels.cpu_norm_test", "run", ""), ("cuda.gpu.cuda_norm_test", "notrun", "")))
        self.assertEqual(wrong, [])
        lines = matrix.table(rows)
        self.assertEqual([line.split() for line in lines], [
            ["op", "dtype", "shapes", "-O2", "sm80", "TSan", "sm90"], ["seeds", "0", "0w2"],
            ["norm", "f32", "widths", "11", "11"], ["norm", "f32", "company", "3", "3"],
            ["norm", "f32", "medium", "2"]])

    def test_a_run_with_fewer_cases_is_named(self):
        for text in ("", "matrix|norm|f32|widths|11\nmatrix|norm|f32|company|2\n"):
            _, wrong = matrix.compare(results_of(
                ("cuda-emu.cuda.cuda_norm_test.sm90.seed0", "run", LINES),
                ("cuda-emu-asan.cuda.cuda_norm_test.sm90.seed1", "fail", text)))
            self.assertIn("ASan+UBSan sm90 seed 1", wrong[-1])
            self.assertIn("of norm f32 company, elsewhere 3", wrong[-1])

    def test_tsan_may_leave_out_a_type_but_no_kind_of_shapes(self):
        whole = ("cuda-emu.cuda.cuda_moe_test.sm90.seed0", "run",
                 "matrix|moe|F32|rows|3\nmatrix|moe|Q4_1|rows|3\nmatrix|moe|F32|scaled|2\n")
        seed0, seed1 = (f"cuda-emu-tsan.cuda.cuda_moe_test.sm90.seed{seed}" for seed in "01")
        few = "matrix|moe|F32|rows|1\nmatrix|moe|F32|scaled|2\n"
        rows, wrong = matrix.compare(results_of(whole, (seed0, "run", few), (seed1, "run", few)))
        self.assertEqual(wrong, [])
        self.assertEqual([line.split()[3:] for line in matrix.table(rows)[2:]],
                         [["3", "1", "1"], ["3"], ["2", "2", "2"]])
        _, wrong = matrix.compare(results_of(whole, (seed0, "run", "matrix|moe|F32|rows|1\n")))
        self.assertEqual(wrong, ["cuda_moe_test, TSan sm90 seed 0: no case of moe scaled"])
        other = few.replace("rows|1", "rows|2")
        _, wrong = matrix.compare(results_of(whole, (seed0, "run", few), (seed1, "run", other)))
        self.assertEqual(len(wrong), 1)
        self.assertIn("TSan sm90 seed 0: 1 cases of moe F32 rows, elsewhere 2", wrong[0])

    def test_every_op_of_the_backend_needs_a_case(self):
        source = pathlib.Path(__file__).resolve().parents[2]
        results = results_of(("cuda-emu.cuda.cuda_norm_test.sm90.seed0", "run", LINES))
        missing = matrix.ops_without(results, source)
        self.assertNotIn("norm", missing)
        self.assertIn("attend", missing)
        self.assertNotIn("act_bytes", missing)


if __name__ == "__main__":
    unittest.main()
