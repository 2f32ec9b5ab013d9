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

    def test_every_op_of_the_backend_needs_a_case(self):
        source = pathlib.Path(__file__).resolve().parents[2]
        results = results_of(("cuda-emu.cuda.cuda_norm_test.sm90.seed0", "run", LINES))
        missing = matrix.ops_without(results, source)
        self.assertNotIn("norm", missing)
        self.assertIn("attend", missing)
        self.assertNotIn("act_bytes", missing)


if __name__ == "__main__":
    unittest.main()
