/* Linux, without a C library. */

enum { INTERRUPTED = -4, NEW_DESCRIPTOR = 1030 /* F_DUPFD_CLOEXEC */, CLOSE_ON_EXEC = 0x80000, HERE = -100, LARGE = 14 };

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, CLOSE = 3, MMAP = 9, MUNMAP = 11, MADVISE = 28, EXIT = 60, FCNTL = 72, OPENAT = 257 };

static long system_call(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, CLOSE = 57, MMAP = 222, MUNMAP = 215, MADVISE = 233, EXIT = 93, FCNTL = 25, OPENAT = 56 };

static long system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#endif

_Noreturn void leave(int code) {
    for (;;)
        system_call(EXIT, code, 0, 0, 0, 0, 0);
}

int64_t read_file(int file, void *to, int64_t size) {
    long n;
    do
        n = system_call(READ, file, (long)to, size, 0, 0, 0);
    while (n == INTERRUPTED);
    return n;
}

int64_t write_file(int file, const void *from, int64_t size) {
    const char *at = from;
    while (size > 0) {
        long n = system_call(WRITE, file, (long)at, size, 0, 0, 0);
        if (n < 0 && n != INTERRUPTED)
            return n;
        if (n > 0)
            at += n, size -= n;
    }
    return 0;
}

int64_t open_file(const char *name) {
    long file;
    do
        file = system_call(OPENAT, HERE, (long)name, CLOSE_ON_EXEC, 0, 0, 0);
    while (file == INTERRUPTED);
    if (file == 0) {
        /* closed standard input isn't to become this file */
        file = system_call(FCNTL, 0, NEW_DESCRIPTOR, 1, 0, 0, 0);
        system_call(CLOSE, 0, 0, 0, 0, 0, 0);
    }
    return file;
}

void close_file(int file) {
    system_call(CLOSE, file, 0, 0, 0, 0, 0);
}

enum { READABLE_AND_WRITABLE = 3, PRIVATE_AND_ANONYMOUS = 0x22, SMALL_PAGE = 1 << 12, LARGE_PAGE = 1 << 21 };

static long map(int64_t size) {
    long at = system_call(MMAP, 0, size, READABLE_AND_WRITABLE, PRIVATE_AND_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? 0 : at;
}

void *map_memory(int64_t size) {
    long at = size < LARGE_PAGE ? 0 : map(size + LARGE_PAGE);
    if (!at)
        return (void *)map(size);
    /* begin where a large page may, and give back the rest */
    long begin = (at + LARGE_PAGE - 1) & -LARGE_PAGE, end = (begin + size + SMALL_PAGE - 1) & -SMALL_PAGE;
    long last = (at + size + LARGE_PAGE + SMALL_PAGE - 1) & -SMALL_PAGE;
    if (begin > at)
        system_call(MUNMAP, at, begin - at, 0, 0, 0, 0);
    if (last > end)
        system_call(MUNMAP, end, last - end, 0, 0, 0, 0);
    return (void *)begin;
}

void unmap_memory(void *at, int64_t size) {
    system_call(MUNMAP, (long)at, size, 0, 0, 0, 0);
}

void prefer_large_pages(void *at, int64_t size) {
    const uint64_t page = 1 << 12;
    uint64_t first = (uint64_t)at & -page, last = ((uint64_t)at + size + page - 1) & -page;
    system_call(MADVISE, first, last - first, LARGE, 0, 0, 0);
}

extern const char __executable_start[], _end[];

int64_t image_size(void) {
    return _end - __executable_start;
}

#ifdef WITH_LIBC
int main(int count, char **arguments, char **environment) {
    leave(run(count, arguments, environment));
}
#else
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n bl begin\n");
#endif

__attribute__((used)) static _Noreturn void begin(long *stack) {
    int count = (int)stack[0];
    char **arguments = (char **)(stack + 1);
    leave(run(count, arguments, arguments + count + 1));
}
#endif
