/* Library to preload: reads of some files crash, hang or fail, in every process that inherits it.
 *
 * FAULT_FILE  part of the path of the files that it happens to
 * FAULT_KIND  "crash": a null pointer is written; "hang": the read never returns; "eio": it fails
 * FAULT_SHARE for "eio": how many of a thousand reads fail
 *
 * A crash and a hang wait for a read of the size that libav asks for (32 kB), in whatever thread: the fault is meant
 * for the decoder, not for the look at the first bytes (4 kB) or the hash of the content (256 kB).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DECODER_LEAST 16384
#define DECODER_MOST 131072

static int is_meant(int fd, const char *part)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

ssize_t read(int fd, void *buffer, size_t size)
{
    static ssize_t (*real)(int, void *, size_t);
    static unsigned state;
    if (!real)
        real = (ssize_t (*)(int, void *, size_t)) dlsym(RTLD_NEXT, "read");
    const char *part = getenv("FAULT_FILE"), *kind = getenv("FAULT_KIND"), *share = getenv("FAULT_SHARE");
    if (!part || !kind || !is_meant(fd, part))
        return real(fd, buffer, size);
    if (!strcmp(kind, "eio")) {
        if (!state)
            state = getpid() * 2654435761u | 1;
        if (share && rand_r(&state) % 1000 < atoi(share)) {
            errno = EIO;
            return -1;
        }
    } else if (size >= DECODER_LEAST && size <= DECODER_MOST) {
        if (!strcmp(kind, "hang"))
            for (;;)
                pause();
        *(volatile int *) 0 = 0;
    }
    return real(fd, buffer, size);
}
