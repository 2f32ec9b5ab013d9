# proto3 for protoc-c 1.4.1: see cmake/proto.cmake. One field a line in the published files.
s/^(\s*)optional\s+(\S+)\s+(\w+)\s*=\s*([0-9]+)\s*;/\1oneof opt_\3 { \2 \3 = \4; }/
s/\bstring (\w+) = ([0-9]+);/string \1 = \2 [(pb_c_field).string_as_bytes = true];/
s/^package .*;$/&\nimport "protobuf-c\/protobuf-c.proto";/
