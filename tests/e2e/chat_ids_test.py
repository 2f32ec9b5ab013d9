"""Ids of conversations as Quire renders them, against those of the publishers' own code
(tests/golden/publisher_chats.py). Contents are full of texts that look like marks."""

import importlib.util
import random
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests" / "model"))

from chat_peer_test import packed, some_chat  # noqa: E402
from make_vocabularies import make  # noqa: E402
from publisher_chats import ids_of  # noqa: E402

CHATS = 60
SECONDS = 60

# family, vocabulary, has tools
FAMILIES = [
    ("llama-3", "llama3", False),
    ("llama-4", "llama4", False),
    ("mistral-v1", "mistral-v1", False),
    ("mistral-v3", "mistral-v3", True),
    ("mistral-v3-tekken", "tekken", True),
    ("mistral-v7", "mistral-v7", True),
    ("mistral-v7-tekken", "tekken", True),
]


def conversation(dice, family, has_tools):
    """Of what both sides take: some_chat's, with tools whose parameters are JSON schemas, and with
    the user or a tool as the last to speak. Without the blanks at the ends that only one side takes
    off: Quire does what the models' templates do."""
    messages, tools = some_chat(dice, has_tools, has_tools)
    while messages[-1]["role"] == "assistant":
        messages.pop()
    for message in messages:
        if message["role"] == "tool":  # mistral-common writes numbers anew
            message["content"] = message["content"].replace("2.50", "2.5")
        if family == "llama-3" or (family == "llama-4" and message["role"] == "system"):
            message["content"] = message["content"].strip() or "."  # the templates do
        if message["role"] == "assistant" and message["content"]:
            message["content"] = message["content"].rstrip(" ") or "."  # mistral-common does
    for tool in tools:
        tool["description"] = "Does é."
        tool["parameters"]["properties"]["a"] = {"type": "string", "description": '"a" \\ é'}
    return messages, tools


def by_peer(path, family, chats):
    ran = subprocess.run(
        [BUILD / "tests" / "model" / "chat_peer", "--ids", path, family],
        input=b"".join(packed(*chat, -1) for chat in chats),
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
    )
    answers, at = [], 0
    while at < len(ran.stdout):
        end = ran.stdout.index(b"\n", at)
        status, size = map(int, ran.stdout[at:end].split())
        text = ran.stdout[end + 1 : end + 1 + size].decode()
        answers.append([int(id) for id in text.split()] if status == 0 else text)
        at = end + 1 + size
    return answers


@pytest.mark.parametrize(("family", "vocabulary", "has_tools"), FAMILIES)
def test_ids_are_the_publishers(family, vocabulary, has_tools):
    assert importlib.util.find_spec("pydantic"), "run scripts/setup --tests"
    dice = random.Random(family)
    chats = [conversation(dice, family, has_tools) for _ in range(CHATS)]
    told = by_peer(make(vocabulary, BUILD / "vocabularies"), family, chats)
    assert len(told) == CHATS
    assert not has_tools or any(tools for _, tools in chats)
    for chat, got in zip(chats, told, strict=True):
        assert got == ids_of(family, *chat), chat
