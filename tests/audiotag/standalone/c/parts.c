/* Parts of the front end as functions for Python. Texts are written to file 1. */
#include "sound.h"

static struct output out;

/* Decode a file: the number of samples that are put into `samples`. What is wrong with it is written. `facts_of` is
   told its rate, frames promised and warnings. */
int64_t decode_file(const char *name, int64_t encoding, int64_t channels, int64_t rate, float *samples, int64_t *facts_of) {
    struct program program = program_of(&tinyonnx_levels[0]);
    struct options options = {.raw_encoding = encoding, .raw_channels = channels, .raw_rate = rate};
    static struct sound sound;
    int64_t total = 0;
    if (open_sound(&sound, &program, &options, name) && make_room(&program.tape, LARGEST_BLOCK + (1 << 15)))
        while (!sound.complete) {
            int64_t count = more_samples(&sound, &program, 0);
            if (sound.problem.text)
                break;
            for (int64_t i = 0; i < count; i++)
                samples[total++] = ((float *)program.tape.at)[i];
        }
    close_sound(&sound);
    out.file = 1;
    if (sound.problem.system_error)
        put_text(&out, system_text(sound.problem.system_error));
    else if (sound.problem.text)
        put_format(&out, sound.problem.text, sound.problem.first, sound.problem.second);
    flush(&out);
    facts_of[0] = sound.wav.rate;
    facts_of[1] = sound.wav.promised_frames;
    facts_of[2] = sound.warnings;
    free_rooms(&program);
    return total;
}

void write_scores(const double *values, int64_t count) {
    out.file = 1;
    for (int64_t i = 0; i < count; i++) {
        put_score(&out, values[i]);
        put(&out, '\n');
    }
    flush(&out);
}

void write_seconds(const int64_t *values, int64_t count, int64_t rate) {
    out.file = 1;
    for (int64_t i = 0; i < count; i++) {
        put_seconds(&out, values[i], rate);
        put(&out, '\n');
    }
    flush(&out);
}

void write_durations(const double *values, int64_t count) {
    out.file = 1;
    for (int64_t i = 0; i < count; i++) {
        put_duration(&out, values[i]);
        put(&out, '\n');
    }
    flush(&out);
}

void write_fixed(const double *values, int64_t count, int decimals, int width) {
    out.file = 1;
    for (int64_t i = 0; i < count; i++) {
        put_fixed(&out, values[i], decimals, width);
        put(&out, '\n');
    }
    flush(&out);
}

void write_name(const char *name, int shown, int quoted) {
    out.file = 1;
    put_name(&out, name, shown, quoted);
    flush(&out);
}

void write_format(const char *format, int64_t integer, const char *text, double real) {
    out.file = 1;
    put_format(&out, format, integer, text, real);
    flush(&out);
}
