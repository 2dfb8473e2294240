"""A run: many files through a job into one output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TextIO

from audiotag.console import say, show
from audiotag.crawl.inputs import STDIN, Shard, expand
from audiotag.crawl.job import End, Event, Job, Rows
from audiotag.crawl.journal import Journal
from audiotag.crawl.manifests import Manifest
from audiotag.crawl.sinks import FileSink, PartSink
from audiotag.errors import AudioError, OutputError, printable
from audiotag.outputs import FORMATS, PARTS
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.crawl.progress import Progress
    from audiotag.models.catalog import ResolvedModel


@dataclass(frozen=True)
class Files:
    """What a run is about: the files that paths mean, or one shard of them, found as they are needed."""

    paths: Sequence[str | Manifest]
    shard: Shard | None = None

    def __iter__(self) -> Iterator[str | Failure]:
        for path in expand(self.paths):
            name = path.name if isinstance(path, AudioError) else path
            if self.shard is None or name in self.shard:
                yield Failure.of(name, path) if isinstance(path, AudioError) else path

    @property
    def repeatable(self) -> bool:
        """Whether they can be gone through more than once: a list that comes through a pipe can't."""
        return all(path.repeatable for path in self.paths if isinstance(path, Manifest))

    def count(self) -> int | None:
        """How many there are, None if that can't be told beforehand."""
        return sum(1 for _ in self) if self.repeatable else None


class Output(Protocol):
    """Where rows go; failures and files of earlier runs, if it has some."""

    failures: int
    n_done: int

    def done_before(self, path: str) -> bool:
        """Whether an earlier run did the file. Of a path that was done n times, the first n times that it is asked."""
        ...

    def put(self, data: bytes) -> None:
        """Add rows of a file. Raises OutputError."""
        ...

    def end(self, path: str, failed: bool) -> None:
        """All rows of a file are there. Raises OutputError."""
        ...


class Stream:
    """Text to a pipe, a terminal or a device; rows are out once `put` returns, for those who read along."""

    failures = n_done = 0

    def __init__(self, file: TextIO, header: str) -> None:
        self._file = file
        self._begun = False
        self.put(header.encode())

    def done_before(self, path: str) -> bool:
        return False

    def put(self, data: bytes) -> None:
        if data:
            show("")
            text = data.decode()
            self._file.write(text if self._begun else text.removeprefix("\n"))
            self._file.flush()
            self._begun = True

    def end(self, path: str, failed: bool) -> None:
        pass


def remaining(files: Files, output: Output) -> Iterator[str | Failure]:
    """The files that the output doesn't have from an earlier run."""
    for file in files:
        if not output.done_before(file.path if isinstance(file, Failure) else file):
            yield file


def in_process(job: Job, files: Iterable[str | Failure], progress: Progress) -> Generator[Event, None, None]:
    """Do the job here, one file after the other."""
    for file in files:
        if isinstance(file, Failure):
            yield End(file.path, file)
        else:
            progress.start(file)
            yield from job.events(file)


def write(
    events: Iterable[Event | None],
    job: Job,
    output: Output,
    progress: Progress,
    watch: Callable[[Result], None] | None = None,
) -> bool:
    """Write what comes of files; whether any failed, each of which is said.

    Args:
        events: of one file after the other; None is an occasion to tell how it goes.
        job: what they come from.
        output: where rows go.
        progress: told about each file.
        watch: called with results that were made in this process.

    Raises OutputError, and what `events` raises.
    """
    failed = False
    for event in events:
        if event is None:
            progress.tick()
        elif isinstance(event, Rows):
            output.put(event.data)
            progress.tick()
            if watch is not None and event.result is not None:
                watch(event.result)
        else:
            if event.failure is not None:
                failed = True
                say(str(event.failure))
                output.put(job.encode(event.failure))
            output.end(event.path, event.failure is not None)
            progress.add(event.seconds, event.failure is not None)
    return failed


@contextmanager
def open_output(
    path: str | None, job: Job, files: Files, model: ResolvedModel, *, resume: bool = False, overwrite: bool = False
) -> Iterator[Output]:
    """Open standard output (None), a device, or a file or folder that can be resumed.

    Args:
        path: where rows go.
        job: what they come from.
        files: which they are about; no output that is there may be one of them.
        model: the job's.
        resume: go on with what is there.
        overwrite: throw away what is there.

    Raises:
        OutputError: there is something, and neither `resume` nor `overwrite`; it can't be
            resumed; rows can't be written.
        BrokenPipeError: the reader has gone.
    """
    if path is None or _is_device(path):
        with _stream(path, job) as output:
            yield output
        return
    if overwrite and os.path.isfile(path):
        _spare(path, files, model)
    sink = FileSink(path, _header(job)) if job.format in FORMATS else PartSink(path, PARTS[job.format](job.options))
    settings = {
        "model": model.name,
        "sha256": model.sha256,
        "shard": files.shard and str(files.shard),
        "format": job.format,
    }
    journal = Journal(sink, {**settings, **job.options.to_dict()}, resume=resume, overwrite=overwrite)
    try:
        if journal.n_done:
            say(f"{printable(path)}: {journal.n_done:,} files are done, {journal.failures:,} of them with errors")
        yield journal
    except BaseException as error:
        if files.paths == [STDIN]:  # what was heard, of sound that would not end otherwise
            journal.end(STDIN, failed=False)
        elif isinstance(error, KeyboardInterrupt | OutputError):
            say(f"{printable(path)}: the same command with --resume goes on")
        raise
    finally:
        journal.close()


def _is_device(path: str) -> bool:
    """Whether it is something else than a file or a folder, or a name for what this process has open, of any kind."""
    kept = os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)
    return path.startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/")) or not kept


@contextmanager
def _stream(path: str | None, job: Job) -> Iterator[Stream]:
    name = path or "standard output"
    if job.format in PARTS:
        raise OutputError(name, f"{job.format} needs a folder: --output FOLDER")
    try:
        if path is None:
            yield Stream(sys.stdout, _header(job))
        else:
            with open(path, "w", encoding="utf-8") as file:
                yield Stream(file, _header(job))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(name, error.strerror or str(error)) from None


def _header(job: Job) -> str:
    return FORMATS[job.format](job.options).header()


def _spare(output: str, files: Files, model: ResolvedModel) -> None:
    """Raise OutputError if writing to `output` would destroy one of the files, or the model."""
    for source in chain([model.source], files if files.repeatable else ()):
        if isinstance(source, str) and os.path.exists(source) and os.path.samefile(source, output):
            raise OutputError(output, f"is also read, as {source}: results would overwrite it")
