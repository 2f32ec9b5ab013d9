"""Leaves a long generation after 20 deltas: the server ends it and frees its pages at once."""

import itertools
import sys

from quire import Client, QuireError

DELTAS = 20

try:
    with Client() as quire:
        answer = quire.generate("Count to a million: 1 2 3", max_tokens=4000, ignore_eos=True,
                                temperature=0)
        for n, delta in enumerate(answer, start=1):
            print(delta.text, end="", flush=True)
            if n == DELTAS:
                break  # this is all: leaving the loop cancels the call
        print(f"\n[left after {DELTAS} deltas of a generation of 4000 tokens]", file=sys.stderr)
        for stats in itertools.islice(quire.stats(interval=0.1), 5):
            print(f"pages in use: {stats.pages_used}, sequences that decode: {stats.decode}",
                  file=sys.stderr)
            if stats.pages_used == 0:
                break
except QuireError as error:
    sys.exit(f"cancel: {error}")
