#!/usr/bin/env python3
"""mutant_list.py reads a list, changes one place, and finds what a list leaves out."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import mutant_list  # noqa: E402

KERNEL = """\
#define THREADS 32
static __device__ float sum(const float *x, uint32_t n)
{
    float all = 0; /* after ALL_LANES */
    for (uint32_t i = 0; i < (n); i++)
        all += x[i];
#pragma unroll
    for (int i = 0; i < 4; i++)
        all += 1;
    __syncthreads();
    __syncthreads();
    return all;
}

static void on_the_host(uint32_t n)
{
    while (n > 0)
        n--;
}
"""
NAME = "kernels/cuda/cuda_sum.cu"
WHOLE = f"""\
# words
{NAME}: cuda_sum_test
  i < (n) => i <= (n)
  __syncthreads(); [1] =>  # nobody reads
  __syncthreads(); [2] =>
"""


class MutantList(unittest.TestCase):
    def found(self, text, kernel=KERNEL):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, content in ((mutant_list.LIST, text), (NAME, kernel)):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            return mutant_list.check(root)

    def test_a_whole_list_is_fine(self):
        self.assertEqual(self.found(WHOLE), [])

    def test_a_line_says_file_test_chip_place_and_reason(self):
        first, second, _ = mutant_list.read_list(WHOLE.replace("_test\n", "_test sm80\n"))
        self.assertEqual((first.file, first.test, first.chip), (NAME, "cuda_sum_test", "sm80"))
        self.assertEqual((first.old, first.which, first.new), ("i < (n)", 0, "i <= (n)"))
        self.assertEqual((second.which, second.new, second.reason), (1, "", "nobody reads"))

    def test_a_change_is_made_in_its_place_alone(self):
        text = "a b a c"
        mutant = mutant_list.read_list("f: t\n  a [2] => d\n")[0]
        self.assertEqual(mutant_list.changed(text, mutant), "a b d c")

    def test_a_place_without_a_change_is_named(self):
        for line, words in ((2, ":5: "), (3, ":10: "), (4, ":11: ")):
            lines = WHOLE.splitlines(keepends=True)
            del lines[line]
            found = self.found("".join(lines))
            self.assertEqual(len(found), 1)
            self.assertIn(words, found[0])

    def test_a_line_must_fit_its_source(self):
        for bad, words in (("i < (m) => x", "stands 0 times"),
                           ("__syncthreads(); => x", "stands 2 times"),
                           ("__syncthreads(); [3] => x", "has 2 such places"),
                           ("i < (n) [1] => x", "has 1 such places"),
                           ("i < (n)", "no =>")):
            self.assertIn(words, self.found(WHOLE + f"  {bad}\n")[0])


if __name__ == "__main__":
    unittest.main()
