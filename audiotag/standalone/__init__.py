"""The audio side of the standalone executable: everything around the model, as kernels.

A program that tags sounds without Python is a handful of kernels and a loop, the glue,
that knows nothing of sound. All share one array of registers, `control`. The glue calls
the kernel whose number is in `control[KERNEL]`, then does what that left in
`control[ACTION]`, and so on until EXIT:

    OPEN    open the file whose name, ended by a NUL, starts at arguments[control[PLACE]]; PLACE -1 is standard
            input. control[RESULT] = 0, or -errno
    READ    read from it into `input`, from place control[COUNT] on, as much as fits:
            control[RESULT] = the number of bytes, 0 at the end, or -errno
    MODEL   control[FRAMES] frames of log-mel, float32 [1, 1, 128, FRAMES], are in `features`: run the model,
            put the 527 logits, float32, in `logits`; control[RESULT] = 0, or -1 if it has no program for so many
    WRITE   write all of output[:control[COUNT]] to file descriptor control[PLACE]; control[RESULT] = 0, or -errno
    CLOSE   close the file
    EXIT    exit(control[PLACE])
    NOTHING

`read` and `write` go on after EINTR. `arguments` are argv's strings, each ended by a NUL, one
after the other, which is how Linux lays them out: its address is argv[0], its length reaches
to the last NUL. Kernels have the C signature that `tinyonnx.codegen.kernel` describes, and
are called with part 0 of 1.

`program.Program` says it all to whoever makes the executable:

    program.kernels     (kernel, arguments) by number: every argument is an array or a tuple of integers
    program.memory      one block that the writeable arrays lie in: zeros when the program starts
    program.constants   one block that the others lie in: its content counts
    program.arrays      arrays by name: "control", "input", "output", "features", "logits"; "arguments" is empty here.
                        Features and logits may be memory of the model, and then lie in neither block
    program.run         the glue in Python, for tests

Modules, in the order of the data: `arguments` (argv), `wav` (headers), `samples` (bytes to mono
float32), `resampler`, `decoder` (all that: the kernel from bytes to samples at 32 kHz),
`analysis` (to windows and features), `scores` (logits to the best tags), `decimals` (numbers as
Python prints them), `texts`, `report` (rows), `program`; `control` numbers the registers.
"""
