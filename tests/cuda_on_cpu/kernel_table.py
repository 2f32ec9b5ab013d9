"""What nvcc made of each kernel, against the table that is committed: registers, shared and local
memory by chip, and instructions that must or must not be there.

    kernel_table.py --cuda DIR --object LIB [--write]

Used by ctest (cuda.kernel_table). --write puts what is found into the table; look at the difference
before you commit it. Expectations on instructions are written by hand.
"""

import argparse
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
RESOURCES = HERE / "kernel_resources.txt"
INSTRUCTIONS = HERE / "kernel_instructions.txt"


def output_of(tool, *arguments):
    run = subprocess.run([tool, *arguments], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{tool} failed: {run.stderr}")
    return run.stdout


def short_name(mangled):
    """_Z9norm_rows9norm_args13cuda_act_rows -> norm_rows; template arguments stay as they are."""
    name = re.match(r"_Z(?:N\d+\w*?)?L?(\d+)", mangled)
    if not name:
        return mangled
    begin, length = name.end(), int(name.group(1))
    rest = mangled[begin + length:]
    arguments = re.match(r"I(.*?)EEv", rest)
    return mangled[begin:begin + length] + (f"<{arguments.group(1)}>" if arguments else "")


def read_resources(text):
    """{(kernel, chip): (registers, shared, stack, local)} of cuobjdump --dump-resource-usage."""
    found, chip, kernel = {}, None, None
    for line in text.splitlines():
        if match := re.match(r"\s*arch = (\w+)", line):
            chip = match.group(1)
        elif match := re.match(r"\s*Function (\w+):", line):
            kernel = short_name(match.group(1))
        elif match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, match.groups())
            found[kernel, chip] = (registers, shared, stack, local)
    return found


def read_mnemonics(text):
    """{(kernel, chip): {mnemonic: times}} of cuobjdump -sass."""
    found, chip, counts = {}, None, None
    for line in text.splitlines():
        if match := re.match(r"\s*arch = (\w+)", line):
            chip = match.group(1)
        elif match := re.match(r"\s*Function : (\w+)", line):
            counts = found.setdefault((short_name(match.group(1)), chip), {})
        elif match := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)", line):
            counts[match.group(1)] = counts.get(match.group(1), 0) + 1
    return found


def rows_of(path):
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def check_resources(found):
    """The compiler is pinned, so what it takes is too."""
    wanted = {(row[0], row[1]): tuple(map(int, row[2:6])) for row in rows_of(RESOURCES)}
    for key in sorted(wanted.keys() | found.keys()):
        want, got = wanted.get(key), found.get(key)
        if want is None or got is None:
            yield f"{key[0]} on {key[1]} is in {'the build' if got else 'the table'} alone"
        elif got[2] or got[3]:
            yield f"{key[0]} on {key[1]} uses {got[2]} bytes of stack, {got[3]} of local memory"
        elif got[:2] != want[:2]:
            yield (f"{key[0]} on {key[1]}: {got[0]} registers and {got[1]} bytes of shared memory,"
                   f" not {want[0]} and {want[1]}")


def check_instructions(found):
    """A row: kernel or *, chip or *, must or never, the beginning of a mnemonic."""
    for kernel, chip, rule, beginning in rows_of(INSTRUCTIONS):
        keys = [key for key in found if kernel in ("*", key[0]) and chip in ("*", key[1])]
        if not keys:
            yield f"no kernel {kernel} on {chip}, of which {beginning} is asked"
        for key in sorted(keys):
            times = sum(n for name, n in found[key].items() if name.startswith(beginning))
            if rule == "must" and times == 0:
                yield f"{key[0]} on {key[1]} has no {beginning}"
            elif rule == "never" and times > 0:
                yield f"{key[0]} on {key[1]} has {beginning} {times} times"


def write_resources(found):
    head = [line for line in RESOURCES.read_text().splitlines() if line.startswith("#")]
    lines = [f"{kernel:20} {chip:8} " + " ".join(f"{n:6}" for n in values)
             for (kernel, chip), values in sorted(found.items())]
    RESOURCES.write_text("\n".join(head + lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--cuda", type=pathlib.Path, required=True, help="the toolkit's folder")
    parser.add_argument("--object", required=True, help="what nvcc compiled")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    dump = options.cuda / "bin" / "cuobjdump"
    resources = read_resources(output_of(dump, "--dump-resource-usage", options.object))
    if options.write:
        write_resources(resources)
    mnemonics = read_mnemonics(output_of(dump, "-sass", options.object))
    reasons = list(check_resources(resources)) + list(check_instructions(mnemonics))
    for reason in reasons:
        print(reason)
    print(f"{len(resources)} kernels by chip, {sum(map(len, mnemonics.values()))} mnemonics: "
          f"{len(reasons)} not as the tables have them")
    return 1 if reasons or not resources or resources.keys() != mnemonics.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
