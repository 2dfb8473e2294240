"""From nothing to `default.onnx`, in steps that are skipped where their result is there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from audiotag import models
from audiotag.models import sha256_of
from models.train import bank, clips, distil, sources
from models.train.export import export


def main() -> None:
    """Run all steps, or one."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything big, 15 GB")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="teacher's checkpoint and ESC-10")
    parser.add_argument("--out", type=Path, default=Path("models/default.onnx"))
    parser.add_argument("--shards", type=int, default=36, help="training shards of 500 clips")
    parser.add_argument("--steps", type=int, default=distil.Plan.steps)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("fetch", "bank", "clips", "train"))
    parser.add_argument("--part", default="0/1", help="with --only clips: this share of the shards, for parallel runs")
    args = parser.parse_args()
    todo = (args.only,) if args.only else ("fetch", "bank", "clips", "train")
    work, checkpoint = args.work, args.shared / "mn04_as_mAP_432.pt"
    (work / "clips").mkdir(parents=True, exist_ok=True)
    if "fetch" in todo:
        sources.fetch(work / "packages")
    if "bank" in todo and not (work / "bank.json").exists():
        bank.make(work, args.shared / "esc10")
    if "clips" in todo:
        part, of = map(int, args.part.split("/"))
        sounds = bank.Bank(work)
        for index, held_out in [(0, True), (1, True), *((i, False) for i in range(args.shards))]:
            if index % of == part:
                print(clips.write_shard(work / "clips", sounds, index, held_out), flush=True)
    if "train" in todo:
        models.convert(checkpoint, work / "teacher.onnx")
        plan = distil.Plan(steps=args.steps)
        net = distil.train(work, checkpoint, args.shared / "esc10", plan, args.threads)
        source = f"distilled by audiotag's models/train in {plan.steps} steps from EfficientAT mn04_as"
        about = {"custom:trained": "yes", "custom:source": source, "custom:source_sha256": sha256_of(checkpoint)}
        about |= {"custom:licence": "MIT; derived from EfficientAT mn04_as, by Schmid, Koutini and Widmer, MIT"}
        print(f"{args.out}: differs from torch by {export(net, args.out, about):.2g}", file=sys.stderr)


if __name__ == "__main__":
    main()
