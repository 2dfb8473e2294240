/* The front end as a program for sanitizers. Standard input has one case after the other: the numbers of bytes of its
   arguments, of its file and of a read, then these bytes. Kernels are replaced by functions that read and write what
   the real ones do, and stop the program where that would lie outside their arrays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "program.h"

enum { INPUT = 1 << 16, CLASSES = 527, MEMORY = 256 << 20 };

static int64_t integers[32];
static double reals[8], *scores;
static uint8_t *input;
static float *mono;
static int64_t *order, tape[2], features[2], arena[2];

#define require(condition) ((condition) ? (void)0 : stop(#condition, __LINE__))

static void stop(const char *condition, int line) {
    fprintf(stderr, "line %d of stubs.c: %s\n", line, condition);
    abort();
}

static int nothing(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    (void)a, (void)b, (void)row, (void)part, (void)parts;
    return 0;
}

static int size_model(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    integers[N_RESULT] = integers[N_FRAMES] == 7 ? -1 : integers[N_FRAMES] * 100;
    return nothing(a, b, row, part, parts);
}

static int mix(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    int64_t encoding = integers[N_ENCODING], width = encoding == FLOAT_64 ? 8 : encoding == FLOAT_32 ? 4 : encoding;
    int64_t values = integers[N_FRAMES] * integers[N_CHANNELS], start = integers[N_START];
    require(width >= 1 && width <= 8 && (width == 3 || start % width == 0));
    require(integers[N_FRAMES] > 0 && values <= VALUES && start >= 0 && start + values * width <= INPUT);
    double peak = 0;
    for (int64_t i = start; i < start + values * width; i++)
        peak += input[i];
    memset(mono, 0, integers[N_FRAMES] * sizeof *mono);
    reals[R_PEAK] = peak > 255.0 * values * width - 1 ? 1e30 : peak > 250.0 * values * width ? 10 : 0.1;
    reals[R_MIXED_ENERGY] = 0;
    reals[R_CHANNEL_ENERGY] = 1;
    return nothing(a, b, row, part, parts);
}

static int resample(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    int64_t *n = integers, count = n[N_END] - n[N_START];
    require(count >= 0 && n[N_START] >= 0 && n[N_END] <= VALUES && n[N_COUNT] >= 0);
    require(n[N_COUNT] + LARGEST_BLOCK <= tape[1]);
    memset((float *)tape[0] + n[N_COUNT], 0, count * sizeof(float));
    n[N_START] = n[N_END];
    n[N_COUNT] += count;
    n[N_RESULT] = 1;
    return nothing(a, b, row, part, parts);
}

static int analyse(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    static int64_t heard;
    int64_t *n = integers, count = n[N_END] - n[N_START];
    require(count >= 0 && n[N_START] >= 0 && n[N_END] <= tape[1]);
    require(n[N_ZEROS] >= 0 && (n[N_LAST] || !n[N_ZEROS]));
    heard = (n[N_FIRST] ? 0 : heard) + count + n[N_ZEROS];
    require(!n[N_LAST] || heard >= facts.shortest);
    int64_t used = heard < facts.least + facts.lost ? facts.least : heard - facts.lost;
    n[N_FRAMES] = 1 + (used + 2 * facts.padding - facts.n_fft) / facts.hop;
    require(n[N_FRAMES] <= n[N_STEP] && n[N_STEP] * facts.n_mels <= features[1]);
    memset((float *)features[0], 0, n[N_STEP] * facts.n_mels * sizeof(float));
    return nothing(a, b, row, part, parts);
}

static int choose(void *a, void *b, const int64_t *row, int64_t part, int64_t parts) {
    integers[N_RESULT] = integers[N_FRAMES] % 50 == 3 ? -1 : integers[N_TOP] < 3 ? integers[N_TOP] : 3;
    for (int i = 0; i < 3; i++)
        order[i] = i * 100, scores[i * 100] = 0.7 / (i + 1);
    return nothing(a, b, row, part, parts);
}

static const struct call calls[] = {
    [CALL_UNPACK] = {nothing, 0}, [CALL_MODEL] = {nothing, 0},       [CALL_SIZE] = {size_model, 0},
    [CALL_MIX] = {mix, 0},        [CALL_RESAMPLE] = {resample, 0},   [CALL_ANALYSE] = {analyse, 0},
    [CALL_RANK] = {choose, 0},
};

static struct place places[PLACE_ARENA + ARENA_CELLS];

const struct level tinyonnx_levels[] = {{calls, places}, {calls, places}, {calls, places}};

static struct {
    char *data;
    int64_t at, size, piece;
    int64_t memory;
} file;

int64_t read_file(int number, void *to, int64_t size) {
    (void)number;
    require(size > 0);
    int64_t left = file.size - file.at, count = size < left ? size : left;
    count = count < file.piece ? count : file.piece;
    memcpy(to, file.data + file.at, count);
    file.at += count;
    return count;
}

int64_t write_file(int number, const void *from, int64_t size) {
    return fwrite(from, 1, size, number == 1 ? stdout : stderr) == (size_t)size ? 0 : -5;
}

int64_t open_file(const char *name) {
    return name[0] == 'e' ? -(int64_t)strlen(name) : 5;
}

void close_file(int number) {
    require(number == 5);
}

void *map_memory(int64_t size) {
    require(size >= 0);
    if (size > file.memory)
        return NULL;
    file.memory -= size;
    return malloc(size);
}

void unmap_memory(void *at, int64_t size) {
    file.memory += size;
    free(at);
}

void prefer_large_pages(void *at, int64_t size) {
    (void)at, (void)size;
}

int64_t image_size(void) {
    return 0;
}

_Noreturn void leave(int code) {
    exit(code);
}

const struct level *chosen_level(char **environment) {
    (void)environment;
    return tinyonnx_levels;
}

int run(int count, char **arguments, char **environment);

int main(void) {
    char *environment[] = {NULL};
    uint32_t sizes[4];
    int64_t cases = 0, codes[3] = {0};
    input = malloc(INPUT);
    mono = malloc(VALUES * sizeof *mono);
    scores = calloc(CLASSES, sizeof *scores);
    order = calloc(CLASSES, sizeof *order);
    places[PLACE_INTEGERS] = (struct place){(char *)integers, sizeof integers};
    places[PLACE_REALS] = (struct place){(char *)reals, sizeof reals};
    places[PLACE_INPUT] = (struct place){(char *)input, INPUT};
    places[PLACE_MONO] = (struct place){(char *)mono, VALUES * sizeof *mono};
    places[PLACE_SCORES] = (struct place){(char *)scores, CLASSES * sizeof *scores};
    places[PLACE_ORDER] = (struct place){(char *)order, CLASSES * sizeof *order};
    for (int i = 0; i < TAPE_CELLS; i++)
        places[PLACE_TAPE + i].at = (char *)tape;
    for (int i = 0; i < FEATURES_CELLS; i++)
        places[PLACE_FEATURES + i].at = (char *)features;
    places[PLACE_ARENA].at = (char *)arena;
    while (fread(sizes, sizeof *sizes, 4, stdin) == 4) {
        /* arguments end with a NUL each */
        char *text = malloc(sizes[0] + 1), *arguments[64];
        file.data = malloc(sizes[1] + 1);
        require(fread(text, 1, sizes[0], stdin) == sizes[0] && fread(file.data, 1, sizes[1], stdin) == sizes[1]);
        file.at = 0, file.size = sizes[1], file.piece = sizes[2], file.memory = sizes[3] ? sizes[3] : MEMORY;
        int count = 0;
        for (char *at = text; at < text + sizes[0] && count < 63; at += strlen(at) + 1)
            arguments[count++] = at;
        arguments[count] = NULL;
        int code = run(count, arguments, environment);
        require(code >= 0 && code <= 2);
        codes[code]++;
        cases++;
        free(text);
        free(file.data);
    }
    fflush(stdout);
    fprintf(stderr, "\n%d cases: %d, %d, %d\n", (int)cases, (int)codes[0], (int)codes[1], (int)codes[2]);
    free(input), free(mono), free(scores), free(order);
    return 0;
}
