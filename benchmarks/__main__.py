"""`python -m benchmarks model`: a model's time and memory beside ONNX Runtime's, in one run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile

import numpy as np

from benchmarks.peers import PEERS, Measurement, Worker


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = commands.add_parser("model", help="one model, peers taking turns")
    model.add_argument("model", nargs="?", default="mn10", help="FILE.onnx, or mn04, mn10, …: seeded random weights")
    model.add_argument("--seconds", type=float, default=10.0, help="length of the clip for an audio model")
    model.add_argument("--batch", type=int, default=1)
    model.add_argument("--threads", type=int, default=1)
    model.add_argument("--repeats", type=int, default=30)
    model.add_argument("--json", action="store_true")
    args = parser.parse_args()

    missing = [peer for peer in PEERS if importlib.util.find_spec(peer) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; pip install -e '.[test]'")
    with tempfile.TemporaryDirectory() as folder:
        path = args.model
        if not path.endswith(".onnx"):
            from audiotag.errors import Error
            from audiotag.mobilenet import random_graph
            from tinyonnx import save_model

            path = os.path.join(folder, f"{args.model}.onnx")
            try:
                save_model(random_graph(args.model, seed=0), path)
            except Error as error:
                parser.error(str(error))
        shape = (args.batch, 1, 128, round(args.seconds * 100))
        feeds = os.path.join(folder, "feeds.npz")
        np.savez(feeds, melspec=np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        measurements = _measure(path, feeds, folder, args.threads, args.repeats)
    if args.json:
        print(json.dumps([vars(m) | {"median": m.median} for m in measurements]))
    else:
        print(f"{args.model} {list(shape)}, {args.threads} thread(s), {platform.machine()}")
        _print(measurements)


def _measure(model: str, feeds: str, folder: str, threads: int, repeats: int) -> list[Measurement]:
    workers = [Worker(peer, model, feeds, os.path.join(folder, f"{peer}.npy"), threads) for peer in PEERS]
    for _ in range(repeats):
        for worker in workers:
            worker.run()
    results = [np.load(worker.result_path) for worker in workers]
    measurements = [worker.close() for worker in workers]
    for measurement, result in zip(measurements, results, strict=True):
        measurement.difference = float(np.abs(result - results[-1]).max())
    return measurements


def _print(measurements: list[Measurement]) -> None:
    base = measurements[-1]
    print(f"{'':14}{'median ms':>10}{'min ms':>9}{'ratio':>7}{'first s':>9}{'peak MiB':>10}{'ratio':>7}{'max |Δ|':>10}")
    for m in measurements:
        print(
            f"{m.peer:14}{m.median * 1e3:10.2f}{min(m.times) * 1e3:9.2f}{m.median / base.median:7.2f}"
            f"{m.first:9.2f}{m.peak_mib:10.0f}{m.peak_mib / base.peak_mib:7.2f}{m.difference:10.1e}"
        )


if __name__ == "__main__":
    main()
