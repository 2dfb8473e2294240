/* Text on its way to a file, and templates of texts. */
#include <stdarg.h>
#include "output.h"
#include "process.h"

void flush(struct output *out) {
    if (out->count && !out->error)
        out->error = write_file(out->file, out->data, out->count);
    out->count = 0;
}

void put(struct output *out, int byte) {
    if (out->count == (int64_t)sizeof out->data)
        flush(out);
    out->data[out->count++] = (char)byte;
}

void put_text(struct output *out, const char *text) {
    while (*text)
        put(out, *text++);
}

void put_format(struct output *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(out, *format);
            continue;
        }
        switch (*++format) {
        case 'd':
            put_integer(out, va_arg(arguments, int64_t), 1);
            break;
        case 's':
            put_text(out, va_arg(arguments, const char *));
            break;
        case 'f':
            put_fixed(out, va_arg(arguments, double), 2, 0);
            break;
        default:
            put(out, '%');
        }
    }
    va_end(arguments);
}
