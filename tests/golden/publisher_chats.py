"""Conversations as the publishers' own code turns them into ids: Mistral's by mistral-common, Llama's
by llama-models.

Both packages want more than is needed to render text: images (Pillow), tensors (torch), countries
(pycountry). Those are stood in for by modules that hold the names that are imported and no more.
"""

import functools
import importlib
import json
import pathlib
import sys
import tempfile
import types

import make_vocabularies


def stand_in(name, **names):
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__dict__.update(names)
        sys.modules[name] = module
    return sys.modules[name]


def stand_ins():
    image = stand_in("PIL.Image", Image=type("Image", (), {}))
    stand_in("PIL", Image=image)
    nothing = type("Nothing", (), {"__iter__": lambda self: iter(()), "get": lambda *_, **__: None})()
    stand_in("pycountry", __getattr__=lambda name: nothing)
    # of Llama 4's vision, of which chats of text use nothing
    stand_in("torch", Tensor=type("Tensor", (), {}))
    for module, names in (
        ("llama_models.llama4.args", ["VisionArgs"]),
        ("llama_models.llama4.datatypes", ["LLMInput"]),
        (
            "llama_models.llama4.preprocess",
            ["ResizeNormalizeImageTransform", "VariableSizeImageTransform"],
        ),
    ):
        stand_in(module, **{name: types.SimpleNamespace for name in names})


# --- Llama ---


@functools.cache
def llama_format(version):
    stand_ins()
    module = importlib.import_module(f"llama_models.llama{version}.chat_format")
    tokens = importlib.import_module(f"llama_models.llama{version}.tokenizer")
    path = pathlib.Path(tokens.__file__).parent / "tokenizer.model"
    return module.ChatFormat(tokens.Tokenizer(path))


def by_llama(version, messages):
    from llama_models.datatypes import RawMessage, StopReason

    dialog = []
    for message in messages:
        more = {"stop_reason": StopReason.end_of_turn} if message["role"] == "assistant" else {}
        dialog.append(RawMessage(role=message["role"], content=message["content"], **more))
    return llama_format(version).encode_dialog_prompt(dialog).tokens


# --- Mistral ---


SENTENCEPIECE = {
    "mistral-v1": "tokenizer.model.v1",
    "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3",
    "mistral-v7": "mistral_instruct_tokenizer_241114.model.v7",
}
TEKKEN_VERSIONS = {"mistral-v3-tekken": "v3", "mistral-v7-tekken": "v7"}


@functools.cache
def mistral_tokenizer(family):
    stand_ins()
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    data = make_vocabularies.package("mistral_common") / "data"
    if family in SENTENCEPIECE:
        return MistralTokenizer.from_file(data / SENTENCEPIECE[family])
    # no file of v7 with Tekken is in the package: the tokens are the same
    file = json.loads((data / "tekken_240911.json").read_bytes())
    file["config"]["version"] = TEKKEN_VERSIONS[family]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tekken.json"
        path.write_text(json.dumps(file))
        return MistralTokenizer.from_file(path)


def by_mistral(family, messages, tools):
    tokenizer = mistral_tokenizer(family)
    from mistral_common.protocol.instruct import messages as kinds
    from mistral_common.protocol.instruct import request, tool_calls

    def of_message(message):
        if message["role"] == "tool":
            return kinds.ToolMessage(
                content=message["content"], tool_call_id=message["tool_call_id"]
            )
        if message["role"] != "assistant":
            kind = kinds.UserMessage if message["role"] == "user" else kinds.SystemMessage
            return kind(content=message["content"])
        calls = [
            tool_calls.ToolCall(
                id=call["id"],
                function=tool_calls.FunctionCall(
                    name=call["name"], arguments=json.dumps(call["arguments"], ensure_ascii=False)
                ),
            )
            for call in message.get("tool_calls", [])
        ]
        return kinds.AssistantMessage(content=message["content"], tool_calls=calls or None)

    functions = [
        tool_calls.Tool(
            function=tool_calls.Function(
                name=tool["name"],
                description=tool["description"],
                parameters=tool["parameters"],
            )
        )
        for tool in tools
    ]
    asked = request.ChatCompletionRequest(
        messages=[of_message(message) for message in messages], tools=functions or None
    )
    return tokenizer.encode_chat_completion(asked).tokens


def ids_of(family, messages, tools):
    if family.startswith("llama-"):
        return by_llama(family[-1], messages)
    return by_mistral(family, messages, tools)
