/* A model as a WebAssembly module; `module.mjs` is its other half. */
#include "start.h"

#define EXPORT(name) __attribute__((export_name(name)))

/* Where an input is put, or an output is found: inputs come first. */
EXPORT("place") char *place(int which) {
    return tinyonnx_levels[0].places[which].at;
}

/* Whether the data were valid: all indices in range, for example. */
EXPORT("run") int run(void) {
    int64_t *status = (int64_t *)tinyonnx_levels[0].places[INPUTS + OUTPUTS].at;
    static int ready;
    if (!ready++)
        call(&tinyonnx_levels[0].calls[0]);
    if (CHECKED)
        *status = 0;
    call(&tinyonnx_levels[0].calls[1]);
    return !(CHECKED && *status);
}
