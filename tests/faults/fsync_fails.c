/* fsync(2) and fdatasync(2) that fail with EIO for what lies beneath a folder: the first line of the file that $FSYNC_FAILS
   names, as long as that file is there. Preloaded by tests/faults/test_fsync.py into real servers and agents. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int must_fail(int descriptor) {
    const char *control = getenv("FSYNC_FAILS");
    char folder[PATH_MAX], link[64], path[PATH_MAX];
    if (control == NULL) return 0;
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, folder, sizeof folder - 1);
    close(file);
    if (length <= 0) return 0;
    folder[length] = 0;
    folder[strcspn(folder, "\n")] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

int fsync(int descriptor) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (must_fail(descriptor)) { errno = EIO; return -1; }
    return real(descriptor);
}

int fdatasync(int descriptor) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (must_fail(descriptor)) { errno = EIO; return -1; }
    return real(descriptor);
}
