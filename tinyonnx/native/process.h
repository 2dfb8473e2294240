/* A process: its system calls, the same on every system. `process.c` has their definitions and the entry point. */
#ifndef PROCESS_H
#define PROCESS_H
#include "tables.h"

/* Number of bytes read, 0 at the end, or -errno as Linux numbers errors. */
int64_t read_file(int file, void *to, int64_t size);

/* Write everything: 0, or -errno. */
int64_t write_file(int file, const void *from, int64_t size);

/* A file descriptor for reading, or -errno. `name` is UTF-8, or what the system takes for it. */
int64_t open_file(const char *name);

void close_file(int file);

/* Memory of any content, or NULL. */
void *map_memory(int64_t size);

void unmap_memory(void *at, int64_t size);

/* Let memory consist of large pages where there are any: a small one takes as long to get as to use. */
void prefer_large_pages(void *at, int64_t size);

/* Bytes of address space that the program itself takes; 0 where that is unknown. */
int64_t image_size(void);

_Noreturn void leave(int code);

/* Write a message to standard error and leave with code 1. */
_Noreturn void fail(const char *message);

/* The kernels for this processor, or for the level that $TINYONNX_CPU (v2, v3 or v4) asks for if it has it. */
const struct level *chosen_level(char **environment);

/* The program. */
int run(int count, char **arguments, char **environment);
#endif
