"""Garbage collection in the process of a command.

What is imported and loaded stays until the end: to look for garbage among it, again and again
and once more at exit, takes a fifth of the CPU time of tagging one clip.
"""

import gc


def pause() -> None:
    """Collect nothing while the command starts."""
    gc.disable()


def resume() -> None:
    """Collect again, but nothing of what there is now. Does nothing unless collection is paused."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def leave() -> None:
    """Let the interpreter end without a last search."""
    gc.freeze()
