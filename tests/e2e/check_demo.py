"""What scripts/demo has to have shown: python3 check_demo.py STDOUT STDERR. Standard library
alone."""

import collections
import re
import sys

DOCUMENT_BYTES = 35149  # /usr/share/common-licenses/GPL-3
WORDS = {"license", "software", "copyright", "source", "gnu"}
RUN = 6
RUN_TIMES = 3


def faults_of(answers, progress):
    """Sentences, one for each thing that is not as it has to be."""
    coverage = re.findall(r"(\d[\d,]*) of (\d[\d,]*) bytes", answers + progress)
    covered = [tuple(int(number.replace(",", "")) for number in pair) for pair in coverage]
    if (DOCUMENT_BYTES, DOCUMENT_BYTES) not in covered:
        yield f"no coverage of {DOCUMENT_BYTES} of {DOCUMENT_BYTES} bytes is told"

    sections = [int(number) for number in re.findall(r"(\d+) sections", answers + progress)]
    if not sections or max(sections) < 2:
        yield f"fewer than 2 sections are told: {sections}"

    words = re.findall(r"[\w']+", answers.lower())
    found = WORDS & set(words)
    if len(found) < 3:
        yield f"of {sorted(WORDS)} standard output holds only {sorted(found)}"

    runs = collections.Counter(tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    for run, times in runs.items():
        if times > RUN_TIMES:
            yield f"'{' '.join(run)}' stands {times} times"

    if "The capital of France is Paris." not in answers:
        yield "standard output does not say 'The capital of France is Paris.'"


def main():
    answers, progress = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])
    faults = list(faults_of(answers, progress))
    for fault in faults:
        print(f"check_demo: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
