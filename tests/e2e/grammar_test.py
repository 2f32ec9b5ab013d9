"""Answers under a grammar or a JSON schema: whatever the model draws is valid; what cannot be
compiled is refused with its place; runs with and without a grammar share steps."""

import json
import os
import random
import subprocess
import threading
import time

import grpc
import jsonschema
import pytest

LONG = os.environ.get("QUIRE_LONG") == "1"
SECONDS = 3600 if LONG else 300  # admission counts max_tokens at the pace of the moment,
TOKENS = 1500 if LONG else 500  # AT_ONCE times
N_SCHEMAS = 1000 if LONG else 24
AT_ONCE = 8

# --- random schemas, all of whose values are finite, names of maps too ---

FORMATS = ["date", "ipv4", "ipv6", "uuid", "email"]  # that jsonschema checks by itself


def random_string(rng):
    schema = {"type": "string", "maxLength": rng.randint(0, 12)}
    if rng.random() < 0.3:
        schema["minLength"] = rng.randint(0, schema["maxLength"])
    return schema


def random_pattern(rng):
    if rng.random() < 0.2:
        return {"type": "string", "format": rng.choice(FORMATS)}
    schema = {"type": "string", "pattern": rng.choice([
        r"^[A-Z]{2}-\d{1,4}$", r"^(yes|no|maybe)$", r"^#[0-9a-f]{6}$", r"^\w{1,8}@\w{1,8}\.com$",
        r"^[^\"\\a-y]{0,4}$", r"^[a-z]+(-[a-z]+)*$"])}
    if schema["pattern"].endswith(")*$"):  # has no end of its own
        schema["maxLength"] = rng.randint(1, 12)
        schema["minLength"] = rng.randint(0, schema["maxLength"])
    return schema


def random_number(rng):
    schema = {"type": rng.choice(["integer", "number"])}
    low, span = rng.randint(-1000, 1000), rng.randint(0, 2000)
    if rng.random() < 0.5:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.5:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = low + span + 2
    return schema


def random_array(rng, depth):
    if rng.random() < 0.2:
        items = [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False,
                "minItems": rng.randint(0, len(items))}
    schema = {"type": "array", "items": random_schema(rng, depth - 1),
              "maxItems": rng.randint(0, 3)}
    if rng.random() < 0.4:
        schema["minItems"] = rng.randint(0, schema["maxItems"])
    return schema


def random_object(rng, depth):
    names = rng.sample(["name", "id", "größe", "a b", "x/y", 'q"', "tags", "ok", "n", "na\\\n"],
                       rng.randint(0, 4))
    schema = {"type": "object",
              "properties": {name: random_schema(rng, depth - 1) for name in names},
              "required": [name for name in names if rng.random() < 0.6]}
    if rng.random() < 0.2:
        schema["additionalProperties"] = False
    if not names and rng.random() < 0.7:
        schema["additionalProperties"] = random_schema(rng, 0)
        schema["maxProperties"] = rng.randint(0, 3)
        schema["propertyNames"] = {"maxLength": rng.randint(3, 12)}
    return schema


def random_choice(rng, depth):
    kinds = [{"type": "string", "maxLength": 5}, {"type": "integer"}, {"type": "null"},
             {"type": "boolean"}, random_array(rng, depth - 1)]
    return {rng.choice(["anyOf", "oneOf"]): rng.sample(kinds, rng.randint(1, 4))}


def random_schema(rng, depth):
    leaves = [random_string, random_pattern, random_number,
              lambda rng: {"type": rng.choice(["boolean", "null"])},
              lambda rng: {"enum": rng.sample(["red", "green", "", 1, 2.5, None, True, ["x"],
                                               {"k": "v"}], rng.randint(1, 5))},
              lambda rng: {"const": rng.choice(["fixed", 7, None, "tab\there"])}]
    if depth <= 0 or rng.random() < 0.4:
        return rng.choice(leaves)(rng)
    return rng.choice([random_object, random_object, random_array, random_choice])(rng, depth)


# --- runs ---


class Answer:
    def __init__(self, stubs, stub, **request):
        self.text, self.ids, self.finished = "", [], None
        call = stub.Generate(stubs.quire.GenerateRequest(**request), timeout=SECONDS)
        for event in call:
            self.text += event.delta.text
            self.ids += event.delta.tokens
            if event.HasField("finished"):
                self.finished = event.finished


@pytest.fixture(scope="module")
def server(module_server):
    return module_server("--max-context", "2048")


@pytest.fixture(scope="module")
def stub(server):
    return server.stub()


def refusal(stubs, stub, **request):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Generate(stubs.quire.GenerateRequest(**request), timeout=SECONDS))
    return caught.value.code(), caught.value.details()


def validate(schema, text):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    try:
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
    except ValueError as error:
        pytest.fail(f"{json.dumps(schema)}\n{text!r}\n{error}")


def check_schema(stubs, stub, schema, seed):
    answer = Answer(stubs, stub, text="Here is the data as JSON:\n",
                    json_schema=json.dumps(schema, ensure_ascii=seed % 2 == 0),
                    max_tokens=TOKENS, sampling=stubs.quire.Sampling(seed=seed, temperature=1.2))
    assert answer.finished.reason == stubs.quire.FINISH_REASON_STOP, (schema, answer.text)
    validate(schema, answer.text)
    return len(answer.ids)


def test_answers_under_random_schemas_are_valid(stubs, stub):
    n, rng = N_SCHEMAS, random.Random(20261127)
    schemas = [random_schema(rng, 3) for _ in range(n)]
    failures, counts, begin = [], [], time.monotonic()

    def run(first):
        for seed in range(first, n, AT_ONCE):
            try:
                counts.append(check_schema(stubs, stub, schemas[seed], seed))
            except BaseException as error:  # noqa: B902 (told by the main thread)
                failures.append((seed, error))
                return

    threads = [threading.Thread(target=run, args=(i,)) for i in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert len(counts) == n
    seconds = time.monotonic() - begin
    print(f"{n} schemas, {sum(counts)} tokens, {sum(counts) / seconds:.0f} tokens/s, "
          f"{AT_ONCE} at once")


def test_members_beside_odd_names_have_other_names(stubs, stub):
    """How many members come is the model's choice, so some answers are cut."""
    schema = {"type": "object", "additionalProperties": {"type": "null"}, "required": ['q"'],
              "properties": {'q"': {"type": "integer"}, "na\\\n": {"type": "boolean"},
                             "größe": {"type": "string", "maxLength": 3}, "": {"const": 1}}}
    n_whole = 0
    prompt = 'JSON: {"a": null, "b": null, "c": null}\nJSON: '
    for seed in range(8):
        answer = Answer(stubs, stub, text=prompt, json_schema=json.dumps(schema), max_tokens=60,
                        sampling=stubs.quire.Sampling(seed=seed, temperature=0.7))
        if answer.finished.reason == stubs.quire.FINISH_REASON_STOP:
            validate(schema, answer.text)
            n_whole += len(json.loads(answer.text)) > 1
    assert n_whole > 1


def test_a_grammar_holds_alone_and_beside_others(stubs, stub):
    """The same seed gives the same text alone and in company, and neighbours without a grammar
    are as they were."""
    sampling = stubs.quire.Sampling(seed=5, temperature=1.0)
    plain = dict(text="The weather today is", max_tokens=24, sampling=sampling)
    bound = dict(text="The weather today is", max_tokens=24, sampling=sampling,
                 grammar='root ::= (" " [a-z]{2,7}){3,6} "."')
    alone = [Answer(stubs, stub, **plain), Answer(stubs, stub, **bound)]
    assert alone[1].text.endswith(".") and alone[1].text.count(" ") in range(3, 7)
    assert alone[1].finished.reason == stubs.quire.FINISH_REASON_STOP
    together, threads = [None] * 6, []
    for i in range(6):
        def run(i=i):
            together[i] = Answer(stubs, stub, **(bound if i % 2 else plain))
        threads.append(threading.Thread(target=run))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        assert together[i].ids == alone[i % 2].ids


def test_what_cannot_be_compiled_has_a_place(stubs, stub):
    code, text = refusal(stubs, stub, text="x", grammar='root ::= "a"\nx ::= [')
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("grammar: line 2, column 7: ")
    code, text = refusal(stubs, stub, text="x",
                         json_schema='{"properties": {"a": {"not": {"type": "null"}}}}')
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("json_schema: line 1, column 23: at #/properties/a/not: ")
    code, text = refusal(stubs, stub, text="x", json_schema='{"type": ]')
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "line 1, column 10" in text
    code, text = refusal(stubs, stub, text="x", grammar='root ::= "a"', ignore_eos=True)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "ignore_eos" in text
    code, text = refusal(stubs, stub, text="x", grammar="#" * 65537)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "65536" in text


def test_the_command_takes_files(quire, server, tmp_path):
    (tmp_path / "schema.json").write_text('{"type": "array", "items": {"enum": [1, 2]}, '
                                          '"minItems": 2, "maxItems": 3}')
    (tmp_path / "rules.gbnf").write_text('root ::= "yes" | "no"\n')
    for option, name, check in (
        ("--schema", "schema.json", lambda text: len(json.loads(text)) in (2, 3)),
        ("--grammar", "rules.gbnf", lambda text: text in ("yes", "no")),
    ):
        done = subprocess.run(
            [quire, "generate", "--server", server.address, "--prompt", "Well:", "--seed", "1",
             option, tmp_path / name], capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        assert check(done.stdout.rstrip("\n")), done.stdout


# --- the other ways to steer ---


def test_biases_penalties_and_ends(stubs, stub):
    pb = stubs.quire
    free = Answer(stubs, stub, text="One two one two one two", max_tokens=12,
                  sampling=pb.Sampling(temperature=0))
    banned = free.ids[0]
    other = Answer(stubs, stub, text="One two one two one two", max_tokens=12,
                   sampling=pb.Sampling(temperature=0, logit_bias=[
                       pb.LogitBias(token=banned, bias=-100)]))
    assert banned not in other.ids
    forced = Answer(stubs, stub, text="One two one two one two", max_tokens=4,
                    sampling=pb.Sampling(temperature=0, logit_bias=[
                        pb.LogitBias(token=banned, bias=100)]))
    assert forced.ids == [banned] * 4
    song = dict(text="la la la la la la la la", max_tokens=24)
    lively = Answer(stubs, stub, sampling=pb.Sampling(temperature=0), **song).ids
    tired = Answer(stubs, stub, sampling=pb.Sampling(temperature=0, frequency_penalty=2,
                                                     presence_penalty=2), **song).ids
    assert max(map(tired.count, tired)) < max(map(lively.count, lively))
    stopped = Answer(stubs, stub, text="One two one two one two", max_tokens=12,
                     stop_tokens=[free.ids[2]], sampling=pb.Sampling(temperature=0))
    at = free.ids.index(free.ids[2])
    assert stopped.finished.reason == pb.FINISH_REASON_STOP
    assert stopped.ids == free.ids[: at + 1]
    chat = pb.Chat(messages=[pb.Message(role="user", content="Say hi.")])
    short = Answer(stubs, stub, chat=chat, sampling=pb.Sampling(temperature=0))
    n = len(short.ids)
    longer = Answer(stubs, stub, chat=chat, min_tokens=n + 5, max_tokens=n + 40,
                    sampling=pb.Sampling(temperature=0))
    assert len(longer.ids) >= n + 5 and longer.ids[: n - 1] == short.ids[: n - 1]
    for request, word in (
        (dict(sampling=pb.Sampling(frequency_penalty=2.1)), "frequency_penalty"),
        (dict(sampling=pb.Sampling(presence_penalty=-2.1)), "presence_penalty"),
        (dict(sampling=pb.Sampling(logit_bias=[pb.LogitBias(token=1, bias=101)])), "bias"),
        (dict(sampling=pb.Sampling(logit_bias=[pb.LogitBias(token=1)] * 2)), "twice"),
        (dict(sampling=pb.Sampling(logit_bias=[pb.LogitBias(token=1 << 20)])), "vocabulary"),
        (dict(stop_tokens=[1 << 20]), "vocabulary"),
        (dict(stop_tokens=list(range(65))), "at most 64"),
    ):
        code, text = refusal(stubs, stub, text="x", max_tokens=1, **request)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and word in text, text
