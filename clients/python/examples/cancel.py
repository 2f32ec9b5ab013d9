"""Leaves a long generation after 20 tokens: the server frees its pages at once."""

import sys

from quire import Client, QuireError

try:
    with Client() as quire:
        for n, delta in enumerate(quire.generate("Count to a million: 1 2 3", max_tokens=4000,
                                                 ignore_eos=True, temperature=0)):
            print(delta.text, end="", flush=True)
            if n == 20:
                break
        print()
        stats = next(quire.stats())
        print(f"pages in use: {stats.pages_used}", file=sys.stderr)
except QuireError as error:
    sys.exit(f"cancel: {error}")
