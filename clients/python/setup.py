"""Makes the gRPC stubs at build time from the published .proto, so that none is committed.

What building needs on the way stands in a folder of its own and goes when it ends: `pip install`
leaves the source tree as it was.
"""

import atexit
import pathlib
import shutil
import sys
import tempfile

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).parent.resolve()
PROTO = "quire/v1/quire.proto"


def scratch_folder():
    folder = tempfile.mkdtemp(prefix="quire-client-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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


class BuildElsewhere(build):
    def initialize_options(self):
        super().initialize_options()
        self.build_base = scratch_folder()


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        make_stubs(HERE if self.editable_mode else self.build_lib)


class EggInfoElsewhere(egg_info):
    def initialize_options(self):
        super().initialize_options()
        if "sdist" not in sys.argv:  # a source distribution packs it
            self.egg_base = scratch_folder()


class SdistWithProto(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        copy = pathlib.Path(base_dir) / "proto" / PROTO
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(proto_root() / PROTO, copy)


setup(cmdclass={"build": BuildElsewhere, "build_py": BuildWithStubs, "egg_info": EggInfoElsewhere,
                "sdist": SdistWithProto})
