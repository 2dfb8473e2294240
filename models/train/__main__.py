"""Make `default.onnx` from nothing; a step whose result exists is skipped."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from audiotag.models import catalog
from audiotag.models.catalog import sha256_of
from models.train import sources


@dataclass(frozen=True)
class Scale:
    """Amounts: packages, utterances, minutes of music, shards, clips in each, steps (None: those of the plan)."""

    packages: list[str]
    speech: int
    music: int
    shards: int
    clips: int
    steps: int | None


FULL = Scale(sources.ALL, 1500, 128, 40, 500, None)
SMOKE = Scale(sources.FEW, 20, 2, 1, 40, 3)


def main() -> None:
    """Run all steps, or one (`--only`)."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results, 15 GB")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="teacher's checkpoint and ESC-10")
    parser.add_argument("--out", type=Path, help="default: models/default.onnx, with --smoke below --work")
    parser.add_argument("--smoke", action="store_true", help="a trial run of every step, some minutes")
    parser.add_argument("--shards", type=int, help=f"training shards, by default {FULL.shards} (--smoke: 1)")
    parser.add_argument("--steps", type=int, help=f"by default those of `distil.Plan` (--smoke: {SMOKE.steps})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("fetch", "bank", "clips", "train", "export"))
    parser.add_argument("--part", default="0/1", help="with --only clips: this share of the shards, for parallel runs")
    args = parser.parse_args()
    scale = SMOKE if args.smoke else FULL
    # torch and scipy, of the extra `distil`, are not needed for --help
    from models.train import bank, clips, distil, heldout
    from models.train.export import export

    shards, steps = args.shards or scale.shards, args.steps or scale.steps
    out = args.out or (args.work / "smoke.onnx" if args.smoke else Path("models/default.onnx"))
    todo = (args.only,) if args.only else ("fetch", "bank", "clips", "train", "export")
    work, checkpoint = args.work, args.shared / "mn04_as_mAP_432.pt"
    (work / "clips").mkdir(parents=True, exist_ok=True)
    if "fetch" in todo:
        sources.fetch(work / "packages", scale.packages)
    if "bank" in todo and not (work / "bank.json").exists():
        bank.make(work, args.shared / "esc10", scale.speech, scale.music)
    if "clips" in todo:
        part, of = map(int, args.part.split("/"))
        sounds = bank.Bank(work)
        for index in range(part, shards, of):
            print(clips.write_shard(work / "clips", sounds, index, scale.clips), flush=True)
    if "train" in todo:
        catalog.convert(checkpoint, work / "teacher.onnx")
        plan = distil.Plan(steps=steps) if steps else distil.Plan()
        held_out = heldout.load(bank.Bank(work), work / "teacher.onnx", 2)
        distil.train(work, checkpoint, held_out, plan, args.threads)
    if "export" in todo:
        net, step = distil.snapshot(work)
        source = f"distilled by models/train in {step} steps from EfficientAT mn04_as"
        about = {"custom:trained": "yes", "custom:source": source, "custom:source_sha256": sha256_of(checkpoint)}
        about |= {"custom:licence": "MIT; derived from EfficientAT mn04_as, by Schmid, Koutini and Widmer, MIT"}
        print(f"{out}: differs from torch by {export(net, out, about):.2g}", file=sys.stderr)


if __name__ == "__main__":
    main()
