/* WAV files: RIFF and RF64, with chunks in any order before the samples.

   The same as `audiotag.sound.wav_header`: lengths may be placeholders or wrong, so that what follows the samples is
   parsed, too. Sources: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64). */
#ifndef WAV_H
#define WAV_H
#include "program.h"
#include "reader.h"

struct wav {
    int64_t encoding, channels, rate;
    /* bytes of a sample of each channel */
    int64_t frame;
    /* bytes of the present run of samples, those that are left of it, and whether the header promises them */
    int64_t run, left;
    bool promised;
    /* frames of all promised runs */
    int64_t promised_frames;
    /* whether there were more samples than the header counts */
    bool goes_on;
    /* of the header: size of the RIFF chunk, 0 if it is unknown; size of the samples of an RF64 file */
    int64_t riff_size, long_size;
    bool is_rf64;
    /* whether there is no header */
    bool is_raw;
};

#define EMPTY "is empty"

int64_t width_of(int64_t encoding);

/* Begin samples without a header. */
void begin_raw(struct wav *wav, int64_t encoding, int64_t channels, int64_t rate);

/* Read up to the first sample. False with a problem, or an error of the reader. */
bool read_header(struct wav *wav, struct reader *reader, struct problem *problem);

/* Whether there are more samples behind a run of which less than a frame is left. `silence` becomes the number of
   frames of zeros before them, which have been used. */
bool next_run(struct wav *wav, struct reader *reader, int64_t *silence);

#endif
