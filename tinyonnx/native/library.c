/* A model as a function; the declaration of RUN and its arguments are in the generated part. With CHECKED the arena
   begins with a status, which kernels set if their data are invalid. */
#include "start.h"

#ifdef _WIN32
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

static int level = -1, ready = -1;

static int use(int wanted) {
    level = level_of(wanted);
    return number_of(level);
}

static int run(const void *const *inputs, void *const *outputs) {
    if (level < 0)
        use(0);
    if (level == UNSUPPORTED)
        return -1;
    const struct level *model = &tinyonnx_levels[level];
    if (ready != level)
        call(&model->calls[0]);
    ready = level;
    const struct place *place = model->places;
    for (int i = 0; i < INPUTS; i++, place++)
        memcpy(place->at, inputs[i], place->size);
    int64_t *status = (int64_t *)model->places[INPUTS + OUTPUTS].at;
    if (CHECKED)
        *status = 0;
    call(&model->calls[1]);
    if (CHECKED && *status)
        return -2;
    for (int i = 0; i < OUTPUTS; i++, place++)
        memcpy(outputs[i], place->at, place->size);
    return 0;
}
