/* A process: its system calls and entry point are those of the included file, the rest is common to all systems. */
#include "start.h"

/* Number of bytes read, 0 at the end, or -errno as Linux numbers errors. */
static int64_t receive(int file, char *to, int64_t size);

/* Write everything: 0, or -errno. */
static int64_t send(int file, const char *from, int64_t size);

/* A file descriptor for reading, or -errno. */
static int64_t open_file(const char *name);

static void close_file(int file);

/* Let memory consist of large pages where there are any: a small one takes as long to get as to use. */
static void prefer_large_pages(const struct place *room);

static _Noreturn void leave(int code);

/* The program. The strings of `arguments` lie one after the other, each with its NUL. */
int run(int count, char **arguments, char **environment);

#if defined(__wasm__)
#include "system_wasm.h"
#elif defined(_WIN32)
#include "system_windows.h"
#elif defined(__linux__)
#include "system_linux.h"
#else
#include "system_posix.h"
#endif

static _Noreturn void fail(const char *message) {
    int64_t n = 0;
    while (message[n])
        n++;
    send(2, message, n);
    leave(1);
}

/* The level that $TINYONNX_CPU (v2, v3 or v4) asks for, if the processor has it. */
static int chosen_level(char **environment) {
    static const char name[] = "TINYONNX_CPU=v";
    for (; *environment; environment++) {
        const char *text = *environment;
        int i = 0;
        while (name[i] && text[i] == name[i])
            i++;
        if (!name[i] && text[i] >= '2' && text[i] <= '4' && !text[i + 1])
            return level_of(text[i] - '0');
    }
    return level_of(0);
}
