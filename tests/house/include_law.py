#!/usr/bin/env python3
"""Reads every source file of the repository and names each breach of the house rules.

    include_law.py [ROOT]        prints "file:line: reason" a breach; exits 1 when there is any

Rules (DESIGN, sections 2 and 7): who may include whom; files up to 600 lines; lines up to 100
columns and functions up to 70 lines in C; a stem is unique, a header and its source and the twins
of two backends excepted; some words are no names.
"""
import os
import re
import sys

FILE_LINES = 600
FUNCTION_LINES = 70
COLUMNS = 100
BANNED_WORDS = {"manager", "helper", "util", "ctx", "data", "process", "do"}

C_SUFFIXES = (".c", ".h", ".cu", ".cuh")
SUFFIXES = C_SUFFIXES + (".py", ".sh", ".proto", ".cmake")
SKIPPED_FOLDERS = re.compile(
    r"(\..*|build.*|models|node_modules|__pycache__|.*\.egg-info|dist|shared)$")
GENERATED = re.compile(r".*(_pb2|_pb2_grpc)\.pyi?$|.*\.pb-c\.[ch]$")

EVERYTHING = None
# room -> the rooms that it may include, and which of their headers
ROOMS = {
    "base": {},
    "kernels": {"base": EVERYTHING},
    "kvcache": {"base": EVERYTHING, "kernels": {"device.h", "kv_view.h", "ops.h"}},
    "model": {"base": EVERYTHING, "kernels": EVERYTHING},
    "engine": {"base": EVERYTHING, "kvcache": EVERYTHING, "model": EVERYTHING,
               "kernels": {"device.h", "kv_view.h", "ops.h"}},
    "service": {"base": EVERYTHING, "engine": {"engine.h", "message.h"}},
    "tools": {"base": EVERYTHING, "engine": EVERYTHING, "kvcache": EVERYTHING,
              "model": EVERYTHING, "kernels": EVERYTHING},
    "clients": {"base": EVERYTHING},
    "main.c": {"base": EVERYTHING, "service": EVERYTHING, "tools": EVERYTHING,
               "clients": EVERYTHING},
    "limits.h": {},
}
WIRE = re.compile(r"wire\w*\.[ch]$")
LOOP = re.compile(r"(serve|server|loop|listener|work|h2_\w+|grpc_\w+|tls)\.[ch]$")
ANY_FILE = re.compile(r"")
# what is included -> its name, and in which files of which rooms it may be
LIBRARIES = (
    (re.compile(r"proto/|protobuf-c/|.*\.pb-c\.h$"), "proto",
     {"service": WIRE, "clients": ANY_FILE}),
    (re.compile(r"uv\.h$|uv/"), "uv.h", {"service": LOOP, "clients": ANY_FILE}),
    (re.compile(r"nghttp2/"), "nghttp2.h", {"service": LOOP, "clients": ANY_FILE}),
    (re.compile(r"pcre2"), "PCRE2", {"model": ANY_FILE}),
    (re.compile(r"jansson"), "Jansson", {"model": re.compile(r"json_\w+\.[ch]$")}),
    (re.compile(r"xxh"), "xxHash", {"base": ANY_FILE}),
    (re.compile(r"openssl/"), "OpenSSL", {"base": ANY_FILE, "service": re.compile(r"tls\.[ch]$")}),
    (re.compile(r"cuda|cublas|nccl"), "CUDA", {"kernels": re.compile(r"(cuda_|platform)\w*\.(cu|cuh)$")}),
)
INCLUDE = re.compile(r"\s*#\s*include(?:_next)?\b\s*(.*)")
TARGET = re.compile(r'(["<])([^">]+)[">]')


def source_files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not SKIPPED_FOLDERS.match(name))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(SUFFIXES) and not GENERATED.match(name):
                yield path.replace(os.sep, "/")


def read_lines(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def breach_of_library(room, name, target):
    for pattern, library, allowed in LIBRARIES:
        if pattern.match(target):
            where = allowed.get(room)
            if where is None:
                return f"{room} may not include {library}"
            if not where.match(name):
                return f"{name} is not one of the files of {room} that may include {library}"
            return ""
    return None


def breach_of_include(root, path, opening, target):
    """The reason why this include is a breach, or None."""
    parts = path.split("/")
    room, name = parts[0], parts[-1]
    reason = breach_of_library(room, name, target)
    if reason is not None:
        return reason or None
    if target == "limits.h":
        return None
    other = target.split("/")[0]
    if other not in ROOMS or "/" not in target:
        if opening == '"':
            return f'"{target}" is not written from the root of the repository'
        return None
    if not os.path.exists(os.path.join(root, target)):
        return f'"{target}" does not exist'
    if opening == "<":
        return f"<{target}> is ours: write it between quotes"
    if other == room:
        return None
    if other not in ROOMS[room]:
        return f"{room} may not include {other}"
    headers = ROOMS[room][other]
    if headers is not EVERYTHING and target[len(other) + 1:] not in headers:
        return f"of {other}, {room} may include only {', '.join(sorted(headers))}"
    if room == "main.c" and other == "clients" and not target.startswith("clients/c/"):
        return "main.c may include clients/c and no other client"
    return None


def check_includes(root, path, lines):
    if path.split("/")[0] not in ROOMS:
        return
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        if not include:
            continue
        target = TARGET.match(include.group(1))
        if not target:
            yield number, "an include names its file"
            continue
        reason = breach_of_include(root, path, target.group(1), target.group(2))
        if reason:
            yield number, reason


def check_columns(lines):
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield number, f"{len(line)} columns; {COLUMNS} is the end"


def check_functions(lines):
    """A function begins with a brace alone at column 0 and ends with the next one."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            length = number - start + 1
            if length > FUNCTION_LINES:
                yield start, f"a function of {length} lines; {FUNCTION_LINES} is the end"
            start = None


def check_name(path):
    stem = os.path.splitext(os.path.basename(path))[0]
    for word in re.split(r"[^a-z0-9]+", stem.lower()):
        if word in BANNED_WORDS or (word.endswith("s") and word[:-1] in BANNED_WORDS):
            yield 1, f'"{word}" is no name for a file'


def check_file(root, path):
    lines = read_lines(root, path)
    yield from check_name(path)
    if len(lines) > FILE_LINES:
        yield FILE_LINES + 1, f"{len(lines)} lines; {FILE_LINES} is the end"
    if path.endswith(C_SUFFIXES):
        yield from check_includes(root, path, lines)
        yield from check_columns(lines)
        yield from check_functions(lines)


def are_partners(path, other):
    """A header and its source, or the same op of two backends."""
    folder, name = os.path.split(path)
    other_folder, other_name = os.path.split(other)
    if folder == other_folder:
        return name != other_name
    return {folder, other_folder} == {"kernels/cpu", "kernels/cuda"}


def check_stems(paths):
    seen = {}
    for path in paths:
        if not path.endswith(C_SUFFIXES):
            continue
        stem = os.path.splitext(os.path.basename(path))[0]
        for other in seen.setdefault(stem, []):
            if not are_partners(path, other):
                yield path, f'the stem "{stem}" is taken by {other}'
                break
        seen[stem].append(path)


def breaches(root):
    """All breaches as (file, line, reason)."""
    paths = list(source_files(root))
    found = [(path, number, reason) for path in paths for number, reason in check_file(root, path)]
    found += [(path, 1, reason) for path, reason in check_stems(paths)]
    return sorted(found)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.getcwd()
    if not any(True for _ in source_files(root)):
        print(f"{root} holds no source files")
        return 2
    found = breaches(root)
    for path, number, reason in found:
        print(f"{path}:{number}: {reason}")
    if found:
        print(f"{len(found)} breaches of the house rules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
