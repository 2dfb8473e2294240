"""Looking inside: what a model is, what its layers compute, where two models part, where time goes.

Each module is a library call and its result; `tinyonnx.commands` prints them.

feeds     inputs from files, shapes and seeds       costs     multiplications, parameters, bytes
inspect   nodes, plan, passes                       trace     statistics of every activation
compare   layer by layer against another runtime    profile   time per step
"""
