/* A process that needs no C library: its entry point and its system calls. */
#include "start.h"

static long system_call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, MADVISE = 28, EXIT = 60, FCNTL = 72 };
enum { INTERRUPTED = -4 };

static _Noreturn void leave(int code) {
    for (;;)
        system_call(EXIT, code, 0, 0);
}

static int64_t receive(int file, char *to, int64_t size) {
    long n;
    do
        n = system_call(READ, file, (long)to, size);
    while (n == INTERRUPTED);
    return n;
}

/* 0, or -errno */
static int64_t send(int file, const char *from, int64_t size) {
    while (size > 0) {
        long n = system_call(WRITE, file, (long)from, size);
        if (n < 0 && n != INTERRUPTED)
            return n;
        if (n > 0)
            from += n, size -= n;
    }
    return 0;
}

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
    int best = best_level();
    for (; *environment; environment++) {
        const char *text = *environment;
        int i = 0;
        while (name[i] && text[i] == name[i])
            i++;
        if (!name[i] && text[i] >= '2' && text[i] <= '4' && !text[i + 1]) {
            int wanted = V2 - (text[i] - '2');
            return wanted > best ? wanted : best;
        }
    }
    return best;
}

/* Large pages where there are any: a small one takes as long to get as to use. */
static void prefer_large_pages(const struct place *room) {
    const uint64_t page = 1 << 12;
    uint64_t first = (uint64_t)room->at & -page, last = ((uint64_t)room->at + room->size + page - 1) & -page;
    system_call(MADVISE, first, last - first, 14 /* MADV_HUGEPAGE */);
}

int run(int count, char **arguments, char **environment);

#ifdef WITH_LIBC
int main(int count, char **arguments, char **environment) {
    leave(run(count, arguments, environment));
}
#else
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");

__attribute__((used)) static _Noreturn void begin(long *stack) {
    int count = (int)stack[0];
    char **arguments = (char **)(stack + 1);
    leave(run(count, arguments, arguments + count + 1));
}
#endif
