/* macOS, with its C library. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Linux's number of an error. */
static int64_t linux_error(int error) {
    switch (error) {
    case EAGAIN:
        return 11;
    case ELOOP:
        return 40;
    case ENAMETOOLONG:
        return 36;
    case EOVERFLOW:
        return 75;
    case ESTALE:
        return 116;
    default:
        return error < 35 ? error : EIO;
    }
}

_Noreturn void leave(int code) {
    _exit(code);
}

int64_t read_file(int file, void *to, int64_t size) {
    ssize_t n;
    do
        n = read(file, to, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -linux_error(errno) : n;
}

int64_t write_file(int file, const void *from, int64_t size) {
    const char *at = from;
    while (size > 0) {
        ssize_t n = write(file, at, size);
        if (n < 0 && errno != EINTR)
            return -linux_error(errno);
        if (n > 0)
            at += n, size -= n;
    }
    return 0;
}

int64_t open_file(const char *name) {
    int file;
    do
        file = open(name, O_RDONLY | O_CLOEXEC);
    while (file < 0 && errno == EINTR);
    if (file == 0) {
        /* closed standard input isn't to become this file */
        file = fcntl(0, F_DUPFD_CLOEXEC, 1);
        close(0);
    }
    return file < 0 ? -linux_error(errno) : file;
}

void close_file(int file) {
    close(file);
}

void *map_memory(int64_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void unmap_memory(void *at, int64_t size) {
    munmap(at, size);
}

void prefer_large_pages(void *at, int64_t size) {
    (void)at, (void)size;
}

int64_t image_size(void) {
    return 0;
}

int main(int count, char **arguments, char **environment) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += strlen(arguments[i]) + 1;
    char **copies = malloc((count + 1) * sizeof *copies), *at = malloc(size + 1);
    if (!copies || !at)
        return 1;
    for (int i = 0; i < count; i++) {
        copies[i] = strcpy(at, arguments[i]);
        at += strlen(at) + 1;
    }
    leave(run(count, copies, environment));
}
