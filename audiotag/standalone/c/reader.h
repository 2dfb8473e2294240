/* The bytes of a file, from front to back, with look-ahead. */
#ifndef READER_H
#define READER_H
#include <stdbool.h>
#include <stdint.h>

struct reader {
    int file;
    uint8_t *data;
    int64_t size;
    /* the range of `data` that has been read and not used */
    int64_t start, end;
    /* bytes read so far */
    int64_t total;
    bool ended;
    /* of the last call, as -errno */
    int64_t error;
};

/* Read what there is, after moving what is not used to the front. False at the end, or for an error. */
bool read_more(struct reader *reader);

/* Have at least `count` bytes, at most half of `size`, that are not used. False if the file has fewer. */
bool have(struct reader *reader, int64_t count);

/* Use `count` bytes that may not have been read. False if the file has fewer. */
bool skip(struct reader *reader, int64_t count);

void move_to_front(struct reader *reader);

/* Bytes that are not used. */
static inline int64_t waiting(const struct reader *reader) {
    return reader->end - reader->start;
}

/* An unsigned number at a place behind the first byte that is not used. */
static inline uint64_t little(const struct reader *reader, int64_t at, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t)reader->data[reader->start + at + i] << 8 * i;
    return value;
}

#endif
