#!/usr/bin/env python3
"""Compares the committed descriptor set with the protos: what was published stays as it was.

    descriptor.py [--allow-new] [ROOT]     prints a line a breach; exits 1 when there is any

A breach is a file, message, field, enum, value, service or method that is gone, and a field whose
name, number, type, label or oneof has changed, or a method whose types or streams have. What is new
is told too, unless --allow-new is given: the committed set is then old (scripts/descriptor).
Standard library and protoc alone.
"""
import os
import subprocess
import sys
import tempfile

# Field numbers of google/protobuf/descriptor.proto.
FILE_NAME, FILE_PACKAGE, FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 1, 2, 4, 5, 6
NAME, MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 1, 2, 3, 4, 8
FIELD_NUMBER, FIELD_LABEL, FIELD_TYPE, FIELD_TYPE_NAME, FIELD_ONEOF = 3, 4, 5, 6, 9
FIELD_PROTO3_OPTIONAL = 17
ENUM_VALUE, VALUE_NUMBER, SERVICE_METHOD = 2, 2, 2
METHOD_INPUT, METHOD_OUTPUT, METHOD_CLIENT_STREAM, METHOD_SERVER_STREAM = 2, 3, 5, 6


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def parse(data):
    """{field number: [values]}: integers, and bytes of whatever has a length."""
    fields, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[key & 7]
            value, at = data[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def text(fields, number):
    return fields.get(number, [b""])[0].decode()


def number(fields, which):
    return fields.get(which, [0])[0]


def read_field(field, oneofs):
    in_oneof = FIELD_ONEOF in field and not number(field, FIELD_PROTO3_OPTIONAL)
    return (
        text(field, NAME),
        number(field, FIELD_LABEL),
        number(field, FIELD_TYPE),
        text(field, FIELD_TYPE_NAME),
        bool(number(field, FIELD_PROTO3_OPTIONAL)),
        oneofs[number(field, FIELD_ONEOF)] if in_oneof else "",
    )


def read_enum(prefix, enum, out):
    name = f"{prefix}.{text(enum, NAME)}"
    out[f"enum {name}"] = ()
    for value in map(parse, enum.get(ENUM_VALUE, [])):
        out[f"value {name} = {number(value, VALUE_NUMBER)}"] = (text(value, NAME),)


def read_message(prefix, message, out):
    name = f"{prefix}.{text(message, NAME)}"
    oneofs = [text(parse(oneof), NAME) for oneof in message.get(MESSAGE_ONEOF, [])]
    out[f"message {name}"] = ()
    for field in map(parse, message.get(MESSAGE_FIELD, [])):
        out[f"field {name} = {number(field, FIELD_NUMBER)}"] = read_field(field, oneofs)
    for nested in map(parse, message.get(MESSAGE_NESTED, [])):
        read_message(name, nested, out)
    for enum in map(parse, message.get(MESSAGE_ENUM, [])):
        read_enum(name, enum, out)


def promises(descriptor_set):
    """{what: its shape}: everything that a client's stubs depend on."""
    out = {}
    for file in map(parse, parse(descriptor_set).get(1, [])):
        package = text(file, FILE_PACKAGE)
        out[f"file {text(file, FILE_NAME)}"] = (package,)
        for message in map(parse, file.get(FILE_MESSAGE, [])):
            read_message(package, message, out)
        for enum in map(parse, file.get(FILE_ENUM, [])):
            read_enum(package, enum, out)
        for service in map(parse, file.get(FILE_SERVICE, [])):
            name = f"{package}.{text(service, NAME)}"
            out[f"service {name}"] = ()
            for method in map(parse, service.get(SERVICE_METHOD, [])):
                out[f"method {name}/{text(method, NAME)}"] = (
                    text(method, METHOD_INPUT),
                    text(method, METHOD_OUTPUT),
                    bool(number(method, METHOD_CLIENT_STREAM)),
                    bool(number(method, METHOD_SERVER_STREAM)),
                )
    return out


def describe(proto_folder):
    """The descriptor set of the protos as they are."""
    files = sorted(
        os.path.relpath(os.path.join(folder, name), proto_folder)
        for folder, _, names in os.walk(proto_folder)
        for name in names
        if name.endswith(".proto")
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "set.pb")
        subprocess.run(
            ["protoc", "-I", ".", "--include_imports", f"--descriptor_set_out={out}", *files],
            cwd=proto_folder,
            check=True,
        )
        with open(out, "rb") as file:
            return file.read()


def breaches(committed, current, allow_new):
    old, new = promises(committed), promises(current)
    for what, shape in old.items():
        if what not in new:
            yield f"{what} is gone"
        elif new[what] != shape:
            yield f"{what} was {shape} and is {new[what]}"
    if not allow_new:
        for what in new:
            if what not in old:
                yield f"{what} is not in proto/descriptor.pb: run scripts/descriptor"


def main():
    arguments = sys.argv[1:]
    allow_new = "--allow-new" in arguments
    roots = [argument for argument in arguments if argument != "--allow-new"]
    proto_folder = os.path.join(roots[0] if roots else os.getcwd(), "proto")
    with open(os.path.join(proto_folder, "descriptor.pb"), "rb") as file:
        committed = file.read()
    found = list(breaches(committed, describe(proto_folder), allow_new))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
