"""Ray Data: a dataset of clips, tagged by actors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audiotag.errors import Error
from audiotag.tagger import Tagger

if TYPE_CHECKING:
    import os


def tag_dataset(
    dataset: Any,
    model: str | os.PathLike[str] | None = None,
    *,
    actors: int | None = None,
    batch_size: int = 16,
    **options: Any,
) -> Any:
    """Return a Ray dataset with the columns that `Tagger.__call__` adds: "tags", "error" and "warning".

    Args:
        dataset: a `ray.data.Dataset` with one of the columns "bytes", "audio" (and "rate") or "path".
        model: argument of `Tagger`.
        actors: processes that tag, each on one thread; by default all CPUs of the cluster but the one that reads.
        batch_size: number of clips that an actor holds in memory.
        options: `top`, `threshold` and `labels` of `Tagger.__call__`.

    Raises:
        Error: no CPU would be left to read the sounds, so that Ray would wait forever.
    """
    import ray
    from ray.data import ActorPoolStrategy

    resources: Any = ray.cluster_resources
    cpus = int(resources().get("CPU", 0))
    if cpus < 2:
        raise Error("the Ray cluster has one CPU, which reads the sounds: start it with num_cpus=2 or more")
    if actors is None:
        actors = cpus - 1
    if not 0 < actors < cpus:
        raise Error(
            f"{actors} actors on {cpus} CPUs: each takes a CPU, and one must be left to read the sounds, or Ray waits "
            f"forever; ask for 1 to {cpus - 1}"
        )
    return dataset.map_batches(
        Tagger,
        fn_constructor_kwargs={"model": model},
        fn_kwargs=options,
        compute=ActorPoolStrategy(size=actors),
        batch_size=batch_size,
    )
