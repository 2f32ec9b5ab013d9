#!/usr/bin/env python3
"""Proves that include_law.py catches each kind of breach, and lets lawful code pass."""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import include_law  # noqa: E402

HEADERS = (
    "base/ring.h", "kernels/device.h", "kernels/kv_view.h", "kernels/ops.h",
    "kernels/tensor_type.h", "kernels/cpu/cpu_math.h", "kvcache/kv_cache.h", "model/gguf.h",
    "engine/engine.h", "engine/message.h", "engine/scheduler.h", "service/call.h",
    "service/server.h", "tools/bench.h", "clients/c/channel.h", "clients/rust/shim.h", "limits.h",
)


class IncludeLawTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        for header in HEADERS:
            self.write(header, "\n")

    def tearDown(self):
        self.folder.cleanup()

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def breaches_of(self, path, text):
        self.write(path, text)
        found = [breach for breach in include_law.breaches(self.root) if breach[0] == path]
        os.remove(os.path.join(self.root, path))
        return [(number, reason) for _, number, reason in found]

    def assert_lawful(self, path, *targets):
        for target in targets:
            text = f"#include {target}\n"
            self.assertEqual(self.breaches_of(path, text), [], f"{path} includes {target}")

    def assert_breach(self, path, *targets):
        for target in targets:
            found = self.breaches_of(path, f"/* first */\n#include {target}\n")
            self.assertEqual([number for number, _ in found], [2], f"{path} includes {target}")

    def test_lawful_tree_passes(self):
        self.assertEqual(include_law.breaches(self.root), [])

    def test_base_sees_only_libc_and_digests(self):
        self.assert_lawful("base/x.c", '"base/ring.h"', "<string.h>", "<xxhash.h>",
                           "<openssl/evp.h>", '"limits.h"', "<limits.h>")
        self.assert_breach("base/x.c", '"kernels/ops.h"', '"model/gguf.h"', '"engine/engine.h"',
                           '"service/call.h"', "<uv.h>", "<nghttp2/nghttp2.h>", "<pcre2.h>")

    def test_kernels_see_base(self):
        self.assert_lawful("kernels/cpu/x.c", '"base/ring.h"', '"kernels/ops.h"',
                           '"kernels/cpu/cpu_math.h"', '"limits.h"')
        self.assert_breach("kernels/cpu/x.c", '"kvcache/kv_cache.h"', '"model/gguf.h"',
                           '"engine/message.h"', '"tools/bench.h"', "<cuda_runtime.h>")
        self.assert_lawful("kernels/cuda/cuda_x.cu", "<cuda_runtime.h>")
        self.assert_lawful("kernels/cuda/platform.cuh", "<cuda_fp16.h>")
        self.assert_breach("kernels/cuda/x.cu", "<cuda_fp16.h>")
        self.assert_breach("kernels/x.c", "<cuda_runtime.h>", "<xxhash.h>")

    def test_kvcache_sees_three_headers_of_kernels(self):
        self.assert_lawful("kvcache/x.c", '"base/ring.h"', '"kernels/device.h"',
                           '"kernels/kv_view.h"', '"kernels/ops.h"')
        self.assert_breach("kvcache/x.c", '"kernels/tensor_type.h"', '"kernels/cpu/cpu_math.h"',
                           '"model/gguf.h"', '"engine/engine.h"', '"service/call.h"')

    def test_model_does_not_know_kvcache(self):
        self.assert_lawful("model/x.c", '"base/ring.h"', '"kernels/tensor_type.h"', "<pcre2.h>")
        self.assert_breach("model/x.h", '"kvcache/kv_cache.h"', '"engine/message.h"', "<uv.h>")

    def test_engine_does_not_know_the_wire(self):
        self.assert_lawful("engine/x.c", '"base/ring.h"', '"kernels/device.h"',
                           '"kernels/kv_view.h"', '"kernels/ops.h"', '"kvcache/kv_cache.h"',
                           '"model/gguf.h"')
        self.assert_breach("engine/x.c", '"kernels/cpu/cpu_ops.h"', '"service/call.h"', "<uv.h>",
                           "<nghttp2/nghttp2.h>", '"quire/v1/quire.pb-c.h"', "<pcre2.h>",
                           "<protobuf-c/protobuf-c.h>", '"proto/x.h"', '"clients/c/channel.h"')

    def test_service_sees_two_headers_of_engine(self):
        self.assert_lawful("service/x.c", '"base/ring.h"', '"engine/engine.h"',
                           '"engine/message.h"', '"service/call.h"')
        self.assert_breach("service/x.c", '"engine/scheduler.h"', '"kvcache/kv_cache.h"',
                           '"model/gguf.h"', '"kernels/device.h"', '"tools/bench.h"',
                           '"clients/c/channel.h"')

    def test_service_touches_proto_in_wire_only(self):
        for name in ("wire.c", "wire_request.c"):
            self.assert_lawful(f"service/{name}", '"quire/v1/quire.pb-c.h"',
                               "<protobuf-c/protobuf-c.h>")
        for name in ("call.h", "call.c", "rewire.c"):
            self.assert_breach(f"service/{name}", '"quire/v1/quire.pb-c.h"',
                               "<protobuf-c/protobuf-c.h>")

    def test_service_touches_the_loop_in_transport_only(self):
        for name in ("serve.c", "server.c", "h2_conn.c", "grpc_call.h", "tls.c"):
            self.assert_lawful(f"service/{name}", "<uv.h>", "<nghttp2/nghttp2.h>")
        for name in ("call.c", "generate.c", "wire.c"):
            self.assert_breach(f"service/{name}", "<uv.h>", "<nghttp2/nghttp2.h>")

    def test_tools_do_not_know_service_or_clients(self):
        self.assert_lawful("tools/x.c", '"base/ring.h"', '"engine/scheduler.h"',
                           '"kvcache/kv_cache.h"', '"model/gguf.h"', '"kernels/ops.h"')
        self.assert_breach("tools/x.c", '"service/call.h"', '"clients/c/channel.h"', "<uv.h>")

    def test_clients_prove_the_wire_alone(self):
        self.assert_lawful("clients/c/x.c", '"base/ring.h"', '"clients/c/channel.h"', "<uv.h>",
                           "<nghttp2/nghttp2.h>", '"quire/v1/quire.pb-c.h"')
        self.assert_breach("clients/c/x.c", '"service/call.h"', '"engine/message.h"',
                           '"tools/bench.h"', '"model/gguf.h"', '"kernels/ops.h"')

    def test_main_dispatches(self):
        self.assert_lawful("main.c", '"base/ring.h"', '"service/call.h"', '"tools/bench.h"',
                           '"clients/c/channel.h"', '"limits.h"')
        self.assert_breach("main.c", '"engine/engine.h"', '"model/gguf.h"', "<uv.h>",
                           '"clients/rust/shim.h"')

    def test_limits_include_no_room(self):
        self.assert_breach("limits.h", '"base/ring.h"')

    def test_includes_are_written_from_the_root(self):
        self.assert_breach("base/x.c", '"ring.h"', '"../base/ring.h"', '"base/none.h"',
                           "<base/ring.h>", "RING_HEADER")

    def test_any_spacing_of_an_include_is_read(self):
        for text in ('# include "model/gguf.h"\n', '\t#include\t<uv.h>\n',
                     '#include"model/gguf.h"\n', '#include_next "model/gguf.h"\n', '#include <uv.h> /* why */\n'):
            self.assertEqual(len(self.breaches_of("base/x.c", text)), 1, text)

    def test_tests_may_include_any_room(self):
        self.assert_lawful("tests/service/x_test.c", '"service/call.h"', '"engine/scheduler.h"',
                           "<uv.h>", "<cmocka.h>")

    def test_a_file_ends_at_600_lines(self):
        for path in ("base/x.c", "tests/base/x_test.c", "scripts/x.py", "proto/x.proto"):
            self.assertEqual(self.breaches_of(path, "\n" * 600), [])
            self.assertEqual([n for n, _ in self.breaches_of(path, "\n" * 601)], [601])

    def test_a_line_ends_at_100_columns(self):
        for path in ("base/x.c", "base/x.h", "tests/base/x_test.c"):
            self.assertEqual(self.breaches_of(path, "x" * 100 + "\n" + "\u20ac" * 100 + "\n"), [])
            self.assertEqual([n for n, _ in self.breaches_of(path, "\n" + "x" * 101 + "\n")], [2])
        self.assertEqual(self.breaches_of("scripts/x.py", "x" * 101), [])

    def test_a_function_ends_at_70_lines(self):
        def function(lines):
            return "int f(void)\n{\n" + "    x();\n" * (lines - 2) + "}\n"
        self.assertEqual(self.breaches_of("base/x.c", function(70) * 2), [])
        self.assertEqual([n for n, _ in self.breaches_of("base/x.c", function(71) * 2)], [2, 74])
        table = "static const int t[] = {\n" + "    1,\n" * 90 + "};\n"
        self.assertEqual(self.breaches_of("base/x.c", table), [])

    def test_a_stem_is_unique(self):
        self.assertEqual(self.breaches_of("base/ring.c", "\n"), [])
        found = self.breaches_of("tests/base/ring.c", "\n")
        self.assertEqual(found, [(1, 'the stem "ring" is taken by base/ring.h')])
        self.write("kernels/cpu/rope.c", "\n")
        self.assertEqual(self.breaches_of("kernels/cuda/rope.cu", "\n"), [])
        self.write("kernels/cuda/rope.cu", "\n")
        self.assertEqual(include_law.breaches(self.root), [])
        self.write("kernels/rope.c", "\n")
        self.write("model/rope.h", "\n")
        found = [(path, reason) for path, _, reason in include_law.breaches(self.root)]
        self.assertEqual(found, [
            ("kernels/cpu/rope.c", 'the stem "rope" is taken by kernels/rope.c'),
            ("kernels/cuda/rope.cu", 'the stem "rope" is taken by kernels/rope.c'),
            ("model/rope.h", 'the stem "rope" is taken by kernels/rope.c'),
        ])

    def test_some_words_are_no_names(self):
        for name in ("page_manager.c", "helpers.py", "util.h", "call_ctx.c", "data.c", "process.c",
                     "string_utils.c", "do_it.sh", "data-load.py"):
            self.assertEqual(len(self.breaches_of(f"tests/{name}", "\n")), 1, name)
        for name in ("metadata.c", "doer.c", "processor.c", "context.c", "database.py"):
            self.assertEqual(self.breaches_of(f"tests/{name}", "\n"), [], name)

    def test_built_and_foreign_files_are_left_alone(self):
        text = '#include "model/gguf.h"\n' + "x" * 200 + "\n"
        for path in ("build/base/x.c", "build-mine/x.c", ".git/x.c", "clients/python/build/x.c",
                     "node_modules/x/util.h", "clients/python/quire/v1/quire_pb2.py"):
            self.assertEqual(self.breaches_of(path, text), [], path)

    def run_script(self):
        script = os.path.join(os.path.dirname(os.path.abspath(include_law.__file__)),
                              "include_law.py")
        result = subprocess.run([sys.executable, "-B", script, self.root], capture_output=True,
                                text=True, check=False)
        return result.returncode, result.stdout

    def test_the_script_prints_each_breach_and_fails(self):
        self.assertEqual(self.run_script(), (0, ""))
        self.write("base/x.c", '\n#include "model/gguf.h"\n')
        self.write("base/util.c", "\n")
        status, output = self.run_script()
        self.assertEqual(status, 1)
        self.assertEqual(output.splitlines(), [
            'base/util.c:1: "util" is no name for a file',
            "base/x.c:2: base may not include model",
            "2 breaches of the house rules",
        ])

    def test_the_script_fails_where_there_is_nothing_to_read(self):
        with tempfile.TemporaryDirectory() as empty:
            self.root = empty
            self.assertEqual(self.run_script()[0], 2)


if __name__ == "__main__":
    unittest.main()
