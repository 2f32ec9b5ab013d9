#!/usr/bin/env python3
"""limits_law.py finds each kind of breach in a small house."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import limits_law  # noqa: E402

LIMITS = "#ifndef QUIRE_LIMITS_H\n#define QUIRE_LIMITS_H\n#define CUPS_MAX 4 /* cups */\n#endif\n"
TEST = "static void test_cups__limit(void **s) { use(CUPS_MAX); }\n{ cmocka_unit_test(test_cups__limit), };\n"


class LimitsLaw(unittest.TestCase):
    def found(self, table, limits=LIMITS, test=TEST):
        with tempfile.TemporaryDirectory() as root:
            for path, text in (("limits.h", limits), ("tests/limits/limits.txt", table),
                               ("tests/cups_test.c", test)):
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return list(limits_law.breaches(root))

    def test_a_limit_with_its_test_or_a_reason_is_fine(self):
        self.assertEqual(self.found("# cups\nCUPS_MAX  tests/cups_test.c  test_cups__limit\n"), [])
        self.assertEqual(self.found("CUPS_MAX  -  nobody meets it\n"), [])

    def test_a_limit_without_a_line_is_named(self):
        self.assertIn("CUPS_MAX has no line", self.found("")[0])

    def test_a_line_must_be_true(self):
        for table, words in (
            ("CUPS_MAX  tests/gone_test.c  test_cups__limit\n", "there is no tests/gone_test.c"),
            ("CUPS_MAX  tests/cups_test.c  test_cups\n", "has no test test_cups"),
            ("CUPS_MAX  tests/cups_test.c\n", "has no test"),
            ("CUPS_MAX  -  why\n", "say why"),
        ):
            self.assertIn(words, self.found(table)[0])

    def test_no_line_twice_or_for_nothing(self):
        row = "CUPS_MAX  -  nobody meets it\n"
        self.assertIn("as well", self.found(row + row)[0])
        self.assertIn("limits.h has no PLATES_MAX", self.found(row + row.replace("CUPS", "PLATES"))[0])


if __name__ == "__main__":
    unittest.main()
