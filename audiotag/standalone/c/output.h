/* Text on its way to standard output or standard error. */
#ifndef OUTPUT_H
#define OUTPUT_H
#include <stdbool.h>
#include <stdint.h>

struct output {
    int file;
    /* the first error of a write, as -errno */
    int64_t error;
    /* whether there has been a heading, so that the next one follows an empty line */
    bool has_heading;
    int64_t count;
    char data[1 << 16];
};

void put(struct output *out, int byte);
void put_text(struct output *out, const char *text);

/* Write what there is to the file. */
void flush(struct output *out);

/* A text in which %d stands for an int64_t, %s for a text, and %f for a double with two decimals. */
void put_format(struct output *out, const char *format, ...);

/* An integer of at least `digits` digits; not negative. */
void put_integer(struct output *out, int64_t value, int digits);

/* A number that is not negative, as printf's %*.*f. */
void put_fixed(struct output *out, double value, int decimals, int width);

/* samples / rate as Python's repr. */
void put_seconds(struct output *out, int64_t samples, int64_t rate);

/* A number that is not negative as Python's repr(round(value, 9)). */
void put_duration(struct output *out, double value);

/* A number from 0 to 1 that is not subnormal, as Python's repr(float(f"{value:.6g}")). */
void put_score(struct output *out, double value);

/* A file name: unprintable characters escaped as by Python's unicode_escape if it is `shown`, and the result as the
   inside of a JSON string if it is `quoted`. Bytes that are not UTF-8 are treated as Python's surrogateescape does. */
void put_name(struct output *out, const char *name, bool shown, bool quoted);

#endif
