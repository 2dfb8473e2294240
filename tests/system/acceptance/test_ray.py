"""A folder of clips to Parquet with a real Ray, as docs/ray.md shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotag import Tagger

pytest.importorskip("ray")

PIPELINE = """
import sys
import ray
from audiotag import Error, tag_dataset

source, target = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
clips = ray.data.read_binary_files(source, include_paths=True, override_num_blocks=4)
for actors in (2, 3, 0):
    try:
        tag_dataset(clips, actors=actors)
    except Error as error:
        print(error)
tagged = tag_dataset(clips, top=5, batch_size=1)
tagged.drop_columns(["bytes"]).write_parquet(target)
"""


def test_a_folder_of_clips_to_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    source, target = tmp_path / "clips", tmp_path / "tags"
    source.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        soundfile.write(source / f"{i}.flac", rng.standard_normal(32000) * 0.1, 32000)
    (source / "5.flac").write_text("no sound")
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, script, source, target], check=True, capture_output=True, timeout=600, text=True
    )
    told = [line for line in done.stdout.splitlines() if "actors on 2 CPUs" in line]
    assert [line.split()[0] for line in told] == ["2", "3", "0"]
    assert all("one must be left to read the sounds" in line for line in told)
    rows = {row["path"]: row for row in pyarrow.parquet.read_table(target).to_pylist()}
    assert sorted(rows) == [str(source / f"{i}.flac") for i in range(6)]
    tagger = Tagger()
    for i in range(5):
        path = str(source / f"{i}.flac")
        expected = [tag.to_dict() for tag in tagger.tag(path, top=5).tags]
        assert rows[path] == {"path": path, "tags": expected, "error": None, "warning": None}
    bad = rows[str(source / "5.flac")]
    assert bad["tags"] == []
    assert "not sound in a format" in bad["error"]
