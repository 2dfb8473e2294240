/* The program: tags WAV files and standard input. */
#include "process.h"
#include "rows.h"

enum { SAMPLES = 1 << 15 /* samples at the model's rate that are analysed at a time, at most */ };

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Whether standard output takes no more, and then the exit code. */
static bool is_over(struct output *out, int *code) {
    if (out->file != 1 || !out->error) {
        out->error = 0;
        return false;
    }
    int64_t error = -out->error;
    out->error = 0;
    *code = error != BROKEN_PIPE;
    if (*code) {
        out->file = 2;
        put_format(out, PROGRAM "standard output: %s\n", system_text(error));
        flush(out);
    }
    return true;
}

/* Frames of features of a clip. */
static int64_t frames_of(int64_t samples) {
    int64_t used = most(most(samples, facts.shortest), facts.least + facts.lost);
    return 1 + (used - facts.lost + 2 * facts.padding - facts.n_fft) / facts.hop;
}

/* First sample of window k: k * hop * rate, rounded, halves to even. */
static int64_t start_of(int64_t k, double hop) {
    double place = (double)k * hop * (double)facts.rate;
    if (place > 1e18)
        return (int64_t)1000000000000000000;
    int64_t whole = (int64_t)place;
    double rest = place - (double)whole;
    return whole + (rest > 0.5 || (rest == 0.5 && whole & 1));
}

/* Bytes of the model's memory for a number of frames, -1 if it takes no such clip. */
static int64_t arena_size(const struct program *program, int64_t frames) {
    program->integers[N_FRAMES] = frames;
    call(&program->calls[CALL_SIZE]);
    return program->integers[N_RESULT];
}

/* Samples of the tape: one window, what comes at once, and as much again, so that its content is rarely moved. */
static int64_t tape_length(double window) {
    return LARGEST_BLOCK + SAMPLES + 2 * start_of(1, window);
}

/* The problem that there is no memory for so many frames. */
static void lack_memory(struct sound *sound, const struct program *program, double window, int64_t frames) {
    int64_t arena = most(arena_size(program, frames), 0), features = frames * facts.n_mels;
    if (!window && program->features.length < features)
        features += program->features.length; /* while it grows */
    int64_t bytes = image_size() + tape_length(window) * program->tape.element_size +
                    features * program->features.element_size + arena;
    set_problem(&sound->problem, "needs %d MiB of memory", (bytes >> 20) + 2, 0);
}

/* Make the features of tape[start : end], which begin a clip if there are none before them. The last ones, if
   `is_last`, are followed by silence up to the shortest length. */
static void analyse(const struct program *program, int64_t start, int64_t end, int64_t before, bool is_last) {
    int64_t *n = program->integers;
    n[N_START] = start;
    n[N_END] = end;
    n[N_FIRST] = !before;
    n[N_LAST] = is_last;
    n[N_ZEROS] = is_last ? most(facts.shortest - before - (end - start), 0) : 0;
    n[N_STEP] = program->features.length / facts.n_mels;
    call(&program->calls[CALL_ANALYSE]);
}

/* Run the model on the features and choose the tags, of the mean scores of so many pieces, or with 0 of these alone.
   False with a problem. */
static bool tag(struct program *program, const struct options *options, struct sound *sound, struct row *row,
                int64_t pieces, double window) {
    int64_t *n = program->integers, frames = n[N_FRAMES], size = arena_size(program, frames);
    if (size < 0) {
        set_problem(&sound->problem, "this program can't tag clips of %d frames", frames, 0);
        return false;
    }
    if (size > program->arena.length * program->arena.element_size) {
        if (!make_room(&program->arena, (size + program->arena.element_size - 1) / program->arena.element_size)) {
            lack_memory(sound, program, window, frames);
            return false;
        }
        prefer_large_pages(program->arena.at, size);
    }
    if (!program->unpacked)
        call(&program->calls[CALL_UNPACK]);
    program->unpacked = true;
    n[N_FRAMES] = frames;
    call(&program->calls[CALL_MODEL]);
    n[N_TOP] = options->top;
    n[N_PROBABILITIES] = facts.scores_are_probabilities;
    n[N_PIECES] = pieces;
    program->reals[R_THRESHOLD] = options->threshold;
    call(&program->calls[CALL_RANK]);
    row->tags = n[N_RESULT];
    if (row->tags < 0) {
        set_problem(&sound->problem, "the model gives NaN or infinite scores", 0, 0);
        return false;
    }
    return true;
}

static bool room_for_features(struct program *program, int64_t frames) {
    struct room old;
    if (frames * facts.n_mels <= program->features.length)
        return true;
    if (!replace_room(&program->features, frames * facts.n_mels, &old))
        return false;
    /* each row moves to its new place */
    int64_t before = old.length / facts.n_mels;
    for (int64_t row = 0; row < facts.n_mels; row++)
        for (int64_t i = 0; i < before; i++)
            ((float *)program->features.at)[row * frames + i] = ((const float *)old.at)[row * before + i];
    free_room(&old);
    return true;
}

/* Warn of a part that is too short to judge. */
static void check_length(struct sound *sound, const struct row *row) {
    if ((double)(row->end - row->start) < SHORTEST * (double)facts.rate)
        add_warning(sound, SHORT);
}

/* Samples at the model's rate that the header promises, or as many as are expected without a promise. */
static int64_t expected_samples(const struct sound *sound) {
    const int64_t unknown = 16 * facts.rate;
    if (!sound->wav.promised)
        return unknown;
    double samples = (double)sound->wav.promised_frames * (double)facts.rate / (double)sound->wav.rate;
    return samples < 1e15 ? (int64_t)samples + 1 : unknown;
}

static bool tag_whole(struct program *program, const struct options *options, struct output *out, struct sound *sound,
                      struct row *row) {
    int64_t expected = least(frames_of(expected_samples(sound)), facts.longest_frames);
    while (!sound->complete) {
        int64_t count = more_samples(sound, program, 0), frames = frames_of(row->end + count);
        if (sound->problem.text)
            return false;
        if (frames > facts.longest_frames) {
            set_problem(&sound->problem, facts.too_long, 0, 0);
            return false;
        }
        if (frames * facts.n_mels > program->features.length) {
            /* first as many as are expected, then twice as many */
            int64_t present = program->features.length / facts.n_mels;
            int64_t wanted = present < expected ? expected : least(2 * present, facts.longest_frames);
            wanted = most(wanted, frames);
            if (!room_for_features(program, wanted)) {
                lack_memory(sound, program, 0, wanted);
                return false;
            }
        }
        analyse(program, 0, count, row->end, sound->complete);
        row->end += count;
    }
    check_length(sound, row);
    if (!tag(program, options, sound, row, 0, 0))
        return false;
    write_row(out, program, options, sound, row);
    return true;
}

/* Drop samples of the tape that no later window has; `start` is the position of its first one. */
static int64_t drop(struct program *program, int64_t start, int64_t kept, int64_t *count) {
    float *tape = (float *)program->tape.at;
    int64_t dropped = most(least(kept - start, *count), 0);
    *count -= dropped;
    for (int64_t i = 0; dropped && i < *count; i++)
        tape[i] = tape[i + dropped];
    return start + dropped;
}

/* Write a row for each window, or without windows one of the mean scores of the clip's pieces. */
static bool tag_windows(struct program *program, const struct options *options, struct output *out,
                        struct sound *sound, struct row *row) {
    const bool is_mean = !options->window_seconds;
    const double window = is_mean ? facts.piece : options->window_seconds, hop = is_mean ? window : options->hop;
    int64_t size = start_of(1, window), covered = 0, first = 0, count = 0;
    double part = window / 20;
    int64_t remainder = (int64_t)((part < MAX_REMAINDER ? part : MAX_REMAINDER) * (double)facts.rate);
    for (;; row->window++) {
        int64_t start = start_of(row->window, hop);
        while (first + count < start + size && !sound->complete) {
            if (count + LARGEST_BLOCK > program->tape.length)
                /* the last window ends with the clip, wherever that is */
                first = drop(program, first, least(start, first + count - size), &count);
            count = more_samples(sound, program, count);
            if (sound->problem.text)
                return false;
        }
        int64_t end = first + count;
        if (end >= start + size) {
            row->start = start;
            row->end = start + size;
        } else if (!row->window || end - most(covered, start) > remainder) {
            row->start = most(end - size, 0);
            row->end = end;
            if (end < size)
                check_length(sound, row);
        } else if (is_mean) {
            break;
        } else {
            /* warnings that came after the last row */
            return !sound->warnings;
        }
        covered = row->end;
        if (!make_room(&program->features, frames_of(row->end - row->start) * facts.n_mels)) {
            lack_memory(sound, program, window, frames_of(row->end - row->start));
            return false;
        }
        analyse(program, row->start - first, row->end - first, 0, true);
        if (!tag(program, options, sound, row, is_mean ? row->window + 1 : 0, window))
            return false;
        if (is_mean)
            continue;
        write_row(out, program, options, sound, row);
        if (out->error)
            return true;
    }
    row->start = row->window = 0;
    write_row(out, program, options, sound, row);
    return true;
}

static bool tag_clip(struct program *program, const struct options *options, struct output *out, const char *name) {
    struct sound sound;
    struct row row = {.name = name};
    bool good = open_sound(&sound, program, options, name);
    double window = options->window_seconds ? options->window_seconds : facts.piece;
    if (good && !make_room(&program->tape, tape_length(window))) {
        lack_memory(&sound, program, window, frames_of(start_of(1, window)));
        good = false;
    }
    if (good)
        good = window ? tag_windows(program, options, out, &sound, &row)
                      : tag_whole(program, options, out, &sound, &row);
    close_sound(&sound);
    if (!good)
        write_problem(out, options, &sound, &row);
    return good;
}

static int tag_clips(struct program *program, const struct options *options, struct output *out) {
    int failed = 0, code = 0;
    for (int i = 0; i < options->name_count; i++) {
        if (!tag_clip(program, options, out, options->names[i]))
            failed = 1;
        if (is_over(out, &code))
            return code;
    }
    return failed;
}

int run(int count, char **arguments, char **environment) {
    static struct output out;
    const struct level *level = chosen_level(environment);
    const struct place *unpacked = &level->places[PLACE_UNPACKED];
    struct program program = program_of(level);
    struct options options;
    int code = 0;
    out.file = 2;
    out.error = out.count = 0;
    out.has_heading = false;
    if (!parse_options(count, arguments, &options, &out)) {
        flush(&out);
        return 2;
    }
    prefer_large_pages(unpacked->at, unpacked->size);
    if (options.text) {
        out.file = 1;
        put_text(&out, options.text);
        flush(&out);
        is_over(&out, &code);
    } else {
        code = tag_clips(&program, &options, &out);
    }
    free_rooms(&program);
    return code;
}
