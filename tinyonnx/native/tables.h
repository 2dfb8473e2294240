/* What the linked assembly has for each CPU level: calls of kernels, and memory. */
#ifndef TABLES_H
#define TABLES_H
#include <stddef.h>
#include <stdint.h>

/* Addresses take eight bytes everywhere: rows of kernels are made of integers of 64 bits. */
#ifdef __wasm32__
#define ADDRESS(type, name) type name; uint32_t name##_padding
#else
#define ADDRESS(type, name) type name
#endif

typedef int kernel(void *, void *, const int64_t *, int64_t, int64_t);
struct call { ADDRESS(kernel *, entry); ADDRESS(const int64_t *, row); };
struct place { ADDRESS(char *, at); int64_t size; };
struct level { ADDRESS(const struct call *, calls); ADDRESS(const struct place *, places); };

/* Best first. */
extern const struct level tinyonnx_levels[];

static inline void call(const struct call *which) {
    int64_t unused[8];
    which->entry(unused, unused, which->row, 0, 1);
}

#endif
