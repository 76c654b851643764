// SPDX-License-Identifier: Apache-2.0
// A quota that can be used up under a running process, as a preload library.
//
//   QUOTA_ROOT     a directory; only files in it count, those without a name too
//   QUOTA_USED_UP  a file; while it is there, nothing more can be written

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static const char *root, *sign;

__attribute__((constructor)) static void begin(void) {
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    root = getenv("QUOTA_ROOT");
    sign = getenv("QUOTA_USED_UP");
    if (root == NULL || sign == NULL) abort();
}

static int refused(int fd) {
    char link[40], path[PATH_MAX];
    if (access(sign, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, root, strlen(root)) == 0 && path[strlen(root)] == '/';
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    if (!refused(fd)) return real_pwrite(fd, data, size, offset);
    errno = EDQUOT;
    return -1;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!refused(fd)) return real_write(fd, data, size);
    errno = EDQUOT;
    return -1;
}
