/* A file as mono samples at the model's rate. */
#include "sound.h"
#include "process.h"

void add_warning(struct sound *sound, enum warning warning) {
    sound->warnings |= (int)warning & ~sound->warned;
}

static bool check_reader(struct sound *sound) {
    if (sound->in.error)
        sound->problem = (struct problem){.text = "", .system_error = -sound->in.error};
    return !sound->in.error;
}

bool open_sound(struct sound *sound, const struct program *program, const struct options *options, const char *name) {
    bool from_stdin = name[0] == '-' && !name[1];
    int64_t file = from_stdin ? 0 : open_file(name);
    *sound = (struct sound){.in = {.file = (int)file, .data = program->input, .size = program->input_size}};
    if (file < 0) {
        sound->in.error = file;
        return check_reader(sound);
    }
    if (options->raw_encoding)
        begin_raw(&sound->wav, options->raw_encoding, options->raw_channels, options->raw_rate);
    else if (!read_header(&sound->wav, &sound->in, &sound->problem)) {
        check_reader(sound);
        return false;
    }
    return true;
}

void close_sound(struct sound *sound) {
    if (sound->in.file > 0)
        close_file(sound->in.file);
}

/* Warn once if channels cancelled each other since the last look. */
static void look(struct sound *sound) {
    bool enough = (double)sound->mixed_frames >= ENOUGH * (double)sound->wav.rate;
    bool audible = sound->channel_energy > AUDIBLE * (double)sound->mixed_frames;
    if (enough && audible && sound->mixed_energy < CANCELLING * sound->channel_energy) {
        if (!((sound->warned | sound->warnings) & CANCELLED))
            sound->cancelled_at = LOOK * sound->looks;
        add_warning(sound, CANCELLED);
    }
    sound->looks++;
    sound->mixed_frames = 0;
    sound->mixed_energy = sound->channel_energy = 0;
}

static void count_frames(struct sound *sound, int64_t frames) {
    sound->decoded_frames += frames;
    sound->mono_start = 0;
    sound->mono_end = frames;
    if (sound->wav.channels < 2)
        return;
    sound->mixed_frames += frames;
    if (sound->mixed_frames >= LOOK * sound->wav.rate)
        look(sound);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Decode frames that have been read to `program->mono`. False if there are none. */
static bool mix(struct sound *sound, const struct program *program) {
    struct wav *wav = &sound->wav;
    struct reader *in = &sound->in;
    int64_t width = width_of(wav->encoding), *n = program->integers;
    int64_t frames = least(least(waiting(in), wav->left) / wav->frame, VALUES / wav->channels);
    if (sound->silence) {
        frames = least(sound->silence, VALUES);
        for (int64_t i = 0; i < frames; i++)
            program->mono[i] = 0;
        sound->silence -= frames;
        count_frames(sound, frames);
        return true;
    }
    if (frames < 1)
        return false;
    /* numbers are read as such */
    if (width != 3 && in->start % width)
        move_to_front(in);
    n[N_ENCODING] = wav->encoding;
    n[N_CHANNELS] = wav->channels;
    n[N_START] = in->start;
    n[N_FRAMES] = frames;
    call(&program->calls[CALL_MIX]);
    if (!(program->reals[R_PEAK] <= MAX_PEAK))
        set_problem(&sound->problem, "has NaN, infinite or absurdly large samples", 0, 0);
    else if (program->reals[R_PEAK] > MAX_PLAUSIBLE_PEAK)
        add_warning(sound, LOUD);
    sound->mixed_energy += program->reals[R_MIXED_ENERGY];
    sound->channel_energy += program->reals[R_CHANNEL_ENERGY];
    in->start += frames * wav->frame;
    wav->left -= frames * wav->frame;
    count_frames(sound, frames);
    return true;
}

/* Check that there were frames and that, at the end, none is missing or incomplete. */
static void end(struct sound *sound) {
    sound->ended = true;
    look(sound);
    if (sound->wav.promised && sound->wav.left >= sound->wav.frame)
        add_warning(sound, ENDS_EARLY);
    if (sound->wav.is_raw && waiting(&sound->in))
        set_problem(&sound->problem,
                    "%d bytes are not a whole number of %d-byte frames: another --raw or --channels?", sound->in.total,
                    sound->wav.frame);
    else if (!sound->in.total)
        set_problem(&sound->problem, EMPTY, 0, 0);
    else if (!sound->decoded_frames)
        set_problem(&sound->problem, "has no samples", 0, 0);
}

/* Read more of the run, or go on to the next one, or end. */
static void advance(struct sound *sound) {
    struct wav *wav = &sound->wav;
    bool more = wav->left >= wav->frame ? read_more(&sound->in) : next_run(wav, &sound->in, &sound->silence);
    if (wav->goes_on)
        add_warning(sound, GOES_ON);
    if (check_reader(sound) && !more)
        end(sound);
}

static int64_t resample(struct sound *sound, const struct program *program, int64_t count) {
    int64_t *n = program->integers;
    n[N_FIRST] = !sound->resampling;
    n[N_LAST] = sound->ended;
    n[N_RATE] = sound->wav.rate;
    n[N_START] = sound->mono_start;
    n[N_END] = sound->mono_end;
    n[N_COUNT] = count;
    call(&program->calls[CALL_RESAMPLE]);
    sound->resampling = true;
    sound->mono_start = n[N_START];
    sound->complete = sound->ended && n[N_RESULT];
    return n[N_COUNT];
}

int64_t more_samples(struct sound *sound, const struct program *program, int64_t count) {
    int64_t before = count;
    while (!sound->complete && !sound->problem.text && count + LARGEST_BLOCK <= program->tape.length) {
        if (sound->mono_start < sound->mono_end || sound->ended)
            count = resample(sound, program, count);
        else if (mix(sound, program))
            continue;
        else if (count > before)
            break; /* what comes next may have to be waited for */
        else
            advance(sound);
    }
    return count;
}
