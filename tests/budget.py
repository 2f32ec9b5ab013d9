"""Prints what each suite took beside the minutes that tests/budget.txt gives it; names a suite
beyond them, and fails one at 1.5 times, or at what its line says.

Used by scripts/test, after ctest has left its results as JUnit XML and the script the seconds of
its own steps.
"""

import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree

TOLERANCE = 1.5


def read_budget(text):
    """[(name, minutes, the most minutes, compiled pattern or None for a phase)] in file order."""
    lines = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, numbers, pattern = line.split(None, 2)
        minutes, _, most = numbers.partition("/")
        lines.append((name, float(minutes), float(most or TOLERANCE * float(minutes)),
                      None if pattern == "phase" else re.compile(pattern)))
    return lines


def read_phases(text):
    return {name: float(seconds) for name, seconds in (line.split() for line in text.splitlines())}


def read_results(text):
    """[(test name, seconds)] of what ran."""
    root = xml.etree.ElementTree.fromstring(text)
    return [
        (test.get("name"), float(test.get("time")))
        for test in root.iter("testcase")
        if test.get("status") not in ("notrun", "disabled")
    ]


def add_up(budget, phases, results):
    """({suite: seconds}, [names that no line takes])."""
    seconds = {
        name: phases[name] for name, _, _, pattern in budget if pattern is None and name in phases
    }
    strangers = [name for name in phases if name not in seconds]
    for test, took in results:
        suite = next(
            (name for name, _, _, pattern in budget if pattern and pattern.fullmatch(test)), None
        )
        if suite is None:
            strangers.append(test)
        else:
            seconds[suite] = seconds.get(suite, 0.0) + took
    return seconds, strangers


def table(budget, seconds):
    """(lines to print, sentences about suites that took too long)."""
    lines, over = [f"{'suite':20} {'minutes':>8} {'took':>8} {'share':>7}"], []
    for name, minutes, most, _ in budget:
        if name not in seconds:
            continue
        took = seconds[name] / 60
        mark = "" if took <= minutes else f"  beyond its minutes; {most:g} fail"
        if took > most:
            over.append(f"{name} took {took:.1f} minutes; {most:.1f} is the most that it may")
            mark = "  over"
        lines.append(f"{name:20} {minutes:8.1f} {took:8.2f} {took / minutes:7.0%}{mark}")
    return lines, over


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    for name in ("budget", "phases", "results"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args(arguments)
    budget = read_budget(options.budget.read_text())
    phases, results = read_phases(options.phases.read_text()), read_results(
        options.results.read_text()
    )
    seconds, strangers = add_up(budget, phases, results)
    lines, over = table(budget, seconds)
    print("\n".join(lines))
    for name in strangers:
        print(f"no line of {options.budget} takes {name}: give it its minutes")
    for sentence in over:
        print(sentence)
    return 1 if (over or strangers) and not options.report_only else 0


if __name__ == "__main__":
    sys.exit(main())
