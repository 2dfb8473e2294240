/* WAV files: RIFF and RF64, with chunks in any order before the samples. */
#include "wav.h"

#define NAME(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

enum { PCM = 1, FLOAT = 3, EXTENSIBLE = 0xFFFE, DS64 = 16, FMT = 40 };

static const uint32_t riff = NAME('R', 'I', 'F', 'F'), rf64 = NAME('R', 'F', '6', '4'), wave = NAME('W', 'A', 'V', 'E'),
                      fmt = NAME('f', 'm', 't', ' '), ds64 = NAME('d', 's', '6', '4'), data = NAME('d', 'a', 't', 'a'),
                      unknown = 0xFFFFFFFF;

/* Chunks that follow a data chunk that is empty, although the header doesn't count its bytes. */
static const uint32_t behind_nothing[] = {UNSIZED_CHUNKS};

static const int64_t endless = (int64_t)1 << 60, wrap = (int64_t)1 << 32;

int64_t width_of(int64_t encoding) {
    return encoding == FLOAT_64 ? 8 : encoding == FLOAT_32 ? 4 : encoding;
}

/* Whether a size is one that writers use while it is unknown. */
static bool is_placeholder(int64_t size) {
    return (size >= 0x7FFF0000 && size <= 0x80000000) || (size >= 0xFFFF0000 && size <= 0xFFFFFFFF) || size <= 0 ||
           size >= endless;
}

void begin_raw(struct wav *wav, int64_t encoding, int64_t channels, int64_t rate) {
    *wav = (struct wav){
        .encoding = encoding, .channels = channels, .rate = rate, .frame = width_of(encoding) * channels, .left = endless,
        .is_raw = true};
}

/* A run of `size` bytes, of an unknown number if that is 0. */
static void begin_run(struct wav *wav, int64_t size) {
    wav->promised = !is_placeholder(size);
    wav->left = wav->run = size ? size : wrap;
    if (wav->promised)
        wav->promised_frames += size / wav->frame;
}

/* The encoding of samples of `width` bytes, 0 if they can't be decoded. */
static int64_t encoding_of(int64_t kind, int64_t width) {
    if (kind == PCM)
        return width >= 1 && width <= 4 ? width : 0;
    if (kind == FLOAT)
        return width == 4 ? FLOAT_32 : width == 8 ? FLOAT_64 : 0;
    return 0;
}

struct format {
    int64_t kind, bits, frame;
};

/* Parse a format chunk, at a place behind the first byte that is not used. */
static void read_format(struct wav *wav, const struct reader *reader, int64_t size, struct format *format) {
    format->kind = (int64_t)little(reader, 8, 2);
    wav->channels = (int64_t)little(reader, 10, 2);
    wav->rate = (int64_t)little(reader, 12, 4);
    format->frame = (int64_t)little(reader, 20, 2);
    format->bits = (int64_t)little(reader, 22, 2);
    if (format->kind == EXTENSIBLE && size >= 26)
        format->kind = (int64_t)little(reader, 32, 2);
    wav->encoding = 0;
    /* the width follows from the size of frames if that is plausible, else from the bits */
    if (wav->channels && format->frame % wav->channels == 0)
        wav->encoding = encoding_of(format->kind, format->frame / wav->channels);
    if (!wav->encoding)
        wav->encoding = encoding_of(format->kind, (format->bits + 7) / 8);
}

/* Whether samples of the format can be decoded. */
static bool check(const struct wav *wav, const struct format *format, struct problem *problem) {
    if (format->kind < 0)
        set_problem(problem, "its header does not describe its samples", 0, 0);
    else if (format->kind != PCM && format->kind != FLOAT)
        set_problem(problem, "its samples are compressed (WAV format %d): only PCM and floats are read here", format->kind, 0);
    else if (!wav->channels)
        set_problem(problem, "its header gives no channels", 0, 0);
    else if (wav->channels > MAX_CHANNELS)
        set_problem(problem, MANY_CHANNELS, wav->channels, 0);
    else if (!wav->encoding)
        set_problem(problem, "its samples have %d bits", format->bits, 0);
    else if (!wav->rate || wav->rate >= (int64_t)1 << 31)
        set_problem(problem, "its header gives no valid sample rate (0 Hz?) or channels", 0, 0);
    else if (wav->rate < MIN_RATE || wav->rate > MAX_RATE)
        set_problem(problem, BAD_RATE, wav->rate, 0);
    return !problem->text;
}

/* A size of eight bytes at a place behind the first byte that is not used. */
static int64_t long_size(const struct reader *reader, int64_t at) {
    uint64_t size = little(reader, at, 8);
    return size < (uint64_t)endless ? (int64_t)size : endless;
}

/* Begin the samples: the reader is at the name of the data chunk. */
static void begin_data(struct wav *wav, struct reader *reader) {
    int64_t size = (int64_t)little(reader, 4, 4);
    bool more = have(reader, 12);
    reader->start += 8;
    int64_t position = reader->total - waiting(reader);
    if (size == unknown && wav->is_rf64)
        size = wav->long_size;
    begin_run(wav, size);
    if (size)
        return;
    /* whether nothing is the truth, and not what was written before there were samples */
    bool empty = !waiting(reader) || (wav->riff_size && wav->riff_size + 8 > position);
    for (size_t i = 0; more && i < sizeof behind_nothing / sizeof *behind_nothing; i++)
        empty = empty || little(reader, 0, 4) == behind_nothing[i];
    if (empty)
        wav->left = 0;
}

static bool ends_early(const struct reader *reader, struct problem *problem, const char *text) {
    set_problem(problem, reader->total ? text : EMPTY, 0, 0);
    return false;
}

bool read_header(struct wav *wav, struct reader *reader, struct problem *problem) {
    static const char no_wav[] = "is not WAV, the only format read here (others: ffmpeg -i FILE -f wav - | PROGRAM -)",
                      no_samples[] = "ends before its samples begin";
    struct format format = {.kind = -1};
    *wav = (struct wav){0};
    if (!have(reader, 12))
        return ends_early(reader, problem, no_wav);
    uint32_t name = (uint32_t)little(reader, 0, 4);
    if ((name != riff && name != rf64) || little(reader, 8, 4) != wave)
        return ends_early(reader, problem, no_wav);
    wav->is_rf64 = name == rf64;
    int64_t size = (int64_t)little(reader, 4, 4);
    if (size > 8 && (!is_placeholder(size) || (size == unknown && wav->is_rf64)))
        wav->riff_size = size;
    reader->start += 12;
    for (;;) {
        if (!have(reader, 8))
            return ends_early(reader, problem, no_samples);
        name = (uint32_t)little(reader, 0, 4);
        size = (int64_t)little(reader, 4, 4);
        if (name == data) {
            if (!check(wav, &format, problem))
                return false;
            wav->frame = width_of(wav->encoding) * wav->channels;
            begin_data(wav, reader);
            return true;
        }
        int64_t most = name == fmt ? FMT : name == ds64 ? DS64 : 0;
        if (!have(reader, 8 + (size < most ? size : most)))
            return ends_early(reader, problem, no_samples);
        if (name == fmt && size >= 16) {
            read_format(wav, reader, size, &format);
        } else if (name == ds64 && size >= 16) {
            wav->long_size = long_size(reader, 16);
            int64_t riff_size = long_size(reader, 8);
            if (wav->riff_size == unknown)
                wav->riff_size = is_placeholder(riff_size) ? 0 : riff_size;
        }
        if (!skip(reader, 8 + size + (size & 1)))
            return ends_early(reader, problem, no_samples);
    }
}

/* Whether a chunk that may follow samples begins at a place behind the first byte that is not used. */
static bool is_chunk(const struct reader *reader, int64_t at) {
    for (int i = 0; i < 4; i++) {
        uint64_t byte = little(reader, at + i, 1);
        if (byte < 32 || byte >= 127)
            return false;
    }
    return little(reader, at + 4, 4) < LARGEST_CHUNK || little(reader, at, 4) == data;
}

static bool is_tag(const struct reader *reader, int64_t at) {
    uint64_t name = little(reader, at, 3);
    return name == NAME('T', 'A', 'G', 0) || name == NAME('I', 'D', '3', 0);
}

/* Use the whole frames of zeros that the reader is at; their number, or -1 if no sound follows. The first `rest` bytes
   are the beginning of a frame, which is taken for silence. */
static int64_t skip_silence(const struct wav *wav, struct reader *reader, int64_t rest) {
    int64_t frames = 0;
    while (have(reader, rest + TRAILER)) {
        int64_t zeros = rest, count = waiting(reader);
        while (zeros < count && !reader->data[reader->start + zeros])
            zeros++;
        bool sound = count - zeros >= TRAILER;
        if (sound && (is_tag(reader, zeros) || is_chunk(reader, zeros)))
            return -1;
        /* so much may be needed to see what follows */
        int64_t whole = (zeros < count - TRAILER ? zeros : count - TRAILER) / wav->frame;
        frames += whole;
        reader->start += whole * wav->frame;
        if (whole)
            rest = 0;
        if (sound)
            return frames;
        if (!read_more(reader))
            return -1;
    }
    return -1;
}

bool next_run(struct wav *wav, struct reader *reader, int64_t *silence) {
    int64_t rest = wav->left;
    bool behind = false;
    *silence = 0;
    for (;; rest = 0, behind = true) {
        have(reader, rest + 1 + TRAILER);
        int64_t at = rest, count = waiting(reader) - rest;
        if (count < 0)
            return false;
        if (!behind && wav->run & 1 && count >= 9 && is_chunk(reader, at + 1))
            at++, count--;
        if (count < 8 || !is_chunk(reader, at))
            break;
        int64_t size = (int64_t)little(reader, at + 4, 4);
        bool more = little(reader, at, 4) == data;
        reader->start += at + 8;
        if (more) {
            begin_run(wav, size);
            return true;
        }
        if (!skip(reader, size + (size & 1)))
            return false;
    }
    if (behind || waiting(reader) < rest + TRAILER || is_tag(reader, rest))
        return false;
    int64_t zeros = 0;
    while (zeros < TRAILER && !reader->data[reader->start + rest + zeros])
        zeros++;
    if (zeros == TRAILER) {
        /* zeros of unsigned samples are no silence */
        *silence = wav->encoding == UNSIGNED_8 ? -1 : skip_silence(wav, reader, rest);
        if (*silence < 0)
            return false;
    }
    wav->goes_on = wav->goes_on || wav->promised;
    wav->promised = false;
    wav->run = wrap;
    wav->left = (*silence ? 0 : rest) + wrap;
    return true;
}
