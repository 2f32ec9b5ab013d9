# quire_proto: protobuf-c code from a rewritten copy of the published protos (reference: docs/proto.md).
#
# protoc-c 1.4.1 knows no proto3 `optional` and turns `string` into char *. The copy says `optional T f = N;` as a oneof of one
# field (the same bytes on the wire) and marks strings as bytes; the published files stay as they are.
set(proto_out ${PROJECT_BINARY_DIR}/proto)
file(GLOB_RECURSE protos RELATIVE ${PROJECT_SOURCE_DIR}/proto CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.proto)
set(proto_rewritten)
set(proto_sources)
foreach(proto ${protos})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    get_filename_component(dir ${proto} DIRECTORY)
    file(MAKE_DIRECTORY ${proto_out}/in/${dir} ${proto_out}/out/${dir})
    add_custom_command(OUTPUT ${proto_out}/in/${proto}
        COMMAND sed -E -f ${PROJECT_SOURCE_DIR}/cmake/proto.sed ${PROJECT_SOURCE_DIR}/proto/${proto} > ${proto_out}/in/${proto}
        DEPENDS ${PROJECT_SOURCE_DIR}/proto/${proto} ${PROJECT_SOURCE_DIR}/cmake/proto.sed VERBATIM)
    list(APPEND proto_rewritten ${proto_out}/in/${proto})
    list(APPEND proto_stems ${stem})
endforeach()
foreach(stem ${proto_stems})
    add_custom_command(OUTPUT ${proto_out}/out/${stem}.pb-c.c ${proto_out}/out/${stem}.pb-c.h
        COMMAND ${PROTOC_C} -I ${proto_out}/in -I /usr/include --c_out=${proto_out}/out ${proto_out}/in/${stem}.proto
        DEPENDS ${proto_rewritten} VERBATIM)
    list(APPEND proto_sources ${proto_out}/out/${stem}.pb-c.c)
endforeach()
if(proto_sources)
    add_library(quire_proto STATIC ${proto_sources})
    target_include_directories(quire_proto SYSTEM PUBLIC ${proto_out}/out)
    target_compile_options(quire_proto PRIVATE -w)
    target_link_libraries(quire_proto PUBLIC PkgConfig::PROTOBUF_C)
else()
    add_library(quire_proto INTERFACE)
endif()
