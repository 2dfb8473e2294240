/* The program around the kernels: the model's texts, the memory that is shared with kernels, and their calls.

   `constants.h` is written by `audiotag.standalone.source`: numbers and texts that the Python package has, too. */
#ifndef PROGRAM_H
#define PROGRAM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "constants.h"
#include "tables.h"

struct label {
    const char *name, *json;
};

/* The model; `source.py` writes it, too. */
struct facts {
    const char *help, *version, *heading_end, *json_end, *too_long, *wrong_window;
    const struct label *labels;
    /* by the number that Linux gives to an error */
    const char *const *system_errors;
    int64_t system_error_count;
    /* code points at which printable and unprintable ranges alternate, beginning with an unprintable one */
    const int32_t *edges;
    int64_t edge_count;
    int64_t scores_are_probabilities;
    /* the sample rate of the model, and the number of samples to which shorter sounds are padded */
    int64_t rate, shortest;
    /* the longest clip or window that is tagged in one piece, in seconds and in frames */
    double longest;
    int64_t longest_frames;
    /* seconds of the pieces whose scores are averaged; 0 if clips aren't cut */
    double piece;
    /* of the features, see `audiotag.standalone.source.FrontEndSizes` */
    int64_t n_mels, n_fft, hop, padding, least, lost;
};

extern const struct facts facts;

/* The system's message for an error. */
static inline const char *system_text(int64_t error) {
    return facts.system_errors[error < facts.system_error_count ? error : facts.system_error_count - 1];
}

/* Memory that is mapped as large as it is needed. `cells` are the places among the rows of kernels where its address
   and its length, in elements, are written. */
struct room {
    char *at;
    int64_t length, element_size;
    const struct place *cells;
    int cell_count;
};

struct program {
    const struct call *calls;
    int64_t *integers;
    double *reals;
    uint8_t *input;
    int64_t input_size;
    float *mono;
    const double *scores;
    const int64_t *order;
    /* samples at the model's rate; features, rows of frames; the model's memory */
    struct room tape, features, arena;
    /* whether the weights are as the kernels need them */
    bool unpacked;
};

/* The memory of a CPU level. */
struct program program_of(const struct level *level);

/* Make a room hold `length` elements, without keeping what it holds. False if there is no memory. */
bool make_room(struct room *room, int64_t length);

/* Replace a room by a larger one. The caller frees the old one, which is returned. False if there is no memory. */
bool replace_room(struct room *room, int64_t length, struct room *old);

void free_room(struct room *room);
void free_rooms(struct program *program);

/* Why a clip can't be tagged: a format for `put_format` with two numbers, or NULL. */
struct problem {
    const char *text;
    int64_t first, second;
    /* what the system says, instead of a text */
    int64_t system_error;
};

static inline void set_problem(struct problem *problem, const char *text, int64_t first, int64_t second) {
    *problem = (struct problem){.text = text, .first = first, .second = second};
}

#endif
