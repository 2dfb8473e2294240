"""`audiotag demo`: synthesises a clip, tags it and explains the result."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from audiotag.commands import add_model, check_outputs
from audiotag.errors import OutputError

if TYPE_CHECKING:
    from tinyonnx.ir import Array

HELP = "synthesise a short clip, tag it, explain the result"
DESCRIPTION = "Synthesise a clip of ten seconds (a siren, beeps, noise), tag it and explain the result."

PARTS = (("a siren", 4.0), ("a beeping telephone line", 3.0), ("bursts of noise", 3.0))
"""Parts of the demo clip and their lengths in seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--save", type=sound_file, metavar="FILE", help="also write the clip, in the format of the suffix"
    )


def sound_file(path: str) -> str:
    """Check that the suffix of a path is that of a format that libsndfile writes."""
    import soundfile

    formats = sorted(f".{name.lower()}" for name in soundfile.available_formats())
    if os.path.splitext(path)[1].lower() not in formats:
        raise argparse.ArgumentTypeError(f"{path} has no suffix of a sound format: {', '.join(formats)}")
    return path


def synthesise(rate: int = 32000) -> Array:
    """Synthesise the demo clip, (10 * rate,) mono float32, identical each time."""
    import numpy as np

    siren, beeps, noise = (np.arange(int(seconds * rate)) / rate for _, seconds in PARTS)
    rng = np.random.default_rng(0)
    pitch = 1000 + 430 * np.sin(2 * np.pi * 0.25 * siren)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wail = sum(np.sin(k * phase) / k for k in range(1, 8)) * 0.2 + 0.005 * rng.standard_normal(len(siren))
    on = (beeps % 0.5) < 0.25
    tone = (np.sin(2 * np.pi * 480 * beeps) + np.sin(2 * np.pi * 620 * beeps)) * 0.15 * on
    decay = np.exp(-6 * (noise % 0.6))
    bursts = rng.standard_normal(len(noise)) * 0.1 * decay
    return np.concatenate([wail, tone, bursts]).astype(np.float32)


def run(args: argparse.Namespace) -> int:
    """Synthesise, tag and explain the clip."""
    from audiotag.models.catalog import DEFAULT, FULL_SIZE
    from audiotag.sound.audio import SAMPLE_RATE
    from audiotag.tagger import Tagger

    check_outputs(files=[args.save])
    tagger = Tagger(args.model)
    clip = synthesise(SAMPLE_RATE)
    result = tagger.tag(clip, SAMPLE_RATE, top=5, name="demo clip")
    parts = ", then ".join(f"{what} ({seconds:.0f} s)" for what, seconds in PARTS)
    print(f"The clip: {result.duration:.0f} seconds synthesised by this program: {parts}.")
    if args.save is not None:
        _save(args.save, clip, SAMPLE_RATE)
        print(f"It was written to {args.save}.")
    print(f"The model: {result.model} (sha256 {result.sha256[:12]}).\n")
    print(f"The five best of {len(tagger.labels)} classes, with scores from 0 to 1:")
    for tag in result.tags:
        print(f"  {tag.score:6.4f}  {tag.label}")
    print()
    if result.trained:
        print("Each score is the model's probability that the class occurs somewhere in the clip;")
        print("several classes may occur, so the scores need not add up to 1.")
        if result.model == DEFAULT:
            print(f"This model is small; for better tags: audiotag models pull {FULL_SIZE}")
    else:
        print("This model is untrained: its weights are random numbers, so these scores mean nothing")
        print("and only show that decoding, features and engine work. For real tags use a trained")
        print("model: --model NAME|PATH.")
    print("\nNext: audiotag tag YOUR_FILE")
    return 0


def _save(path: str, clip: Array, rate: int) -> None:
    import soundfile

    try:
        open(path, "wb").close()  # raises the actual error where libsndfile reports "System error"
        soundfile.write(path, clip, rate)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise OutputError(path, getattr(error, "error_string", None) or str(error)) from None
