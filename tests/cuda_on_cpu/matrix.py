"""Prints which cases of which op have passed in which build, chip and seed: the CUDA kernels as the
CPU runs them. Fails where runs of a test differ, and, with --all, for an op without a case. The runs
under TSan, which are slow, may have fewer cases and tensor types, but each kind of shapes.

Used by scripts/test; reads what tests/kernels/matrix_fixture.c printed, in ctest's JUnit XML.
"""

import argparse
import itertools
import pathlib
import re
import sys
import xml.etree.ElementTree

OPS = "kernels/cuda/cuda_ops.c"
TEST = re.compile(r"(cuda-emu(?:-asan|-tsan)?)\.cuda\.(\w+)\.sm(\d+)(\.medium)?\.seed(\d+)"
                  r"(?:\.workers(\d+))?")
BUILDS = {"cuda-emu": "-O2", "cuda-emu-asan": "ASan+UBSan", "cuda-emu-tsan": "TSan"}
TSAN = list(BUILDS).index("cuda-emu-tsan")


def read_results(text):
    """{(test, is medium): {(build, chip, run): {(op, dtype, shapes): cases}}}"""
    results = {}
    for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
        name = TEST.fullmatch(case.get("name"))
        if name is None or case.get("status") in ("notrun", "disabled"):
            continue
        build, test, chip, medium, seed, workers = name.groups()
        lines = re.findall(r"^matrix\|(.*)\|(.*)\|(.*)\|(\d+)$", case.findtext("system-out") or "",
                           flags=re.MULTILINE)
        column = (list(BUILDS).index(build), chip, seed + (f"w{workers}" if workers else ""))
        results.setdefault((test, medium is not None), {})[column] = {
            (op, dtype, shapes): int(n) for op, dtype, shapes, n in lines}
    return results


def name_of(build, chip):
    return f"{list(BUILDS.values())[build]} sm{chip}"


def unlike(test, row, counts):
    """Sentences about the runs that have fewer cases than one of {column: cases} has."""
    most = max(counts.values(), default=0)
    return [f"{test}, {name_of(build, chip)} seed {run}: {n} cases of {' '.join(row)}, "
            f"elsewhere {most}" for (build, chip, run), n in counts.items() if n != most]


def kinds_of(rows):
    return dict.fromkeys((op, shapes) for op, _, shapes in rows)


def compare(results):
    """([(row, is medium, {column: cases})], sentences about runs that lack cases)"""
    rows, wrong = [], []
    for (test, is_medium), runs in results.items():
        all_rows = dict.fromkeys(row for run in runs.values() for row in run)
        for row in all_rows:
            counts = {column: run.get(row, 0) for column, run in runs.items()}
            rows.append((row, is_medium, counts))
            for is_tsan in False, True:
                wrong += unlike(test, row, {column: n for column, n in counts.items()
                                            if (column[0] == TSAN) == is_tsan})
        wrong += [f"{test}, {name_of(*column[:2])} seed {column[2]}: no case of {' '.join(kind)}"
                  for column, run in runs.items() if column[0] == TSAN
                  for kind in kinds_of(all_rows) if kind not in kinds_of(run)]
    return sorted(rows, key=lambda row: (row[0][0], row[1])), wrong


def table(rows):
    """Lines to print: a line a row, builds and chips side by side, in each a column a run."""
    columns = sorted({column for _, _, counts in rows for column in counts})
    groups = [(name_of(*group), list(members))
              for group, members in itertools.groupby(columns, key=lambda column: column[:2])]
    width = max(len(str(n)) for _, _, counts in rows for n in counts.values())
    width = max(width, *(len(run) for _, _, run in columns))

    def line(left, cells):
        parts = []
        for head, members in groups:
            part = "".join(f"{cells.get(column, '') or '':>{width}} " for column in members)
            parts.append(part.ljust(len(head)))
        return f"{left:39}{'  '.join(parts)}".rstrip()

    heads = "  ".join(head.ljust((width + 1) * len(members)) for head, members in groups)
    lines = [f"{'op':12} {'dtype':6} {'shapes':18} {heads}".rstrip(),
             line(f"{'':33}seeds", {column: column[2] for column in columns})]
    return lines + [line(f"{op:12} {dtype:6} {shapes:18}", counts)
                    for (op, dtype, shapes), _, counts in rows]


def ops_without(results, source):
    """Ops of the backend that no case names."""
    text = (source / OPS).read_text()
    ops = text[text.index("struct ops"):text.index("};")]
    names = [name for name in re.findall(r"\.(\w+) = cuda_\w+", ops)
             if not name.startswith("weight_") and not name.endswith("_bytes")]
    seen = {row[0] for runs in results.values() for run in runs.values() for row in run}
    return [name for name in names if name not in seen]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--all", action="store_true", help="all tests have run")
    options = parser.parse_args(arguments)
    results = {test: runs for test, runs in
               read_results(options.results.read_text()).items() if any(runs.values())}
    if not results:
        print("no CUDA kernel was run on the CPU")
        return 0
    rows, wrong = compare(results)
    if options.all:
        wrong += [f"no case of the op {name}" for name in ops_without(results, options.source)]
    print(*table(rows), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
