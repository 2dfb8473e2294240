"""The audio side of the standalone executable: everything around the model.

The executable is a front end in C, in the folder `c`, and kernels, which do all arithmetic on samples, features and
scores and make no system calls. C calls them one after the other:

    mix        bytes of a file to mono float32
    resample   to the model's rate
    analyse    to the log-mel features of a clip, or of each of its windows in turn; `collect` for models of waveforms
    MODEL      to logits
    choose     to the best tags

They share an array of integers and one of reals, of which `registers` has the indices. Memory that grows with the
length of a clip or window (samples, features, the model's arena) is mapped by C, which writes its address and length
into the rows of arguments of the kernels that use it.

`c`, in the order of the data flow: `options` (the command line), `reader` (bytes of a file), `wav` (headers), `sound`
(samples at the model's rate, and warnings), `main` (clips and windows), `rows` (text and JSON), `output`, `numbers` and
`names` (how they are written), `memory`; system calls are in `tinyonnx/native`. Nothing there allocates: its buffers
are of fixed size or on the stack.

Modules: `samples` (bytes to mono float32), `resampler`, `scores` (logits to tags), `kernels` (the kernels that C
calls), `registers`, `program` (the kernels with their memory), `source` (the C that is generated: constants that Python
has, too, and the model's texts), `build`.
"""
