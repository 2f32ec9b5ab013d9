#!/usr/bin/env python3
"""Chat formats against Jinja: random conversations, rendered by chat_peer and by a template.

    chat_peer_test.py CHAT_PEER

The templates here are ours. Each writes what its family's published ones write, by the forms by
which a family is recognised and its constants are found (models.md 7).
"""
import datetime
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATS = 60

TOOL_SECTION = (
    "# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are "
    "provided with function signatures within <tools></tools> XML tags:\\n<tools>"
)
TOOL_ENDING = (
    "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\\"name\\\": <function-name>, "
    "\\\"arguments\\\": <args-json-object>}\\n</tool_call><|im_end|>\\n"
)

QWEN_TURNS = """
{%- for m in messages %}
  {%- if m.role == "tool" %}
    {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}{{ '<|im_start|>user' }}{% endif %}
    {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
    {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{ '<|im_end|>\\n' }}{% endif %}
  {%- elif not (loop.first and m.role == "system") %}
    {%- set text = m.content %}
    {{- '<|im_start|>' + m.role + '\\n' }}PLACE
    {%- for c in m.tool_calls %}
      {{- '\\n' if text or not loop.first else '' }}
      {{- '<tool_call>\\n{"name": "' + c.name + '", "arguments": ' + c.arguments | tojson + '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"""

QWEN25 = (
    """{%- set first = messages[0].content if messages[0].role == "system" else "You are Qwen, a test." %}
{%- if tools %}{{ '<|im_start|>system\\n' + first + '\\n\\n' }}{{ \""""
    + TOOL_SECTION
    + """\" }}{% for t in tools %}{{ '\\n' + t | tojson }}{% endfor %}{{ \""""
    + TOOL_ENDING
    + """\" }}
{%- elif messages[0].role == "system" %}{{ '<|im_start|>system\\n' + first + '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>system\\nYou are Qwen, a test.<|im_end|>\\n' }}{% endif %}"""
    + QWEN_TURNS.replace("PLACE", "{{ m.content }}")
    + "{% endif %}"
)



def thoughtful(assistant, between, ending):
    """between: what stands before the tools; ending: behind the start of an answer."""
    return (
        """{%- if tools %}{{ '<|im_start|>system\\n' }}{% if messages[0].role == "system" %}{{ messages[0].content }}{% endif %}BETWEEN{{ \""""
        + TOOL_SECTION.replace("# Tools", "STARTS# Tools")
        + """\" }}{% for t in tools %}{{ '\\n' + t | tojson }}{% endfor %}{{ \""""
        + TOOL_ENDING
        + """\" }}
{%- elif messages[0].role == "system" %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"""
        + QWEN_TURNS.replace(
            "PLACE", """{% if m.role == "assistant" %}ASSISTANT{% else %}{{ m.content }}{% endif %}""")
        + "{% endif %}"
    ).replace("ASSISTANT", assistant).replace("BETWEEN", between and f"{{{{ {between} }}}}").replace(
        "STARTS", "" if between else "\\n\\n").replace("'<|im_start|>assistant\\n' }}", ending)


REASONING = """
      {%- set thought = '' %}{# or reasoning_content #}
      {%- if '</think>' in text %}
        {%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
      {%- endif %}
      {%- if loop.index0 > ns.last and (loop.last or thought) %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + text.lstrip('\\n') }}
      {%- else %}{{ text }}{% endif %}"""
GIVEN = "'\\n\\n' if messages[0].role == 'system' else ''"
START, THINKS = "'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}"
QWEN3 = thoughtful(
    REASONING, GIVEN,
    START + "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}")
QWEN3_THINKING = thoughtful(REASONING, GIVEN, THINKS)  # of July 2025: it always thinks
QWQ = thoughtful(
    """{% if not loop.last %}{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ text }}""",
    "", THINKS)

LLAMA_TOOLS = (
    "Given the following functions, please respond with a JSON for a function call with its proper "
    "arguments that best answers the given prompt.\\n\\nRespond in the format {\\\"name\\\": function "
    "name, \\\"parameters\\\": dictionary of argument name and its value}.Do not use variables.\\n\\n"
)


def llama(opening, behind, closing, user, system_block, call_prefix):
    return (
        """{{ bos_token }}{% if messages[0].role == "system" %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}{% set given = true %}{% else %}{% set system = '' %}{% set given = false %}{% endif %}"""
        + system_block
        + """{% if tools %}{{ 'OPEN' + 'user' + 'BEHIND' }}{{ \""""
        + LLAMA_TOOLS
        + """\" }}{% for t in tools %}{{ t | tojson(indent=4) + '\\n\\n' }}{% endfor %}{{ messages[0].content | trim + 'CLOSE' }}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}
  {%- if m.role == "tool" %}{{ 'OPEN' + 'ipython' + 'BEHIND' }}{% if m.content is mapping or m.content is iterable %}{{ m.content | tojson }}{% else %}{{ m.content }}{% endif %}{{ 'CLOSE' }}
  {%- elif m.tool_calls %}{{ 'OPEN' + 'assistant' + 'BEHIND' + CALLS }}{% for c in m.tool_calls %}{{ '{"name": "' + c.name + '", "parameters": ' + c.arguments | tojson + '}' }}{% endfor %}{{ 'CLOSE' }}
  {%- else %}{{ 'OPEN' + m.role + 'BEHIND' + USER + 'CLOSE' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'OPEN' + 'assistant' + 'BEHIND' }}{% endif %}"""
    ).replace("OPEN", opening).replace("BEHIND", behind).replace("CLOSE", closing).replace(
        "USER", user).replace("CALLS", call_prefix)


LLAMA31 = llama(
    "<|start_header_id|>", "<|end_header_id|>\\n\\n", "<|eot_id|>", "m.content | trim",
    """{% set date_string = "26 Jul 2024" %}{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{% if tools %}{{ "Environment: ipython\\n" }}{% endif %}{{ "Cutting Knowledge Date: December 2023\\n" }}{{ "Today Date: " + date_string + "\\n\\n" + system + '<|eot_id|>' }}""",
    "''",
)
LLAMA32 = LLAMA31.replace('set date_string = "26 Jul 2024"', 'set date_string = strftime_now("%d %b %Y")')
LLAMA4 = llama(
    "<|header_start|>", "<|header_end|>\\n\\n", "<|eot|>", "m.content",
    """{% if given %}{{ '<|header_start|>system<|header_end|>\\n\\n' }}{% if tools %}{{ "Environment: ipython\\n" }}{% endif %}{{ system + '<|eot|>' }}{% endif %}""",
    "'<|python_start|>' + m.content + '<|python_end|>'",
)

LLAMA2 = """{% if messages[0].role == 'system' %}{% set sys = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set sys = '' %}{% endif %}
{%- for m in messages %}{% if m.role == 'user' %}{% set content = (sys if loop.first else '') ~ m.content %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""


LIST_CALLS = """{{ '[TOOL_CALLS]SP[' }}{% for c in m.tool_calls %}{{ '{"name": "' + c.name + '", "arguments": ' + c.arguments | tojson + ', "id": "' + c.id + '"}' }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' + eos_token }}"""
MARKED_CALLS = """{{ m.content }}{% for c in m.tool_calls %}{{ '[TOOL_CALLS]' + c.name + '[ARGS]' + c.arguments | tojson }}{% endfor %}{{ eos_token }}"""


def mistral(space, inst, system, result, calls=LIST_CALLS):
    """inst: how the template spells the mark, by which the family is told."""
    return (
        """{{ bos_token }}{% if messages[0].role == "system" %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set sys = DEFAULT %}{% set rest = messages %}{% endif %}SYSTEM
{%- set users = rest | selectattr("role", "equalto", "user") | list %}
{%- for m in rest %}
  {%- if m.role == "user" %}
    {%- if tools and m.at == users[-1].at %}{{ '[AVAILABLE_TOOLS]SP' + '[' }}{% for t in tools %}{{ t | tojson }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ '][/AVAILABLE_TOOLS]' }}{% endif %}
    {{- INST + 'SP' }}{% if PREFIX and m.at == users[-1].at %}{{ sys + '\\n\\n' }}{% endif %}{{ m.content + '[/INST]' }}
  {%- elif m.role == "tool" %}RESULT
  {%- elif m.tool_calls %}CALLS
  {%- else %}{{ 'SP' + m.content + eos_token }}{% endif %}
{%- endfor %}"""
    ).replace("SYSTEM", system).replace("RESULT", result).replace("CALLS", calls, 1).replace("INST +", inst + " +").replace(
        "PREFIX", "sys" if not system else "false").replace("SP", space).replace(
        "DEFAULT", "default_system_message" if "default" in system else "''")


V3_RESULT = """{{ '[TOOL_RESULTS]SP{"content": ' + m.json + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}"""
V7_RESULT = "{{ '[TOOL_RESULTS]SP' + m.tool_call_id + '[TOOL_CONTENT]SP' + m.content + '[/TOOL_RESULTS]' }}"
V7_SYSTEM = "{% if sys %}{{ '[SYSTEM_' + 'PROMPT]SP' + sys + '[/SYSTEM_PROMPT]' }}{% endif %}{# [SYSTEM_PROMPT] #}"
MISTRAL_V3 = mistral(" ", "'[INST]'", "", V3_RESULT)
MISTRAL_V3_TEKKEN = mistral("", '"[INST]"', "", V3_RESULT)
MISTRAL_V7 = mistral(" ", "'[INST]'", V7_SYSTEM, V7_RESULT)
MISTRAL_V3_TRIMS = MISTRAL_V3.replace("' ' + m.content + eos", "' ' + m.content | trim + eos")
MISTRAL_V11 = mistral("", "'[INST]'", V7_SYSTEM, V7_RESULT,
                      MARKED_CALLS.replace("'[ARGS]", "'[CALL_ID]' + c.id + '[ARGS]"))
MISTRAL_V13 = mistral(  # the tools come first, and calls have no ids
    "", "'[INST]'",
    V7_SYSTEM + "{% if tools %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}{% set tools = none %}",
    "{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}", MARKED_CALLS)
MISTRAL_V7_TEKKEN = (
    '{% set today = strftime_now("%Y-%m-%d") %}{% set default_system_message = "You are M.\\nToday is " + today + ". Be brief." %}'
    + mistral("", "'[INST]'", V7_SYSTEM + "{# default #}", V7_RESULT)
)
MISTRAL_V1 = """{{ bos_token }}{% if messages[0].role == "system" %}{% set system_message = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}{% if m.role == "user" %}{% if loop.first and system_message is defined %}{{ ' [INST] ' + system_message + '\\n\\n' + m.content + ' [/INST]' }}{% else %}{{ ' [INST] ' + m.content + ' [/INST]' }}{% endif %}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"""

PHI4 = """{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""

DEEPSEEK2 = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""


def deepseek3(content, prompt):
    return (
        """{{ bos_token }}{# <｜end▁of▁sentence｜> #}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + CONTENT + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}PROMPT{% endif %}"""
    ).replace("CONTENT", content).replace("PROMPT", prompt)


DEEPSEEK_R1 = deepseek3("m.content.split('</think>')[-1]", "{{ '<｜Assistant｜><think>\\n' }}")
DEEPSEEK_V31 = deepseek3(
    "'</think>' + m.content.split('</think>', 1)[-1]",
    "{% if thinking is defined and thinking %}{{ '<｜Assistant｜>' + '<think>' }}{% else %}{{ '<｜Assistant｜>' + '</think>' }}{% endif %}",
)

DEEPSEEK_V31_PAIR = DEEPSEEK_V31.replace("'</think>' +", "'<think></think>' +").replace(
    "+ '</think>' }}", "+ '<think></think>' }}")

# name, template, tokenizer.ggml.pre, tools, thinking, several calls at once
FAMILIES = [
    ("qwen2.5", QWEN25, "qwen2", True, None, True),
    ("qwen3", QWEN3, "qwen2", True, "enable_thinking", True),
    ("qwen3-thinking", QWEN3_THINKING, "qwen2", True, None, True),
    ("qwq", QWQ, "qwen2", True, None, True),
    ("phi-4", PHI4, "gpt-4o", False, None, False),
    ("llama-3.1", LLAMA31, "llama-bpe", True, None, False),
    ("llama-3.2", LLAMA32, "llama-bpe", True, None, False),
    ("llama-4", LLAMA4, "llama4", True, None, True),
    ("llama-2", LLAMA2, "default", False, None, False),
    ("mistral-v1", MISTRAL_V1, "default", False, None, False),
    ("mistral-v3", MISTRAL_V3, "default", True, None, True),
    ("mistral-v3, trims", MISTRAL_V3_TRIMS, "default", True, None, True),
    ("mistral-v3-tekken", MISTRAL_V3_TEKKEN, "tekken", True, None, True),
    ("mistral-v7", MISTRAL_V7, "default", True, None, True),
    ("mistral-v7-tekken", MISTRAL_V7_TEKKEN, "tekken", True, None, True),
    ("mistral-v11", MISTRAL_V11, "tekken", True, None, True),
    ("mistral-v13", MISTRAL_V13, "tekken", True, None, True),
    ("deepseek-v2", DEEPSEEK2, "deepseek-llm", False, None, False),
    ("deepseek-r1", DEEPSEEK_R1, "deepseek-v3", False, None, False),
    ("deepseek-v3.1", DEEPSEEK_V31, "deepseek-v3", False, "thinking", False),
    ("deepseek-v3.1, a pair", DEEPSEEK_V31_PAIR, "deepseek-v3", False, "thinking", False),
]

WORDS = ["Hello", " there", "\n", "  ", "né", "😀", "<|im_end|>", "[INST]", "</s>", "{{ x }}", "\t",
         "<think>hm</think>", "\"", "\\", "<|eot_id|>", "12", "."]


def some_text(dice, least=0):
    return "".join(dice.choice(WORDS) for _ in range(dice.randrange(least, 9)))


def some_json(dice, depth=0):
    kind = dice.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [some_json(dice, depth + 1) for _ in range(dice.randrange(3))]
    if kind == 5:
        return {f"k{i}": some_json(dice, depth + 1) for i in range(dice.randrange(3))}
    return [None, dice.randrange(-99, 99), "é 😀 \" \\ \n / \x1f\x7f", True][kind]


TALKS = ("qwen", "qwq", "llama-4", "mistral-v11", "mistral-v13")  # a text may stand before calls


def some_chat(dice, has_tools, several_calls, talks=False):
    """A conversation of the turns that every family takes."""
    messages, use_tools = [], has_tools and dice.random() < 0.6
    if dice.random() < 0.5:
        messages.append({"role": "system", "content": some_text(dice, 1)})
    for turn in range(dice.randrange(1, 4)):
        messages.append({"role": "user", "content": some_text(dice, 1)})
        if use_tools and dice.random() < 0.5:
            calls = [{"id": f"id{turn}call{k:02d}"[:9], "name": f"tool_{k}",
                      "arguments": {"a": some_json(dice)}}
                     for k in range(1 + (several_calls and dice.randrange(2)))]
            text = some_text(dice) if talks else ""
            messages.append({"role": "assistant", "content": text, "tool_calls": calls})
            for call in calls:
                content = dice.choice(['{"r": [1, 2.50]}', "plain \"text\""])
                is_json = content.startswith("{")
                messages.append({
                    "role": "tool", "content": content, "tool_call_id": call["id"],
                    "json": content if is_json else json.dumps(content, ensure_ascii=False)})
        messages.append({"role": "assistant", "content": some_text(dice, 1)})
    if dice.random() < 0.8:
        messages.pop()  # an answer is wanted to what the user says, or a tool
    for at, message in enumerate(messages):
        message["at"] = at
    tools = [{"name": f"tool_{k}", "description": dice.choice(["", "Does é."]),
              "parameters": {"type": "object", "properties": {"a": some_json(dice)}}}
             for k in range(1 + dice.randrange(2))] if use_tools else []
    return messages, tools


def packed(messages, tools, thinking):
    """Calls as json.dumps writes them by default, with \\u for what is beyond ASCII."""
    out = [f"{len(messages)} {len(tools)} {thinking}\n".encode()]
    for message in messages:
        calls = message.get("tool_calls", [])
        parts = [message["role"].encode(), message["content"].encode(),
                 message.get("tool_call_id", "").encode()]
        out += [f"{' '.join(str(len(part)) for part in parts)} {len(calls)}\n".encode(), *parts]
        for call in calls:
            out.append(three(call["id"], call["name"],
                             json.dumps(call["arguments"], indent=1)))
    for tool in tools:
        out.append(three(tool["name"], tool["description"],
                         json.dumps(tool["parameters"], ensure_ascii=False,
                                    separators=(",", ":"))))
    return b"".join(out)


def three(*texts):
    parts = [text.encode() for text in texts]
    return f"{' '.join(str(len(part)) for part in parts)}\n".encode() + b"".join(parts)


def environment():
    """As transformers renders chat templates."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    made.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent)
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return made


def by_jinja(template, messages, tools, thinking, switch):
    functions = []
    for tool in tools:
        function = {key: tool[key] for key in ("name", "description", "parameters") if tool[key]}
        functions.append({"type": "function", "function": function})
    switches = {switch: bool(thinking)} if switch and thinking >= 0 else {}
    return template.render(messages=messages, tools=functions or None, add_generation_prompt=True,
                           bos_token="<s>", eos_token="</s>", **switches)


def by_peer(peer, path, pre, chats):
    ran = subprocess.run([peer, path, pre], input=b"".join(packed(*chat) for chat in chats),
                         stdout=subprocess.PIPE, timeout=120, check=True)
    out, at = [], 0
    while at < len(ran.stdout):
        end = ran.stdout.index(b"\n", at)
        status, size = map(int, ran.stdout[at:end].split())
        out.append((status, ran.stdout[end + 1 : end + 1 + size].decode()))
        at = end + 1 + size
    return out


def check(peer, folder, family):
    name, text, pre, has_tools, switch, several = family
    dice = random.Random(name)
    path = pathlib.Path(folder) / "template"
    path.write_text(text)
    chats = []
    for _ in range(CHATS):
        messages, tools = some_chat(dice, has_tools, several, name.startswith(TALKS))
        chats.append((messages, tools, dice.randrange(-1, 2) if switch else -1))
    template = environment().from_string(text)
    told = by_peer(peer, path, pre, chats)
    assert len(told) == len(chats), f"{name}: {len(told)} of {len(chats)} answers"
    for chat, (status, got) in zip(chats, told):
        wanted = by_jinja(template, *chat, switch)
        if (status, got) != (0, wanted):
            raise SystemExit(f"{name}, {chat}:\n{status} {got!r}\nand by Jinja\n{wanted!r}")
    print(f"{name}: {len(chats)} conversations are the same")


def main():
    print(f"jinja2 {jinja2.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            check(sys.argv[1], folder, family)


if __name__ == "__main__":
    main()
