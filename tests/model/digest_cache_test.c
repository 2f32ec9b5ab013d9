/* Digests of model files, kept from one start to the next; and what is not believed. */
#include "model/digest_cache.h"

#include "gguf_fixture.h"

#include "base/hash.h"
#include "base/status.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define STILL_S (-100) /* files of this moment count as still */

struct scene {
    char root[64], path[96], entry[512];
    struct digest_cache cache; /* in root/cache/quire */
};

static void write_model(const char *path, float value)
{
    struct gguf_writer writer;
    uint64_t dims[1] = {8};
    float values[8] = {value};

    gguf_writer_init(&writer);
    gguf_add_tensor(&writer, "a", 0, 1, dims, values, sizeof values);
    gguf_write_as(&writer, path, 0);
    gguf_writer_release(&writer);
}

static int open_scene(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    if (scene == NULL)
        return -1;
    strcpy(scene->root, "/tmp/quire-digest-XXXXXX");
    if (mkdtemp(scene->root) == NULL)
        return -1;
    snprintf(scene->path, sizeof scene->path, "%s/model.gguf", scene->root);
    snprintf(scene->cache.folder, sizeof scene->cache.folder, "%s/cache/quire", scene->root);
    scene->cache.still_s = STILL_S;
    write_model(scene->path, 1);
    *state = scene;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *scene = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scene->root);
    int status = system(command);
    free(scene);
    return status;
}

/* What a start would know of the file. */
static void digest(const struct scene *scene, uint8_t out[SHA256_BYTES])
{
    struct gguf *file;
    struct why why = {.text = ""};
    if (gguf_open(scene->path, &file, &why) < 0 ||
        digest_cache_of(&scene->cache, file, NULL, out, &why) < 0)
        fail_msg("%s", why.text);
    gguf_close(file);
}

static void true_digest(const struct scene *scene, uint8_t out[SHA256_BYTES])
{
    struct digest_cache none = {.folder = ""};
    struct scene other = *scene;
    other.cache = none;
    digest(&other, out);
}

/* Names in the folder of the cache; the last goes to scene->entry. */
static int n_entries(struct scene *scene)
{
    int n = 0;
    DIR *folder = opendir(scene->cache.folder);
    for (struct dirent *name; folder != NULL && (name = readdir(folder)) != NULL;) {
        if (name->d_name[0] == '.')
            continue;
        n++;
        snprintf(scene->entry, sizeof scene->entry, "%.200s/%.200s", scene->cache.folder,
                 name->d_name);
    }
    if (folder != NULL)
        closedir(folder);
    return n;
}

static size_t read_entry(const struct scene *scene, char *out, size_t size)
{
    FILE *file = fopen(scene->entry, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, size, file);
    fclose(file);
    return n;
}

static void write_entry(const struct scene *scene, const char *bytes, size_t n)
{
    FILE *file = fopen(scene->entry, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

#define TAIL (64 + 1 + 16 + 1)

/* A sound entry of another digest: that it is told shows that no file was read. */
static void forge(const struct scene *scene, uint8_t told[SHA256_BYTES])
{
    char entry[1024];
    size_t n = read_entry(scene, entry, sizeof entry) - TAIL;
    memset(told, 0xab, SHA256_BYTES);
    sha256_hex(told, entry + n);
    entry[n + 64] = '\n';
    snprintf(entry + n + 65, 17, "%016llx", (unsigned long long)hash64(entry, n + 65, 0));
    entry[n + TAIL - 1] = '\n';
    write_entry(scene, entry, n + TAIL);
}

static void test_digest_cache__a_digest_is_computed_once(void **state)
{
    struct scene *scene = *state;
    uint8_t first[SHA256_BYTES], whole[SHA256_BYTES], forged[SHA256_BYTES], next[SHA256_BYTES];

    digest(scene, first);
    true_digest(scene, whole);
    assert_memory_equal(first, whole, sizeof whole);
    assert_int_equal(n_entries(scene), 1);

    forge(scene, forged);
    digest(scene, next);
    assert_memory_equal(next, forged, sizeof forged);
    assert_int_equal(n_entries(scene), 1);
}

static void assert_computed(struct scene *scene, const char *what)
{
    uint8_t got[SHA256_BYTES], whole[SHA256_BYTES];
    digest(scene, got);
    true_digest(scene, whole);
    if (memcmp(got, whole, sizeof whole) != 0)
        fail_msg("believed: %s", what);
}

/* In place, of the same size, and the time of its change set back. */
static void test_digest_cache__a_file_that_changed_is_read_again(void **state)
{
    struct scene *scene = *state;
    uint8_t first[SHA256_BYTES], next[SHA256_BYTES];
    struct stat was;

    digest(scene, first);
    assert_int_equal(stat(scene->path, &was), 0);
    usleep(20000); /* the next tick of the file system's clock */
    int fd = open(scene->path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\x01", 1, was.st_size - 1), 1);
    struct timespec times[] = {was.st_atim, was.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);

    digest(scene, next);
    assert_memory_not_equal(first, next, sizeof next);
    assert_computed(scene, "an entry of the file as it was");
    assert_int_equal(n_entries(scene), 1); /* in the place of the old one */
}

/* Each would tell the forged digest. */
static void test_digest_cache__an_entry_that_is_not_ours_to_the_byte_is_not_believed(void **state)
{
    struct scene *scene = *state;
    uint8_t forged[SHA256_BYTES];
    char entry[1024], bad[1025];

    digest(scene, forged);
    assert_int_equal(n_entries(scene), 1);
    forge(scene, forged);
    size_t n = read_entry(scene, entry, sizeof entry);
    for (size_t cut = 0; cut < n; cut += n / 7) {
        write_entry(scene, entry, cut);
        assert_computed(scene, "a part of an entry");
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(bad, entry, n);
        bad[i] ^= 1 << i % 7;
        write_entry(scene, bad, n);
        assert_computed(scene, "an entry with another byte");
    }
    memcpy(bad, entry, n);
    bad[n] = '\n';
    write_entry(scene, bad, n + 1);
    assert_computed(scene, "an entry with a byte more");
    memcpy(bad, entry, n);
    for (size_t i = n - TAIL; i < n; i++)
        if (bad[i] >= 'a' && bad[i] <= 'f')
            bad[i] -= 'a' - 'A';
    write_entry(scene, bad, n);
    assert_computed(scene, "an entry in capitals");
}

static void test_digest_cache__nothing_is_believed_that_others_may_write(void **state)
{
    struct scene *scene = *state;
    uint8_t forged[SHA256_BYTES], got[SHA256_BYTES];
    char aside[600];

    digest(scene, forged);
    assert_int_equal(n_entries(scene), 1);
    forge(scene, forged);
    assert_int_equal(chmod(scene->cache.folder, 0777), 0);
    assert_computed(scene, "an entry in a folder of all");
    assert_int_equal(chmod(scene->cache.folder, 0700), 0);
    digest(scene, got);
    assert_memory_equal(got, forged, sizeof forged);

    assert_int_equal(chmod(scene->entry, 0622), 0);
    assert_computed(scene, "an entry that others may write"); /* and replaced */
    forge(scene, forged);
    snprintf(aside, sizeof aside, "%s/aside", scene->root);
    assert_int_equal(rename(scene->entry, aside), 0);
    assert_int_equal(symlink(aside, scene->entry), 0);
    assert_computed(scene, "a link");
    unlink(scene->entry);
    assert_int_equal(mkfifo(scene->entry, 0600), 0);
    assert_computed(scene, "a pipe");
    unlink(scene->entry);
    assert_int_equal(mkdir(scene->entry, 0700), 0);
    assert_computed(scene, "a folder");
    assert_int_equal(n_entries(scene), 1); /* and no half of a new one is left */
}

static void test_digest_cache__small_files_and_young_ones_are_not_kept(void **state)
{
    struct scene *scene = *state;
    struct stat is;

    assert_int_equal(stat(scene->path, &is), 0);
    scene->cache.bytes_min = (uint64_t)is.st_size + 1;
    assert_computed(scene, "");
    assert_int_equal(n_entries(scene), 0);
    scene->cache.bytes_min = (uint64_t)is.st_size;
    scene->cache.still_s = 1000;
    assert_computed(scene, "");
    assert_int_equal(n_entries(scene), 0);
    scene->cache.still_s = STILL_S;
    assert_computed(scene, "");
    assert_int_equal(n_entries(scene), 1);
}

static void test_digest_cache__where_nothing_can_be_kept_nothing_fails(void **state)
{
    struct scene *scene = *state;

    snprintf(scene->cache.folder, sizeof scene->cache.folder, "%s/quire", scene->path);
    assert_computed(scene, "a folder below a file");
    snprintf(scene->cache.folder, sizeof scene->cache.folder, "/proc/quire");
    assert_computed(scene, "a folder that cannot be made");
}

static void test_digest_cache__what_is_stopped_keeps_nothing(void **state)
{
    struct scene *scene = *state;
    const volatile int stop = 1;
    uint8_t out[SHA256_BYTES];
    struct gguf *file;
    struct why why;

    assert_int_equal(gguf_open(scene->path, &file, &why), STATUS_OK);
    assert_int_equal(digest_cache_of(&scene->cache, file, &stop, out, &why), STATUS_CANCELLED);
    gguf_close(file);
    assert_int_equal(n_entries(scene), 0);
}

static void assert_folder(const char *expected)
{
    struct digest_cache cache;
    digest_cache_init(&cache);
    assert_string_equal(cache.folder, expected);
}

static void test_digest_cache__its_folder_is_that_of_the_environment(void **state)
{
    const char *home = getenv("HOME");
    char *kept = home != NULL ? strdup(home) : NULL;

    setenv("XDG_CACHE_HOME", "/somewhere", 1);
    assert_folder("/somewhere/quire");
    setenv("XDG_CACHE_HOME", "not/absolute", 1);
    setenv("HOME", "/home/reader", 1);
    assert_folder("/home/reader/.cache/quire");
    unsetenv("XDG_CACHE_HOME");
    assert_folder("/home/reader/.cache/quire");
    unsetenv("HOME");
    assert_folder("");
    if (kept != NULL)
        setenv("HOME", kept, 1);
    free(kept);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(test_digest_cache__##name, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_digest_is_computed_once),
        TEST(a_file_that_changed_is_read_again),
        TEST(an_entry_that_is_not_ours_to_the_byte_is_not_believed),
        TEST(nothing_is_believed_that_others_may_write),
        TEST(small_files_and_young_ones_are_not_kept),
        TEST(where_nothing_can_be_kept_nothing_fails),
        TEST(what_is_stopped_keeps_nothing),
        cmocka_unit_test(test_digest_cache__its_folder_is_that_of_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
