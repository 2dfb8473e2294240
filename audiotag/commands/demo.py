"""`audiotag demo`: a clip made on the spot, its tags, and what they mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from audiotag.errors import OutputError

if TYPE_CHECKING:
    from tinyonnx.ir import Array

PARTS = (("a siren", 4.0), ("a beeping telephone line", 3.0), ("bursts of noise", 3.0))
"""What is heard in the demo clip, and for how many seconds."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="make a short clip, tag it, explain the result",
        description="Make a clip of ten seconds (a siren, beeps, noise), tag it and explain the result.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a model's name or an ONNX file (default: the shipped one)"
    )
    parser.add_argument("--save", metavar="FILE", help="write the clip, too; the suffix says in which format")


def synthesise(rate: int = 32000) -> Array:
    """The demo clip: (10 * rate,) mono float32, the same each time."""
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
    """Make, tag and explain the clip."""
    from audiotag.models.catalog import DEFAULT, FULL_SIZE
    from audiotag.sound.audio import SAMPLE_RATE
    from audiotag.tagger import Tagger

    tagger = Tagger(args.model)
    clip = synthesise(SAMPLE_RATE)
    result = tagger.tag(clip, SAMPLE_RATE, top=5, name="demo clip")
    heard = ", then ".join(f"{what} ({seconds:.0f} s)" for what, seconds in PARTS)
    print(f"The clip: {result.duration:.0f} seconds made by this program: {heard}.")
    if args.save is not None:
        _save(args.save, clip, SAMPLE_RATE)
        print(f"It was written to {args.save}.")
    print(f"The model: {result.model} (sha256 {result.sha256[:12]}).\n")
    print("The five best of AudioSet's 527 classes, with scores from 0 to 1:")
    for tag in result.tags:
        print(f"  {tag.score:6.4f}  {tag.label}")
    print()
    if result.trained:
        print("Each score is the model's own probability that the class is heard somewhere in the")
        print("clip; several classes may be heard, so the scores need not add up to 1.")
        if result.model == DEFAULT:
            print(f"This model is small; for better tags: audiotag models pull {FULL_SIZE}")
    else:
        print("This model is untrained: its weights are random numbers, so these scores mean nothing")
        print("and only show that decoding, features and engine work. For real tags give a trained")
        print("model: --model NAME|PATH.")
    print("\nNext: audiotag tag YOUR_FILE")
    return 0


def _save(path: str, clip: Array, rate: int) -> None:
    import soundfile

    try:
        open(path, "wb").close()  # says why not where libsndfile says "System error"
        soundfile.write(path, clip, rate)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise OutputError(path, getattr(error, "error_string", None) or str(error)) from None
