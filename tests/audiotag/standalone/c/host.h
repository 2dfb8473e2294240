/* System calls for tests: Python functions, and memory of which there may be little. */
#include <stdlib.h>

struct host {
    int64_t (*read)(int, void *, int64_t);
    int64_t (*write)(int, const void *, int64_t);
    int64_t (*open)(const char *);
    void (*close)(int);
    int64_t memory;
};

struct host host;

int64_t read_file(int file, void *to, int64_t size) {
    return host.read(file, to, size);
}

int64_t write_file(int file, const void *from, int64_t size) {
    return host.write(file, from, size);
}

int64_t open_file(const char *name) {
    return host.open(name);
}

void close_file(int file) {
    host.close(file);
}

void *map_memory(int64_t size) {
    if (size > host.memory)
        return NULL;
    void *at = aligned_alloc(64, (size_t)(size + 63) & ~(size_t)63);
    host.memory -= at ? size : 0;
    return at;
}

void unmap_memory(void *at, int64_t size) {
    host.memory += size;
    free(at);
}

void prefer_large_pages(void *at, int64_t size) {
    (void)at, (void)size;
}

int64_t image_size(void) {
    return 0;
}

_Noreturn void leave(int code) {
    exit(code);
}
