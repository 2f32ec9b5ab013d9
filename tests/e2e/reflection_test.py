"""Server reflection and the list of health, asked by the libraries of others."""

import os
import shutil
import subprocess

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from conftest import BUILD, ROOT

SECONDS = 60
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
METHOD = "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo"
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "quire.v1.Quire",
]


@pytest.fixture(scope="module")
def running(module_server, tiny):
    return module_server(model=tiny["q4_0"])


def committed_files():
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((ROOT / "proto" / "descriptor.pb").read_bytes())
    return {file.name: file for file in files.file}


def types_of(version):
    """Request and response of that version, from the committed set."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(committed_files()[f"grpc/reflection/{version}/reflection.proto"])
    return [
        message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"grpc.reflection.{version}.ServerReflection{name}")
        )
        for name in ("Request", "Response")
    ]


def info(channel, version):
    request, response = types_of(version)
    call = channel.stream_stream(
        METHOD % version,
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return request, call


def test_a_client_without_protos_finds_and_calls_a_method(running):
    database = ProtoReflectionDescriptorDatabase(running.channel())
    assert sorted(database.get_services()) == SERVICES
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("quire.v1.Quire").FindMethodByName("Tokenize")
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    call = running.channel().unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    assert len(call(request(text="Once upon a time"), timeout=SECONDS).ids) > 0
    assert list(database.FindAllExtensionNumbers("quire.v1.Model")) == []
    with pytest.raises(KeyError):
        database.FindFileByName("nobody.proto")
    with pytest.raises(KeyError):
        database.FindFileContainingSymbol("quire.v1.Nobody")
    assert finds_no_extension(database)


def finds_no_extension(database):
    """The library tells what is not there by KeyError in some releases, by None in others."""
    try:
        return database.FindFileContainingExtension("quire.v1.Model", 1) is None
    except KeyError:
        return True


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_each_version_gives_every_committed_file_on_one_stream(running, version):
    request, call = info(running.channel(), version)
    names = sorted(committed_files())
    asked = [request(host="me", file_by_filename=name) for name in names]
    answers = list(call(iter(asked), timeout=SECONDS))
    assert [answer.original_request for answer in answers] == asked
    for name, answer in zip(names, answers, strict=True):
        first = answer.file_descriptor_response.file_descriptor_proto[0]
        assert descriptor_pb2.FileDescriptorProto.FromString(first) == committed_files()[name]
        assert answer.valid_host == "me"


def test_hostile_requests_are_answered_or_end_their_stream(running):
    request, call = info(running.channel(), "v1")
    long_name = "x." * 30000
    answers = list(
        call(
            iter(
                [
                    request(),
                    request(file_containing_symbol=long_name),
                    request(file_containing_symbol="\0"),
                    request(file_containing_extension={"extension_number": -1}),
                    request(list_services="\U0001f600" * 100),
                ]
            ),
            timeout=SECONDS,
        )
    )
    codes = [answer.error_response.error_code for answer in answers]
    assert codes == [3, 5, 5, 5, 0]
    assert answers[1].original_request.file_containing_symbol == long_name

    def raw(*bodies):
        method = running.channel().stream_stream(METHOD % "v1")
        with pytest.raises(grpc.RpcError) as caught:
            list(method(iter(bodies), timeout=SECONDS))
        return caught.value.code()

    assert raw(b"\xff") == grpc.StatusCode.INTERNAL
    assert raw(b"\x22\x02\xff\xfe") == grpc.StatusCode.INVALID_ARGUMENT
    assert raw(b"\x0a\x01\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert raw(b"\x22" + b"\xff" * 70000) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sum(1 for _ in call(iter([request(list_services="")] * 3000), timeout=SECONDS)) == 3000


def test_health_lists_what_is_served(running, stubs):
    request = stubs.health.HealthListRequest()
    statuses = running.health().List(request, timeout=SECONDS).statuses
    serving = stubs.health.HealthCheckResponse.SERVING
    assert {name: told.status for name, told in statuses.items()} == {
        "": serving,
        "quire.v1.Quire": serving,
    }


@pytest.fixture(scope="module")
def grpcurl():
    """On the PATH, in build/grpcurl, or (with --long) installed there by Go."""
    found = shutil.which("grpcurl") or shutil.which(BUILD / "grpcurl" / "grpcurl")
    if found:
        return found
    if os.environ.get("QUIRE_LONG") != "1":
        pytest.skip("grpcurl is not here; scripts/test --long installs it where there is Go")
    if not shutil.which("go"):
        pytest.skip("grpcurl is not here, and neither is Go to install it")
    folder = BUILD / "grpcurl"
    made = subprocess.run(
        ["go", "install", GRPCURL],
        env={**os.environ, "GOBIN": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"Go could not install grpcurl: {made.stderr.strip().splitlines()[-1]}")
    return folder / "grpcurl"


def test_grpcurl_needs_no_proto(running, grpcurl):
    def run(*words):
        done = subprocess.run(
            [grpcurl, "-plaintext", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(running.address, "list").split() == SERVICES
    assert "rpc Generate" in run(running.address, "describe", "quire.v1.Quire")
    answer = run(
        "-d", '{"text": "Once upon a time", "spans": true}', running.address,
        "quire.v1.Quire/Tokenize",
    )
    assert '"ids"' in answer and '"spans"' in answer
    assert "SERVING" in run(running.address, "grpc.health.v1.Health/List")
