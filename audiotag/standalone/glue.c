/* The loop around the kernels of audiotag.standalone, whose documentation describes it. */
#include "process.h"

enum { UNPACK, RUN_MODEL, FIRST_KERNEL };
enum { CONTROL, INPUT, OUTPUT, ARENA, UNPACKED, FIRST_ARGUMENTS };

int run(int count, char **arguments, char **environment) {
    int chosen = chosen_level(environment), unpacked = 0, file = 0;
    if (chosen == UNSUPPORTED)
        fail("this processor lacks x86-64-v2\n");
    const struct level *program = &tinyonnx_levels[chosen];
    int64_t *control = (int64_t *)program->places[CONTROL].at;
    const struct place *input = &program->places[INPUT];
    prefer_large_pages(&program->places[ARENA]);
    prefer_large_pages(&program->places[UNPACKED]);
    if (count) {
        const char *end = arguments[count - 1];
        while (*end++)
            ;
        for (int i = 0; i < ARGUMENTS; i++) {
            int64_t *array = (int64_t *)program->places[FIRST_ARGUMENTS + i].at;
            array[0] = (int64_t)(uintptr_t)arguments[0];
            array[1] = end - arguments[0];
        }
    }
    for (;;) {
        call(&program->calls[FIRST_KERNEL + control[AT_KERNEL]]);
        int64_t result = 0, place = control[AT_PLACE], n = control[AT_COUNT];
        switch (control[AT_ACTION]) {
        case DO_OPEN:
            file = place < 0 ? 0 : (int)(result = open_file(arguments[0] + place));
            result = result < 0 ? result : 0;
            break;
        case DO_READ:
            result = receive(file, input->at + n, input->size - n);
            break;
        case DO_MODEL:
            if (!unpacked++)
                call(&program->calls[UNPACK]);
            call(&program->calls[RUN_MODEL]);
            continue;
        case DO_WRITE:
            result = send((int)place, program->places[OUTPUT].at, n);
            break;
        case DO_CLOSE:
            if (file > 0)
                close_file(file);
            break;
        case DO_EXIT:
            return (int)place;
        }
        control[AT_RESULT] = result;
    }
}
