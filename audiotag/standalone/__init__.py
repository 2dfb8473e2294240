"""The audio side of the standalone executable: everything around the model, as kernels.

The executable consists of four kernels and a loop, the glue, which does all system calls and
handles no sound. They share an array of registers, `control` (module `registers`). The
glue calls the kernel whose number is in `control[KERNEL]`, then performs the action in
`control[ACTION]`, and repeats this until EXIT:

    OPEN    open the file whose NUL-terminated name starts at arguments[control[PLACE]]; PLACE -1 is standard input.
            control[RESULT] = 0, or -errno
    READ    read from the file into `input`, from offset control[COUNT], as much as fits:
            control[RESULT] = the number of bytes, 0 at the end, or -errno
    MODEL   run the model on the control[FRAMES] log-mel frames in `features`, float32 [1, 1, 128, FRAMES], and put
            the 527 logits, float32, into `logits`; control[RESULT] = 0, or -1 if it supports no such length
    WRITE   write all of output[:control[COUNT]] to file descriptor control[PLACE]; control[RESULT] = 0, or -errno
    CLOSE   close the file
    EXIT    exit(control[PLACE])
    NOTHING

Reads and writes are repeated after EINTR. `arguments` is the memory of argv's strings, which Linux
lays out one after the other, each terminated by a NUL: it starts at argv[0] and ends with the last
NUL. Kernels have the C signature that `tinyonnx.codegen.kernel` describes, and are called with
part 0 of 1.

`program.TaggerProgram` has everything that is needed to link the executable:

    program.kernels     (kernel, arguments) by number: every argument is an array or a tuple of integers
    program.memory      block of the writable arrays, zero at program start
    program.constants   block of the constant arrays
    program.arrays      arrays by name: "control", "input", "output", "features", "logits"; "arguments" is empty here.
                        Features and logits may be memory of the model; then they lie in neither block
    program.run         the glue in Python, for tests

Modules in the order of the data flow: `arguments` (argv), `wav` (headers), `samples` (bytes to mono
float32), `resampler`, `decoder` (the kernel from bytes to samples at 32 kHz), `features` (the kernel
from samples to windows and log-mel features), `scores` (logits to the best tags), `decimals` (number
formatting), `texts`, `report` (the kernel that writes rows), `program`; `registers`, `settings` and
`control` name the contents of the shared arrays.
"""
