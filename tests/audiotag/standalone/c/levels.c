/* The tables of calls and places of all levels, which the linker makes for the executable, filled by Python. */
#include <stdint.h>

int64_t tinyonnx_levels[6];
