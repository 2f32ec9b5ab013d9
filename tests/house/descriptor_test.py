#!/usr/bin/env python3
"""The protos keep what the committed descriptor set promises; and the check sees each breach."""
import os
import shutil
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "house"))
import descriptor  # noqa: E402

PROTO = "quire/v1/quire.proto"


def committed():
    with open(os.path.join(ROOT, "proto", "descriptor.pb"), "rb") as file:
        return file.read()


class DescriptorTest(unittest.TestCase):
    def breaches_after(self, old, new, allow_new=False):
        """What is told when `old` in the proto becomes `new`."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(scratch, "proto")
            shutil.copytree(os.path.join(ROOT, "proto"), folder)
            path = os.path.join(folder, PROTO)
            with open(path, encoding="utf-8") as file:
                source = file.read()
            self.assertEqual(source.count(old), 1, f"{old!r} stands once in {PROTO}")
            with open(path, "w", encoding="utf-8") as file:
                file.write(source.replace(old, new))
            return list(descriptor.breaches(committed(), descriptor.describe(folder), allow_new))

    def assert_breach(self, old, new, *told):
        found = self.breaches_after(old, new)
        for part in told:
            self.assertTrue(any(part in line for line in found), f"{part!r} not in {found}")

    def test_the_protos_are_what_was_published(self):
        current = descriptor.describe(os.path.join(ROOT, "proto"))
        self.assertEqual(list(descriptor.breaches(committed(), current, False)), [])

    def test_a_removed_field_is_seen(self):
        self.assert_breach("  bool ignore_eos = 7;", "", "GenerateRequest = 7 is gone")

    def test_a_renumbered_field_is_seen(self):
        self.assert_breach("bool ignore_eos = 7;", "bool ignore_eos = 70;", "= 7 is gone")

    def test_a_renamed_field_is_seen(self):
        self.assert_breach("bool ignore_eos = 7;", "bool ignores_eos = 7;", "ignores_eos")

    def test_a_retyped_field_is_seen(self):
        self.assert_breach("bool ignore_eos = 7;", "uint32 ignore_eos = 7;", "= 7 was")

    def test_a_relabelled_field_is_seen(self):
        self.assert_breach("bool ignore_eos = 7;", "repeated bool ignore_eos = 7;", "= 7 was")
        self.assert_breach("bool ignore_eos = 7;", "optional bool ignore_eos = 7;", "= 7 was")

    def test_a_field_that_left_its_oneof_is_seen(self):
        self.assert_breach(
            "    Chat chat = 3;\n  }\n", "  }\n  Chat chat = 3;\n", "GenerateRequest = 3 was"
        )

    def test_a_removed_or_renumbered_value_is_seen(self):
        self.assert_breach("CONTENT_TOKENS = 2;", "CONTENT_TOKENS = 3;", "Content = 2 is gone")

    def test_a_removed_method_is_seen(self):
        self.assert_breach(
            "  rpc Tokenize(TokenizeRequest) returns (TokenizeResponse);\n",
            "",
            "Quire/Tokenize is gone",
        )

    def test_a_method_with_another_shape_is_seen(self):
        self.assert_breach(
            "rpc Tokenize(TokenizeRequest) returns (TokenizeResponse);",
            "rpc Tokenize(TokenizeRequest) returns (stream TokenizeResponse);",
            "Quire/Tokenize was",
        )

    def test_what_is_new_must_be_committed_too(self):
        new = "bool ignore_eos = 7;\n  bool brand_new = 77;"
        self.assert_breach("bool ignore_eos = 7;", new, "run scripts/descriptor")
        self.assertEqual(self.breaches_after("bool ignore_eos = 7;", new, allow_new=True), [])


if __name__ == "__main__":
    unittest.main()
