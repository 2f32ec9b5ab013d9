"""Streams a completion: python examples/complete.py "Once upon a time" """

import sys

from quire import Client, QuireError

prompt = sys.argv[1] if len(sys.argv) > 1 else "The capital of France is"
try:
    with Client() as quire:
        answer = quire.generate(prompt, max_tokens=64, temperature=0)
        for delta in answer:
            print(delta.text, end="", flush=True)
        print(f"\n[{answer.reason}, {answer.finished.usage.completion_tokens} tokens, "
              f"{answer.finished.timings.decode_tokens_per_second:.0f}/s]", file=sys.stderr)
except QuireError as error:
    sys.exit(f"complete: {error}")
