"""Asks one question: python examples/chat.py "What is the capital of France?" """

import sys

from quire import Client, QuireError

question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
try:
    with Client() as quire:
        print(quire.chat(question, max_tokens=128, temperature=0).result())
except QuireError as error:
    sys.exit(f"chat: {error}")
