/* The bytes of a file, from front to back, with look-ahead. */
#include "reader.h"
#include "process.h"

void move_to_front(struct reader *reader) {
    int64_t count = waiting(reader);
    for (int64_t i = 0; reader->start && i < count; i++)
        reader->data[i] = reader->data[reader->start + i];
    reader->start = 0;
    reader->end = count;
}

bool read_more(struct reader *reader) {
    if (reader->ended)
        return false;
    move_to_front(reader);
    int64_t count = read_file(reader->file, reader->data + reader->end, reader->size - reader->end);
    if (count > 0) {
        reader->end += count;
        reader->total += count;
        return true;
    }
    reader->ended = true;
    reader->error = count;
    return false;
}

bool have(struct reader *reader, int64_t count) {
    while (waiting(reader) < count)
        if (!read_more(reader))
            return false;
    return true;
}

bool skip(struct reader *reader, int64_t count) {
    for (;;) {
        int64_t part = waiting(reader) < count ? waiting(reader) : count;
        reader->start += part;
        count -= part;
        if (!count)
            return true;
        if (!read_more(reader))
            return false;
    }
}
