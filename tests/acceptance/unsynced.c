// SPDX-License-Identifier: Apache-2.0
// A disk that forgets what was not fsynced, and a trigger at a named point, as a preload library.
//
//   UNSYNCED_ROOT  a directory; only files in it count, but not SQLite's shared memory nor lock files
//   UNSYNCED_LOG   what each write overwrote, and which of it has been fsynced; see power.py, which puts it back
//   UNSYNCED_ARM   a file; when it is there, it holds "<write|sync> <before|after> <n>": the process is killed
//                  before or after the n-th such call from then on
//
// Anything that this library cannot do ends the process with a message: a test must not pass for want of it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char armed_call[8], armed_when[8];
static long armed_left;

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

static void give_up(const char *what) {
    fprintf(stderr, "unsynced: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_ftruncate = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
}

// The file's name, if it is one that counts.
static const char *tracked(int fd, char *path) {
    const char *root = getenv("UNSYNCED_ROOT");
    char link[40];
    if (root == NULL) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)) != 0 || path[strlen(root)] != '/') return NULL;
    const char *end = path + length;
    if (length > 4 && strcmp(end - 4, "-shm") == 0) return NULL;
    if (length > 5 && strcmp(end - 5, ".lock") == 0) return NULL;
    if (length > 4 && strcmp(end - 4, ".log") == 0) return NULL;
    return path;
}

static void look_for_orders(void) {
    const char *arm = getenv("UNSYNCED_ARM");
    if (arm == NULL) return;
    FILE *file = fopen(arm, "r");
    if (file == NULL) return;
    if (fscanf(file, "%7s %7s %ld", armed_call, armed_when, &armed_left) != 3) give_up("the order is not one");
    fclose(file);
    if (unlink(arm) != 0) give_up("the order stays");
}

static void point(const char *call, const char *when) {
    if (strcmp(when, "before") == 0) look_for_orders();
    if (armed_left > 0 && strcmp(call, armed_call) == 0 && strcmp(when, armed_when) == 0 && --armed_left == 0)
        kill(getpid(), SIGKILL);
}

// One record: what, length of the name, the name, four numbers, then (of W and T) the bytes that were there.
static void note(char what, const char *path, uint64_t a, uint64_t b, uint64_t c, const void *old, uint64_t length) {
    if (log_fd < 0) {
        const char *name = getenv("UNSYNCED_LOG");
        if (name == NULL) return;
        log_fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0) give_up(name);
    }
    uint16_t name_length = (uint16_t)strlen(path);
    size_t size = 1 + 2 + name_length + 32 + length;
    char *record = malloc(size), *at = record;
    if (record == NULL) give_up("no memory");
    *at++ = what;
    memcpy(at, &name_length, 2), at += 2;
    memcpy(at, path, name_length), at += name_length;
    memcpy(at, &a, 8), at += 8;
    memcpy(at, &b, 8), at += 8;
    memcpy(at, &c, 8), at += 8;
    memcpy(at, &length, 8), at += 8;
    if (length) memcpy(at, old, length);
    if (real_write(log_fd, record, size) != (ssize_t)size) give_up("the log cannot be written");
    free(record);
}

// Note what a change of [offset, offset + count) of a file is about to overwrite.
static void remember(char what, int fd, const char *path, off64_t offset, size_t count) {
    struct stat64 file;
    if (fstat64(fd, &file) != 0) give_up(path);
    char *old = malloc(count ? count : 1);
    ssize_t length = 0;
    if (old == NULL) give_up("no memory");
    if (offset < file.st_size && count) {
        int reading = open(path, O_RDONLY | O_CLOEXEC);
        if (reading < 0 || (length = pread64(reading, old, count, offset)) < 0) give_up(path);
        close(reading);
    }
    note(what, path, (uint64_t)offset, (uint64_t)file.st_size, what == 'W' ? count : 0, old, (uint64_t)length);
    free(old);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    char path[PATH_MAX];
    if (tracked(fd, path) == NULL) return real_pwrite(fd, bytes, count, offset);
    pthread_mutex_lock(&turn);
    point("write", "before");
    remember('W', fd, path, offset, count);
    ssize_t written = real_pwrite(fd, bytes, count, offset);
    point("write", "after");
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite64(fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    if (real_write == NULL || tracked(fd, path) == NULL)
        return real_write ? real_write(fd, bytes, count) : -1;
    int flags = fcntl(fd, F_GETFL);
    off64_t offset = lseek64(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    if (offset < 0) give_up(path);
    pthread_mutex_lock(&turn);
    point("write", "before");
    remember('W', fd, path, offset, count);
    ssize_t written = real_write(fd, bytes, count);
    point("write", "after");
    pthread_mutex_unlock(&turn);
    return written;
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    if (tracked(fd, path) == NULL) return real_ftruncate(fd, size);
    struct stat64 file;
    pthread_mutex_lock(&turn);
    point("write", "before");
    if (fstat64(fd, &file) != 0) give_up(path);
    remember('T', fd, path, size, file.st_size > size ? (size_t)(file.st_size - size) : 0);
    int result = real_ftruncate(fd, size);
    point("write", "after");
    pthread_mutex_unlock(&turn);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_file(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (tracked(fd, path) == NULL) return real(fd);
    pthread_mutex_lock(&turn);
    point("sync", "before");
    off64_t until = log_fd < 0 ? 0 : lseek64(log_fd, 0, SEEK_END);
    pthread_mutex_unlock(&turn);
    int result = real(fd);  // what is written meanwhile is not promised
    pthread_mutex_lock(&turn);
    if (result == 0) note('S', path, (uint64_t)until, 0, 0, NULL, 0);
    point("sync", "after");
    pthread_mutex_unlock(&turn);
    return result;
}

int fsync(int fd) { return sync_file(fd, real_fsync); }
int fdatasync(int fd) { return sync_file(fd, real_fdatasync); }
