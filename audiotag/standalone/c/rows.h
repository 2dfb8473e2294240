/* Rows of text or JSON: the tags of a clip or a window, or why there are none. */
#ifndef ROWS_H
#define ROWS_H
#include "sound.h"

struct row {
    const char *name;
    /* first and last sample, at the model's rate */
    int64_t start, end;
    /* of the clip's windows, from 0 on */
    int64_t window;
    /* how many of `program->order` are tags */
    int64_t tags;
};

/* Write a row, after its warnings on standard error. */
void write_row(struct output *out, const struct program *program, const struct options *options, struct sound *sound,
               const struct row *row);

/* Write why a clip has no row, or no more of them: `sound->problem`, or else its warnings. */
void write_problem(struct output *out, const struct options *options, const struct sound *sound, const struct row *row);

#endif
