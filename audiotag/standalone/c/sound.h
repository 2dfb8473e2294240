/* A file as mono samples at the model's rate. */
#ifndef SOUND_H
#define SOUND_H
#include "options.h"
#include "wav.h"

struct sound {
    struct reader in;
    struct wav wav;
    struct problem problem;
    /* samples of `program->mono` that wait for the resampler */
    int64_t mono_start, mono_end;
    /* frames of silence that wait for being decoded */
    int64_t silence;
    int64_t decoded_frames;
    bool resampling, ended, complete;
    /* of the row that comes next, and of those before; bits */
    int warnings, warned;
    /* since the last look for channels that cancel each other */
    int64_t mixed_frames, looks, cancelled_at;
    double mixed_energy, channel_energy;
};

enum warning { LOUD = 1, GOES_ON = 2, ENDS_EARLY = 4, CANCELLED = 8, SHORT = 16 };

/* Open a file and read its header. False with a problem. */
bool open_sound(struct sound *sound, const struct program *program, const struct options *options, const char *name);

void close_sound(struct sound *sound);

void add_warning(struct sound *sound, enum warning warning);

/* Append samples to the tape, of which `count` are used, while there is room for more: those for which no more has to
   be read, or else at least one; `sound->complete` if they are the last ones. Returns the new count.
   False in `sound->problem` for samples that are no sound. */
int64_t more_samples(struct sound *sound, const struct program *program, int64_t count);

#endif
