"""The list of changes in mutants.txt: reads it, makes them, and says what it leaves out."""

import re
import typing

LIST = "tests/cuda_on_cpu/mutants.txt"

# Where threads meet, wait or are named; and loops. What a loop unrolls over is registers.
MEETING = re.compile(
    r"__sync(?:threads|warp)\(|cp_async_(?:commit\(|wait<)|fence\w*\(|\bALL_LANES\b"
    r"|\bm?barrier_(?:init|sync|arrive|wait)\w*\(")
LOOP = re.compile(r"\b(?:for|while) \(")
UNROLLED = re.compile(r"#pragma unroll\s+\Z")
SKIPPED = re.compile(r"/platform[^/]*$")


class Mutant(typing.NamedTuple):
    line: int
    file: str
    test: str
    chip: str
    old: str
    which: int  # 0: its only place
    new: str
    reason: str  # why nobody can notice; empty: somebody must

    def __str__(self):
        place = f" [{self.which}]" if self.which else ""
        return f"{self.file.rsplit('/', 1)[-1]}: {self.old}{place} => {self.new}"


def read_list(text):
    """[Mutant] in the order of the list; ValueError for a line that is none."""
    mutants, file, test, chip = [], None, None, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            heading = re.fullmatch(r"(\S+): (\w+)(?: (sm\d+))?", line)
            if heading is None:
                raise ValueError(f"{LIST}:{number}: neither FILE: TEST nor a change")
            file, test, chip = heading.group(1), heading.group(2), heading.group(3) or "sm90"
            continue
        change, _, reason = line.partition("  # ")
        old, arrow, new = change.strip().partition(" =>")
        if not arrow or file is None:
            raise ValueError(f"{LIST}:{number}: no => in it, or no FILE: TEST before it")
        place = re.search(r" \[(\d+)\]$", old)
        mutants.append(Mutant(number, file, test, chip, old[:place.start()] if place else old,
                              int(place.group(1)) if place else 0, new.strip(), reason.strip()))
    return mutants


def place_of(text, mutant):
    """Where the text is changed; ValueError unless that is one place."""
    places = [found.start() for found in re.finditer(re.escape(mutant.old), text)]
    if mutant.which == 0 and len(places) != 1:
        raise ValueError(f"{LIST}:{mutant.line}: stands {len(places)} times in {mutant.file}")
    if mutant.which > 0 and (mutant.which > len(places) or len(places) == 1):
        raise ValueError(f"{LIST}:{mutant.line}: {mutant.file} has {len(places)} such places")
    return places[max(mutant.which, 1) - 1]


def changed(text, mutant):
    at = place_of(text, mutant)
    return text[:at] + mutant.new + text[at + len(mutant.old):]


def without_comments(text):
    """The same length, comments blank."""
    blank = lambda found: re.sub(r"[^\n]", " ", found.group())
    return re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.DOTALL)


def head_of_loop(code, begin):
    """[begin, end) of the parentheses behind for or while."""
    depth, at = 0, code.index("(", begin)
    for end in range(at, len(code)):
        depth += {"(": 1, ")": -1}.get(code[end], 0)
        if depth == 0:
            return at, end
    raise ValueError("a loop without end")


def is_on_device(code, at):
    function = code[code.rfind("\n}", 0, at) + 1:at]
    return "__device__" in function or "__global__" in function


def must_be_covered(text):
    """[(begin, end)] of each place that a change must touch."""
    code = without_comments(text)
    code = re.sub(r"^#define[^\n]*", lambda found: " " * len(found.group()), code, flags=re.M)
    places = [found.span() for found in MEETING.finditer(code)]
    for found in LOOP.finditer(code):
        if not UNROLLED.search(code[:found.start()]):
            places.append(head_of_loop(code, found.start()))
    return sorted(place for place in places if is_on_device(code, place[0]))


def left_out(name, text, mutants):
    """Sentences about what no change of the list touches."""
    touched = [(at, at + len(mutant.old)) for mutant in mutants if mutant.file == name
               for at in [place_of(text, mutant)]]
    return [f"{name}:{text.count(chr(10), 0, begin) + 1}: {LIST} changes no "
            f"{text[begin:end].strip('(<')!r}"
            for begin, end in must_be_covered(text)
            if not any(first < end and begin < last for first, last in touched)]


def check(source):
    """All that is wrong with the list of a tree, as sentences."""
    try:
        mutants = read_list((source / LIST).read_text())
    except ValueError as error:
        return [str(error)]
    wrong = []
    for mutant in mutants:
        try:
            place_of((source / mutant.file).read_text(), mutant)
        except (ValueError, OSError) as error:
            wrong.append(str(error))
    if wrong:
        return wrong
    for path in sorted((source / "kernels/cuda").glob("*.cu*")):
        name = path.relative_to(source).as_posix()
        if not SKIPPED.search(name):
            wrong += left_out(name, path.read_text(), mutants)
    return wrong
