"""Changes the kernels one place at a time, as mutants.txt lists them, and fails for each change that
no build notices.

    mutants.py --source DIR --work DIR --cuda DIR [--only TEXT] [--builds NAME...]

Each build (plain with seeds 0-3, under ASan and UBSan and under TSan with seeds 0 and 1) is made
once in a copy of the sources under --work; a change then compiles one file. A change is noticed by
a test that fails, or by a compiler that refuses it.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

LIST = "tests/cuda_on_cpu/mutants.txt"
COPIED = ("CMakeLists.txt", "CMakePresets.json", "base", "bench", "clients", "cmake", "engine",
          "kernels", "kvcache", "limits.h", "main.c", "model", "proto", "service", "tests", "tools")
SEEDS = {"cuda-emu": range(4), "cuda-emu-asan": range(2), "cuda-emu-tsan": range(2)}
CHIP = "sm90"


def read_mutants(text):
    """[(file, test, old, which, new, reason)] in the order of the list."""
    mutants, file, test = [], None, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            file, test = line.split(": ")
            continue
        change, _, reason = line.partition("  # ")
        old, arrow, new = change.strip().partition(" =>")
        if not arrow:
            sys.exit(f"{LIST}:{number}: no => in it")
        place = re.search(r" \[(\d+)\]$", old)
        which = int(place.group(1)) if place else 1
        mutants.append((file, test, old[:place.start()] if place else old, which, new.strip(),
                        reason.strip()))
    return mutants


def changed(text, old, which, new):
    """The text with the which-th place of old replaced."""
    at = -1
    for _ in range(which):
        at = text.find(old, at + 1)
        if at < 0:
            return None
    return text[:at] + new + text[at + len(old):]


def quiet(command, **options):
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False, **options)
    return run.returncode, run.stdout


def copy_sources(source, copy):
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, copy / name)
        else:
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, copy / name)


def configure(copy, build, cuda_root, tests):
    status, said = quiet(["cmake", "--preset", build, f"-DCUDA_ROOT={cuda_root}"], cwd=copy)
    if status == 0:
        status, said = quiet(["ninja", "-C", f"build-{build}", *tests], cwd=copy)
    if status != 0:
        sys.exit(f"{build} does not build as it is:\n{said}")


def noticed_by(copy, builds, test):
    """The build and seed whose test fails, or None."""
    for build in builds:
        target = f"{test}_{CHIP}"
        status, _ = quiet(["ninja", "-C", f"build-{build}", target], cwd=copy)
        if status != 0:
            return f"{build}'s compiler"
        for seed in SEEDS[build]:
            environment = {**os.environ, "EMU_SEED": str(seed), "TSAN_OPTIONS": "atexit_sleep_ms=0"}
            try:
                status, _ = quiet([f"build-{build}/tests/cuda_on_cpu/{target}"], cwd=copy,
                                  env=environment, timeout=120)
            except subprocess.TimeoutExpired:
                return f"{build} seed {seed}, which does not end"
            if status != 0:
                return f"{build} seed {seed}"
    return None


def try_mutant(copy, builds, mutant):
    """A line to print, and whether all is as the list says."""
    file, test, old, which, new, reason = mutant
    path = copy / file
    text = path.read_text()
    mutated = changed(text, old, which, new)
    if mutated is None:
        return f"{file} has no place {which} of: {old}", False
    path.write_text(mutated)
    by = noticed_by(copy, builds, test)
    path.write_text(text)
    what = f"{path.name}: {old} [{which}] => {new}"
    if by is not None:
        return f"noticed by {by}: {what}", not reason
    return (f"redundant, {reason}: {what}" if reason else f"NOT NOTICED: {what}"), bool(reason)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--cuda", type=pathlib.Path, required=True, help="the toolkit's folder")
    parser.add_argument("--only", default="", help="changes of files whose name holds this")
    parser.add_argument("--builds", nargs="+", default=list(SEEDS), choices=list(SEEDS))
    options = parser.parse_args()
    mutants = [mutant for mutant in read_mutants((options.source / LIST).read_text())
               if options.only in mutant[0]]
    copy = options.work.resolve() / "mutants"
    shutil.rmtree(copy, ignore_errors=True)
    copy_sources(options.source, copy)
    tests = sorted({f"{mutant[1]}_{CHIP}" for mutant in mutants})
    for build in options.builds:
        configure(copy, build, options.cuda.resolve(), tests)
    n_wrong = 0
    for mutant in mutants:
        line, is_right = try_mutant(copy, options.builds, mutant)
        n_wrong += not is_right
        print(line, flush=True)
    shutil.rmtree(copy, ignore_errors=True)
    print(f"{len(mutants)} changes, {n_wrong} not as the list says")
    return 1 if n_wrong or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
