/* A model as a WebAssembly module; `module.mjs` is its other half. */
#include "start.h"

#define EXPORT(name) __attribute__((export_name(name)))

/* Where an input is put, or an output is found: inputs come first. */
EXPORT("place") char *place(int which) {
    return tinyonnx_levels[0].places[which].at;
}

EXPORT("run") void run(void) {
    static int ready;
    if (!ready++)
        call(&tinyonnx_levels[0].calls[0]);
    call(&tinyonnx_levels[0].calls[1]);
}
