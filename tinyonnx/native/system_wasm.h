/* WebAssembly: the host gives the system calls, and calls `run_program`. */

#define FROM_HOST(name) __attribute__((import_module("host"), import_name(name)))
FROM_HOST("open") extern int host_open(const char *name, int size);
FROM_HOST("read") extern int host_read(int file, char *to, int size);
FROM_HOST("write") extern int host_write(int file, const char *from, int size);
FROM_HOST("close") extern void host_close(int file);

_Noreturn void leave(int code) {
    (void)code;
    __builtin_trap();
}

int64_t read_file(int file, void *to, int64_t size) {
    return host_read(file, to, (int)size);
}

int64_t write_file(int file, const void *from, int64_t size) {
    return host_write(file, from, (int)size);
}

int64_t open_file(const char *name) {
    int size = 0;
    while (name[size])
        size++;
    return host_open(name, size);
}

void close_file(int file) {
    host_close(file);
}

enum { PAGE = 1 << 16 };

/* Memory only grows; what was mapped last can be given back, for what is mapped next. */
static char *top, *limit;

void *map_memory(int64_t size) {
    size = (size + 63) & -64;
    if (!top)
        top = limit = (char *)(__builtin_wasm_memory_size(0) * PAGE);
    if (size > limit - top) {
        int64_t pages = (size - (limit - top) + PAGE - 1) / PAGE;
        if (pages > PAGE || __builtin_wasm_memory_grow(0, (size_t)pages) == (size_t)-1)
            return NULL;
        limit += pages * PAGE;
    }
    char *at = top;
    top += size;
    return at;
}

void unmap_memory(void *at, int64_t size) {
    if (top == (char *)at + ((size + 63) & -64))
        top = at;
}

void prefer_large_pages(void *at, int64_t size) {
    (void)at, (void)size;
}

int64_t image_size(void) {
    return 0;
}

enum { ARGUMENTS_SIZE = 1 << 16 };
static char arguments[ARGUMENTS_SIZE];

/* Where the host puts the arguments, each with its NUL, and how many bytes they may have. */
__attribute__((export_name("arguments"))) char *arguments_place(void) {
    return arguments;
}

__attribute__((export_name("arguments_size"))) int arguments_size(void) {
    return ARGUMENTS_SIZE;
}

/* Run the program once, on that many arguments; an instance that has run is used up. Returns the exit code. */
__attribute__((export_name("run"))) int run_program(int count) {
    static char *starts[ARGUMENTS_SIZE], *environment[1];
    char *at = arguments;
    for (int i = 0; i < count; i++) {
        starts[i] = at;
        while (*at++)
            ;
    }
    return run(count, starts, environment);
}
