"""Changes the kernels one place at a time, as mutants.txt lists them; fails for each change that no
build notices.

    mutants.py --source DIR --check
    mutants.py --source DIR --work DIR --cuda DIR [--only TEXT...] [--again]

Works in a copy of the sources under --work. A change compiles what includes the changed file, links
one test and runs it: at -O2 with seeds 0 to 3, then, if all pass, under ASan and UBSan, then under
TSan. A test that fails, a compiler that refuses and a test without end have noticed. What each
change came to is kept under --work and not tried again, unless its file or its test has changed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

import mutant_list

COPIED = ("CMakeLists.txt", "CMakePresets.json", "base", "bench", "clients", "cmake", "engine",
          "kernels", "kvcache", "limits.h", "main.c", "model", "proto", "service", "tests", "tools")
BUILDS = {  # the environment of each run
    "cuda-emu": [{"EMU_SEED": str(seed)} for seed in range(4)],
    "cuda-emu-asan": [{"EMU_SEED": "0"}, {"EMU_SEED": "1"}],
    "cuda-emu-tsan": [{"EMU_SEED": "0"}, {"EMU_SEED": "1", "EMU_WORKERS": "2"}],
}
SANITIZED_CHIP = "sm90"
CPU_LIMIT_S = 20  # and what the unchanged test takes with all seeds: one without end stops there
TIMEOUT_S = 1200  # of one that waits
# a test ends with its first failure, and leaves no core
ENVIRONMENT = {**os.environ, "CMOCKA_TEST_ABORT": "1",
               "TSAN_OPTIONS": "atexit_sleep_ms=0:die_after_fork=0:halt_on_error=1"}


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          **options)
    return done.returncode, done.stdout


def bring_up_to_date(source, copy):
    """The copy becomes what the source is; files that are alike keep their times."""
    wanted = set()
    for name in COPIED:
        root = source / name
        for path in [root] if root.is_file() else root.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wanted.add(path.relative_to(source))
    for name in COPIED:
        for path in list((copy / name).rglob("*")):
            if path.is_file() and path.relative_to(copy) not in wanted:
                path.unlink()
    for path in sorted(wanted):
        to = copy / path
        if to.exists() and to.read_bytes() == (source / path).read_bytes():
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, to)


class Workshop:
    """A copy of the sources and its builds."""

    def __init__(self, source, work, cuda):
        self.copy, self.cuda = work / "tree", cuda
        self.took = {}  # (build, test, chip) that passes as it is: CPU seconds, its build's too
        self.configured = set()
        bring_up_to_date(source, self.copy)

    def first_failure(self, build, test, chip):
        """What notices, or None."""
        took = self.took.get((build, test, chip))
        limit = [] if took is None else [
            "prlimit", f"--cpu={CPU_LIMIT_S + int(took)}"]
        target = f"{test}_{chip}"
        status, said = run(["ninja", "-C", f"build-{build}", target], cwd=self.copy)
        if status != 0:
            return f"the compiler of {build}", said
        for environment in BUILDS[build]:
            name = " ".join([build, *(f"{key[4:].lower()} {value}"
                                      for key, value in environment.items())])
            try:
                status, said = run([*limit, f"build-{build}/tests/cuda_on_cpu/{target}"],
                                   cwd=self.copy, env={**ENVIRONMENT, **environment},
                                   timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                return f"{name}, without end", ""
            if status != 0:
                return name, said
        return None, ""

    def prepare(self, build, test, chip):
        """What is not changed must pass, or nothing would be shown."""
        if build not in self.configured:
            status, said = run(["cmake", "--preset", build, f"-DCUDA_ROOT={self.cuda}"],
                               cwd=self.copy)
            if status != 0:
                sys.exit(f"{build} cannot be configured:\n{said}")
            self.configured.add(build)
        if (build, test, chip) not in self.took:
            before = cpu_seconds()
            by, said = self.first_failure(build, test, chip)
            if by is not None:
                sys.exit(f"{test} of {chip} fails as it is, {by}:\n{said}")
            self.took[build, test, chip] = cpu_seconds() - before

    def noticed_by(self, mutant):
        path = self.copy / mutant.file
        text = path.read_text()
        try:
            for build in BUILDS:
                if build != "cuda-emu" and mutant.chip != SANITIZED_CHIP:
                    continue
                path.write_text(text)
                self.prepare(build, mutant.test, mutant.chip)
                path.write_text(mutant_list.changed(text, mutant))
                by, _ = self.first_failure(build, mutant.test, mutant.chip)
                if by is not None:
                    return by
            return None
        finally:
            path.write_text(text)


def key_of(source, mutant):
    """The same while the changed file, its test and the fixtures are."""
    text = mutant_list.changed((source / mutant.file).read_text(), mutant)
    digest = hashlib.sha256(text.encode())
    tests = source / "tests/kernels"
    for path in [tests / f"{mutant.test}.c", *sorted(tests.glob("*_fixture.[ch]"))]:
        digest.update(path.read_bytes())
    return f"{mutant.file} {mutant.test} {mutant.chip} {digest.hexdigest()[:16]}"


def read_results(path):
    if not path.exists():
        return {}
    return dict(json.loads(line) for line in path.read_text().splitlines())


def verdict(mutant, by):
    """(a line to print, whether all is as the list says)"""
    if by is not None:
        return f"noticed by {by}: {mutant}", not mutant.reason
    if mutant.reason:
        return f"redundant, {mutant.reason}: {mutant}", True
    return f"NOT NOTICED: {mutant}", False


def try_all(options, mutants):
    work = options.work.resolve()
    results_file = work / "results.jsonl"
    if options.again:
        results_file.unlink(missing_ok=True)
    results = read_results(results_file)
    workshop = Workshop(options.source.resolve(), work, options.cuda.resolve())
    wrong = []
    for mutant in mutants:
        key, begin = key_of(workshop.copy, mutant), time.monotonic()
        if key not in results:
            results[key] = workshop.noticed_by(mutant)
            with results_file.open("a") as out:
                out.write(json.dumps([key, results[key]]) + "\n")
        line, is_right = verdict(mutant, results[key])
        if not is_right:
            wrong.append(line)
        print(f"{time.monotonic() - begin:6.1f} s  {line}", flush=True)
    print(f"{len(mutants)} changes, {len(wrong)} not as the list says", *wrong, sep="\n")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--check", action="store_true", help="only that the list fits the sources")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--cuda", type=pathlib.Path, help="the toolkit's folder")
    parser.add_argument("--only", nargs="*", default=[""], help="changes whose text holds one")
    parser.add_argument("--again", action="store_true", help="try also what has been tried")
    options = parser.parse_args()
    wrong = mutant_list.check(options.source)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if wrong or options.check:
        return 1 if wrong else 0
    if options.work is None or options.cuda is None:
        parser.error("--work and --cuda are needed")
    mutants = mutant_list.read_list((options.source / mutant_list.LIST).read_text())
    mutants = [mutant for mutant in mutants
               if any(text in f"{mutant.file} {mutant.test} {mutant}" for text in options.only)]
    return 0 if mutants and try_all(options, mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
