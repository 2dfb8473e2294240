/* The memory of the program: that of the kernels, and what is mapped as large as it is needed. */
#include "process.h"
#include "program.h"

static struct room room_of(const struct place *cells, int count) {
    return (struct room){.element_size = sizeof(float), .cells = cells, .cell_count = count};
}

struct program program_of(const struct level *level) {
    const struct place *places = level->places;
    return (struct program){
        .calls = level->calls,
        .integers = (int64_t *)places[PLACE_INTEGERS].at,
        .reals = (double *)places[PLACE_REALS].at,
        .input = (uint8_t *)places[PLACE_INPUT].at,
        .input_size = places[PLACE_INPUT].size,
        .mono = (float *)places[PLACE_MONO].at,
        .scores = (const double *)places[PLACE_SCORES].at,
        .order = (const int64_t *)places[PLACE_ORDER].at,
        .tape = room_of(&places[PLACE_TAPE], TAPE_CELLS),
        .features = room_of(&places[PLACE_FEATURES], FEATURES_CELLS),
        .arena = room_of(&places[PLACE_ARENA], ARENA_CELLS),
    };
}

static void tell_kernels(const struct room *room) {
    for (int i = 0; i < room->cell_count; i++) {
        int64_t *cell = (int64_t *)room->cells[i].at;
        cell[0] = (int64_t)(uintptr_t)room->at;
        cell[1] = room->length;
    }
}

void free_room(struct room *room) {
    if (room->at)
        unmap_memory(room->at, room->length * room->element_size);
    room->at = NULL;
    room->length = 0;
}

bool make_room(struct room *room, int64_t length) {
    struct room old;
    if (length <= room->length)
        return true;
    free_room(room);
    return replace_room(room, length, &old);
}

bool replace_room(struct room *room, int64_t length, struct room *old) {
    *old = *room;
    char *at = map_memory(length * room->element_size);
    if (!at)
        return false;
    room->at = at;
    room->length = length;
    tell_kernels(room);
    return true;
}

void free_rooms(struct program *program) {
    free_room(&program->tape);
    free_room(&program->features);
    free_room(&program->arena);
}
