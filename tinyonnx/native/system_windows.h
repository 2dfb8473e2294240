/* Windows, with its C library. Names and arguments are UTF-8 within the program. */
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <wchar.h>
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

/* Bytes per call: more may fail on pipes and consoles. */
enum { PIECE = 1 << 20 };

/* Linux's number of an error. */
static int64_t linux_error(int error) {
    switch (error) {
    case ENAMETOOLONG:
        return 36;
    case EINVAL:
        return 22;
    default:
        return error < 35 ? error : EIO;
    }
}

/* Linux's number of the error of a write. C libraries know one of the three errors of a pipe that no process reads. */
static int64_t linux_write_error(void) {
    const int64_t broken_pipe = 32;
    switch (_doserrno) {
    case ERROR_BROKEN_PIPE:
    case ERROR_NO_DATA:
    case ERROR_PIPE_NOT_CONNECTED:
        return broken_pipe;
    default:
        return linux_error(errno);
    }
}

_Noreturn void leave(int code) {
    _exit(code);
}

int64_t read_file(int file, void *to, int64_t size) {
    int n = _read(file, to, size > PIECE ? PIECE : (unsigned)size);
    return n < 0 ? -linux_error(errno) : n;
}

int64_t write_file(int file, const void *from, int64_t size) {
    const char *at = from;
    while (size > 0) {
        _doserrno = 0;
        int n = _write(file, at, size > PIECE ? PIECE : (unsigned)size);
        if (n < 0)
            return -linux_write_error();
        at += n, size -= n;
    }
    return 0;
}

int64_t open_file(const char *name) {
    static wchar_t wide[1 << 15];
    if (!MultiByteToWideChar(CP_UTF8, 0, name, -1, wide, sizeof wide / sizeof *wide))
        return -linux_error(ENAMETOOLONG);
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY)
        return -EISDIR;
    int file = _wopen(wide, _O_RDONLY | _O_BINARY | _O_NOINHERIT);
    if (file == 0) {
        /* closed standard input isn't to become this file */
        file = _dup(0);
        _close(0);
    }
    return file < 0 ? -linux_error(errno) : file;
}

void close_file(int file) {
    _close(file);
}

void *map_memory(int64_t size) {
    return VirtualAlloc(NULL, (SIZE_T)size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void unmap_memory(void *at, int64_t size) {
    (void)size;
    VirtualFree(at, 0, MEM_RELEASE);
}

void prefer_large_pages(void *at, int64_t size) {
    (void)at, (void)size;
}

int64_t image_size(void) {
    return 0;
}

/* Keep the C runtime from ending the process for a closed descriptor. */
static void ignore(const wchar_t *a, const wchar_t *b, const wchar_t *c, unsigned line, uintptr_t unused) {
    (void)a, (void)b, (void)c, (void)line, (void)unused;
}

int wmain(int count, wchar_t **given) {
    _set_invalid_parameter_handler(ignore);
    for (int file = 0; file < 3; file++)
        _setmode(file, _O_BINARY);
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += 3 * wcslen(given[i]) + 1;
    char **arguments = malloc((count + 1) * sizeof *arguments), *at = malloc(size + 1);
    if (!arguments || !at)
        return 1;
    for (int i = 0; i < count; i++) {
        arguments[i] = at;
        at += WideCharToMultiByte(CP_UTF8, 0, given[i], -1, at, (int)(3 * wcslen(given[i]) + 1), 0, 0);
    }
    static char level[32] = "TINYONNX_CPU=";
    char *environment[] = {level, 0};
    const char *wish = getenv("TINYONNX_CPU");
    if (wish && strlen(wish) < sizeof level - strlen(level))
        strcat(level, wish);
    leave(run(count, arguments, environment));
}
