#!/usr/bin/env python3
"""Each number of limits.h is tested at its limit and beyond, or tests/limits/limits.txt says why
it needs no test.

    limits_law.py [ROOT]        prints a line for each breach; exits 1 when there is any

A line of the table is "NAME  tests/FILE  TEST" or "NAME  -  WHY". The file must hold that test; that
a test of C which nobody runs does not compile is the compiler's law.
"""
import os
import re
import sys

DEFINED = re.compile(r"^#define[ \t]+([A-Z][A-Z0-9_]+)[ \t]+\S", re.MULTILINE)
TABLE = "tests/limits/limits.txt"


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def table_of(text):
    """(line number, name, file, rest) of each row."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, where, rest = (line.split(None, 2) + ["", ""])[:3]
            yield number, name, where, rest.strip()


def fault_of(root, name, where, rest):
    if where == "-":
        return None if len(rest.split()) >= 2 else f"{name}: say why it needs no test"
    if not where.startswith("tests/") or not os.path.isfile(os.path.join(root, where)):
        return f"{name}: there is no {where}"
    source = read(root, where)
    begins = rf"\b{re.escape(rest)}\(" if where.endswith(".c") else rf"\bdef {re.escape(rest)}\("
    if not rest or not re.search(begins, source):
        return f"{name}: {where} has no test {rest}"
    return None


def breaches(root):
    wanted = DEFINED.findall(read(root, "limits.h"))
    seen = {}
    for number, name, where, rest in table_of(read(root, TABLE)):
        if name in seen:
            yield f"{TABLE}:{number}: {name} stands in line {seen[name]} as well"
        seen[name] = number
        if name not in wanted:
            yield f"{TABLE}:{number}: limits.h has no {name}"
            continue
        fault = fault_of(root, name, where, rest)
        if fault:
            yield f"{TABLE}:{number}: {fault}"
    for name in wanted:
        if name not in seen:
            yield f"limits.h: {name} has no line in {TABLE}: name the test of the limit and beyond"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    found = list(breaches(root))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
