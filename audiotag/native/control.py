"""Registers that the kernels and the glue share, actions of the glue, and the kernels' numbers."""

# registers of the array `control`
KERNEL, ACTION, PLACE, COUNT, RESULT, FRAMES = range(6)

# actions
NOTHING, OPEN, READ, MODEL, WRITE, CLOSE, EXIT = range(7)
