/* The system calls and the entry point of the included file, and what is common to all systems. */
#include "process.h"
#include "start.h"

#if defined(SYSTEM)
#include SYSTEM
#elif defined(__wasm__)
#include "system_wasm.h"
#elif defined(_WIN32)
#include "system_windows.h"
#elif defined(__linux__)
#include "system_linux.h"
#else
#include "system_posix.h"
#endif

_Noreturn void fail(const char *message) {
    int64_t n = 0;
    while (message[n])
        n++;
    write_file(2, message, n);
    leave(1);
}

const struct level *chosen_level(char **environment) {
    static const char name[] = "TINYONNX_CPU=v";
    int level = level_of(0);
    for (; *environment; environment++) {
        const char *text = *environment;
        int i = 0;
        while (name[i] && text[i] == name[i])
            i++;
        if (!name[i] && text[i] >= '2' && text[i] <= '4' && !text[i + 1]) {
            level = level_of(text[i] - '0');
            break;
        }
    }
    if (level == UNSUPPORTED)
        fail("this processor lacks x86-64-v2\n");
    return &tinyonnx_levels[level];
}
