/* For each size and number of bytes on standard input, and so many bytes: the result on standard output. */
#include "process.h"

static int read_all(char *to, int64_t size) {
    int64_t have = 0, n = 1;
    while (have < size && (n = read_file(0, to + have, size - have)) > 0)
        have += n;
    return have == size;
}

int run(int count, char **arguments, char **environment) {
    const struct level *model = chosen_level(environment);
    const struct place *control = &model->places[0], *source = &model->places[1], *target = &model->places[2];
    call(&model->calls[0]);
    while (read_all(control->at, 16)) {
        int64_t size = ((int64_t *)control->at)[1];
        if (size > source->size)
            return 3;
        if (!read_all(source->at, size))
            return 2;
        call(&model->calls[1]);
        if (*(int64_t *)control->at < 0)
            return 3;
        write_file(1, target->at, target->size);
    }
    return 0;
}
