#include "model/digest_cache.h"

#include "base/hash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_BYTES_MIN ((uint64_t)256 << 20)
#define DEFAULT_STILL_S 2
#define HEAD "quire digest 1\n"
#define LINE_BYTES 160 /* of a file's line at most */
#define CHECK_DIGITS 16
#define DIGEST_DIGITS ((size_t)2 * SHA256_BYTES)
#define TAIL_BYTES (DIGEST_DIGITS + 1 + CHECK_DIGITS + 1)

/* What an entry says of the files; behind it stand the digest and the check. */
struct account {
    char name[32]; /* of the entry */
    char *text;    /* [n], room for the tail */
    size_t n;
    uint64_t bytes;    /* of all files */
    int64_t changed_s; /* of the one that changed last */
};

void digest_cache_init(struct digest_cache *cache)
{
    const char *base = getenv("XDG_CACHE_HOME"), *below = "";
    size_t size = sizeof cache->folder;

    if (base == NULL || base[0] != '/') {
        base = getenv("HOME");
        below = "/.cache";
    }
    cache->bytes_min = DEFAULT_BYTES_MIN;
    cache->still_s = DEFAULT_STILL_S;
    if (base == NULL || base[0] != '/' ||
        (size_t)snprintf(cache->folder, size, "%s%s/quire", base, below) >= size)
        cache->folder[0] = '\0';
}

/* --- accounts --- */

static void add_file(struct account *account, const struct stat *is)
{
    account->n += (size_t)snprintf(account->text + account->n, LINE_BYTES,
                                   "%" PRIu64 " %" PRIu64 " %" PRIu64 " %lld.%09ld %lld.%09ld\n",
                                   (uint64_t)is->st_dev, (uint64_t)is->st_ino,
                                   (uint64_t)is->st_size, (long long)is->st_mtim.tv_sec,
                                   is->st_mtim.tv_nsec, (long long)is->st_ctim.tv_sec,
                                   is->st_ctim.tv_nsec);
    account->bytes += (uint64_t)is->st_size;
    if (account->changed_s < is->st_mtim.tv_sec)
        account->changed_s = is->st_mtim.tv_sec;
    if (account->changed_s < is->st_ctim.tv_sec)
        account->changed_s = is->st_ctim.tv_sec;
}

/* Of the files as they are now. False: it cannot be told. The caller frees the text in any case. */
static bool give_account(const struct gguf *file, struct account *out)
{
    uint32_t n = gguf_n_files(file);
    uint64_t name = 0;

    *out = (struct account){.text = malloc(sizeof HEAD + (size_t)n * LINE_BYTES + TAIL_BYTES + 1)};
    if (out->text == NULL)
        return false;
    memcpy(out->text, HEAD, sizeof HEAD - 1);
    out->n = sizeof HEAD - 1;
    for (uint32_t i = 0; i < n; i++) {
        struct stat is;
        if (gguf_file_stat(file, i, &is) < 0)
            return false;
        uint64_t place[] = {is.st_dev, is.st_ino};
        name = hash64(place, sizeof place, name);
        add_file(out, &is);
    }
    snprintf(out->name, sizeof out->name, "digest-%016" PRIx64, name);
    return true;
}

/* Behind the account: the digest, and the check of all that stands before it. */
static void add_tail(const struct account *account, const uint8_t digest[SHA256_BYTES])
{
    char *tail = account->text + account->n;

    sha256_hex(digest, tail);
    tail[DIGEST_DIGITS] = '\n';
    snprintf(tail + DIGEST_DIGITS + 1, CHECK_DIGITS + 1, "%016" PRIx64,
             hash64(account->text, account->n + DIGEST_DIGITS + 1, 0));
    tail[TAIL_BYTES - 1] = '\n';
}

/* --- the folder --- */

static bool is_ours(int fd, mode_t kind)
{
    struct stat is;
    return fstat(fd, &is) == 0 && (is.st_mode & S_IFMT) == kind && is.st_uid == geteuid() &&
           (is.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* -1: there is none that may be believed. */
static int open_folder(const struct digest_cache *cache, bool is_made)
{
    char above[sizeof cache->folder];
    char *slash;

    if (is_made) {
        snprintf(above, sizeof above, "%s", cache->folder);
        slash = strrchr(above, '/');
        *slash = '\0';
        (void)mkdir(above, 0700); /* both may be there; what is not fails below */
        (void)mkdir(cache->folder, 0700);
    }
    int folder = open(cache->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0 && !is_ours(folder, S_IFDIR)) {
        close(folder);
        return -1;
    }
    return folder;
}

/* --- entries --- */

static uint8_t nibble(char digit)
{
    return (uint8_t)(digit >= 'a' ? digit - 'a' + 10 : digit - '0');
}

/* Whether `entry`, of as many bytes as the account and its tail, is what we would write. */
static bool is_believed(const struct account *account, const char *entry,
                        uint8_t out[SHA256_BYTES])
{
    const char *hex = entry + account->n;

    for (size_t i = 0; i < SHA256_BYTES; i++)
        out[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    add_tail(account, out);
    return memcmp(entry, account->text, account->n + TAIL_BYTES) == 0;
}

static bool find(int folder, const struct account *account, uint8_t out[SHA256_BYTES])
{
    size_t want = account->n + TAIL_BYTES;
    char *entry = malloc(want + 1);
    int fd = openat(folder, account->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_found = entry != NULL && fd >= 0 && is_ours(fd, S_IFREG) &&
                    read(fd, entry, want + 1) == (ssize_t)want && is_believed(account, entry, out);

    if (fd >= 0)
        close(fd);
    free(entry);
    return is_found;
}

/* Under another name until it is whole. */
static void put(int folder, const struct account *account, const uint8_t digest[SHA256_BYTES])
{
    char made[sizeof account->name + 32];
    size_t n = account->n + TAIL_BYTES;

    add_tail(account, digest);
    snprintf(made, sizeof made, "%s.%ld", account->name, (long)getpid());
    unlinkat(folder, made, 0); /* of a process that had our number and did not end its own */
    int fd = openat(folder, made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    bool is_whole = write(fd, account->text, n) == (ssize_t)n;
    is_whole = close(fd) == 0 && is_whole;
    if (!is_whole || renameat(folder, made, folder, account->name) < 0)
        unlinkat(folder, made, 0);
}

/* --- digests --- */

static bool find_kept(const struct digest_cache *cache, const struct account *account,
                      uint8_t out[SHA256_BYTES])
{
    int folder = open_folder(cache, false);
    if (folder < 0)
        return false;
    bool is_found = find(folder, account, out);
    close(folder);
    return is_found;
}

/* If the files are what they were before they were read. */
static void keep(const struct digest_cache *cache, const struct gguf *file,
                 const struct account *before, const uint8_t digest[SHA256_BYTES])
{
    struct account now;
    int folder = -1;

    if (give_account(file, &now) && now.n == before->n &&
        memcmp(now.text, before->text, now.n) == 0)
        folder = open_folder(cache, true);
    if (folder >= 0) {
        put(folder, &now, digest);
        close(folder);
    }
    free(now.text);
}

int digest_cache_of(const struct digest_cache *cache, const struct gguf *file,
                    const volatile int *stop, uint8_t out[32], struct why *why)
{
    int64_t begun_s = (int64_t)time(NULL);
    struct account account;
    bool is_kept = give_account(file, &account) && cache->folder[0] == '/' &&
                   account.bytes >= cache->bytes_min;
    int status = STATUS_OK;

    if (!is_kept || !find_kept(cache, &account, out)) {
        status = gguf_digest(file, stop, out, why);
        if (status == STATUS_OK && is_kept && begun_s - account.changed_s > cache->still_s)
            keep(cache, file, &account, out);
    }
    free(account.text);
    return status;
}
