/* service/descriptor_set.h: what the published .proto files say, asked by name (for reflection).
 *
 *   google.protobuf.FileDescriptorSet
 *   '- file*  name, package, import*, message*, enum*, service*, extension*
 *
 * The set is proto/descriptor.pb, a part of the program (house.descriptor_test holds it against the
 * .proto files). A query walks it, some 20 us for 12 KB: nothing is indexed, nothing is allocated.
 * Sets are built with the program and well formed; bytes that are not simply end the walk.
 * Source: google/protobuf/descriptor.proto for field numbers; names as protobuf scopes them.
 *
 * Thread: any.
 */
#ifndef QUIRE_SERVICE_DESCRIPTOR_SET_H
#define QUIRE_SERVICE_DESCRIPTOR_SET_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define DESCRIPTOR_FILES_MAX 64 /* of a set: a mask has a bit a file */

struct descriptor_service {
    struct slice package, name; /* full name: package.name */
};

struct slice descriptor_set_own(void);

/* Files are known by their place in the set; -1: there is none such. */
int descriptor_set_named(struct slice set, struct slice file_name);
/* Declares the message, field, oneof, enum, value, service, method or extension of that full name.
 * A value is a name beside its enum (pkg.VALUE); pkg.Enum.VALUE is taken too. */
int descriptor_set_declaring(struct slice set, struct slice symbol);
int descriptor_set_extending(struct slice set, struct slice message, int32_t number);
/* One FileDescriptorProto; empty beyond the last. */
struct slice descriptor_set_file(struct slice set, int file);
/* The file, then those of its imports, direct or not, that *sent has no bit for; *sent gets the
 * bits of all that is returned. files: [DESCRIPTOR_FILES_MAX]; returns how many. */
size_t descriptor_set_take(struct slice set, int file, uint64_t *sent, struct slice *files);

bool descriptor_set_has_message(struct slice set, struct slice name);
/* Numbers of the message's extensions, in the order of the set, at most max of them. */
size_t descriptor_set_extensions(struct slice set, struct slice message, int32_t *numbers,
                                 size_t max);
/* Services in the order of the set, at most max of them. */
size_t descriptor_set_services(struct slice set, struct descriptor_service *services, size_t max);

#endif
