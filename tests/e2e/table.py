"""Prints which families of models have passed which checks with their matrices of each tensor type;
fails for a cell that lacks one.

Used by scripts/test; reads what tests/e2e/families_test.py told of what passed, in ctest's JUnit
XML. That test fails where the program runs a family or a type that the table does not have.
"""

import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))

from make_cell_models import FAMILIES, KINDS  # noqa: E402

TEST = "e2e.families"
CHECKS = {
    "logits": "within 0.1, rms 8e-3, of doubles over the dequantised file",
    "bytes": "the same bytes in other chunks, in company, by one thread",
    "greedy": "the engine's greedy ids are those of its logits, and of the doubles where these are "
    "clear",
}


def read_results(text):
    """{(family, type, check)}, or None where the test did not run."""
    for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
        if case.get("name") == TEST and case.get("status") not in ("notrun", "disabled"):
            lines = re.findall(
                r"^cell\|(.*)\|(.*)\|(.*)$", case.findtext("system-out") or "", flags=re.MULTILINE
            )
            return set(lines)
    return None


def table(passed):
    """(lines to print, cells that lack something)"""
    width = max(len(family) for family in FAMILIES)
    lines = [f"{'':{width}} " + " ".join(f"{kind:>6}" for kind in KINDS)]
    lacking = []
    for family in FAMILIES:
        cells = []
        for kind in KINDS:
            checks = [check for check in CHECKS if (family, kind, check) in passed]
            cells.append("".join(check[0] for check in checks) or "-")
            if len(checks) < len(CHECKS):
                lacking.append(f"{family}, {kind}")
        lines.append(f"{family:{width}} " + " ".join(f"{cell:>6}" for cell in cells))
    return lines + [f"{check[0]}: {meaning}" for check, meaning in CHECKS.items()], lacking


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("--all", action="store_true", help="all tests have run")
    options = parser.parse_args(arguments)
    passed = read_results(options.results.read_text())
    if passed is None:
        print(f"{TEST} did not run")
        return 1 if options.all else 0
    lines, lacking = table(passed)
    print(*lines, sep="\n")
    for cell in lacking:
        print(f"not all of it passed: {cell}")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
