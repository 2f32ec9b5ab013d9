"""Makes the gRPC stubs at build time from the published .proto, so that none is committed."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).parent.resolve()
PROTO = "quire/v1/quire.proto"


def proto_root():
    """A checkout has the protos two folders up; a source distribution carries its own copy."""
    for root in (HERE / "proto", HERE.parent.parent / "proto"):
        if (root / PROTO).is_file():
            return root
    raise SystemExit(f"quire-client: {PROTO} not found: build from a clone of the repository")


def make_stubs(target):
    from grpc_tools import protoc

    root = proto_root()
    arguments = ["protoc", f"-I{root}", f"--python_out={target}", f"--pyi_out={target}",
                 f"--grpc_python_out={target}", PROTO]
    if protoc.main(arguments) != 0:
        raise SystemExit("quire-client: protoc failed; its message stands above")


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            make_stubs(HERE)
        else:
            make_stubs(self.build_lib)


class SdistWithProto(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        copy = pathlib.Path(base_dir) / "proto" / PROTO
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(proto_root() / PROTO, copy)


setup(cmdclass={"build_py": BuildWithStubs, "sdist": SdistWithProto})
