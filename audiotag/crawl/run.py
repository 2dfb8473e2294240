"""A run: many files are processed by a job into one output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TextIO

from audiotag.console import own_descriptor, say, show
from audiotag.crawl.inputs import STDIN, Shard, expand
from audiotag.crawl.job import EncodedRows, End, Job, JobEvent, Position
from audiotag.crawl.manifests import Manifest
from audiotag.errors import AudioError, OutputError, printable
from audiotag.outputs import FORMATS, PARTS
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.crawl.progress import Progress
    from audiotag.models.catalog import ResolvedModel


@dataclass(frozen=True)
class Files:
    """The files of a run, or one shard of them, found lazily from paths and lists."""

    paths: Sequence[str | Manifest]
    shard: Shard | None = None

    def __iter__(self) -> Iterator[str | Failure]:
        for path in expand(self.paths):
            name = path.name if isinstance(path, AudioError) else path
            if self.shard is None or name in self.shard:
                yield Failure.of(name, path) if isinstance(path, AudioError) else path

    @property
    def repeatable(self) -> bool:
        """Whether the files can be iterated over more than once; a list from a pipe can't."""
        return all(path.repeatable for path in self.paths if isinstance(path, Manifest))

    def count(self) -> int | None:
        """Return the number of files, None if they can be read only once."""
        return sum(1 for _ in self) if self.repeatable else None


class Output(Protocol):
    """Destination of rows; `failures` and `n_done` count files of earlier runs."""

    failures: int
    n_done: int

    def done_before(self, path: str) -> bool:
        """Return whether an earlier run has done the file; True as often as the file has been done."""
        ...

    def put(self, data: bytes) -> None:
        """Append rows of a file. Raises OutputError."""
        ...

    def end(self, path: str, failed: bool) -> None:
        """Record that all rows of a file have been appended. Raises OutputError."""
        ...


class Stream:
    """Text written to a pipe, a terminal or a device, flushed after each `put`."""

    failures = n_done = 0

    def __init__(self, file: TextIO, header: str) -> None:
        file.flush()
        self._file = file
        self._binary = None if file.isatty() else getattr(file, "buffer", None)
        self._started = False
        self.put(header.encode())

    def done_before(self, path: str) -> bool:
        return False

    def put(self, data: bytes) -> None:
        if data:
            show("")
            self._write(data if self._started else data.removeprefix(b"\n"))
            self._started = True

    def end(self, path: str, failed: bool) -> None:
        pass

    def _write(self, data: bytes) -> None:
        """Write encoded rows: to a terminal with control characters escaped, elsewhere as they are."""
        if self._binary is None:
            self._file.write(printable(data.decode(errors="surrogateescape"), keep="\n\t"))
            self._file.flush()
        else:
            self._binary.write(data)
            self._binary.flush()


def remaining(files: Files, output: Output) -> Iterator[str | Failure]:
    """Yield the files that the output does not contain from an earlier run."""
    for file in files:
        if not output.done_before(file.path if isinstance(file, Failure) else file):
            yield file


def in_process(job: Job, files: Iterable[str | Failure], progress: Progress) -> Generator[JobEvent, None, None]:
    """Process files one after the other in this process."""
    for file in files:
        if isinstance(file, Failure):
            yield End(file.path, file)
        else:
            progress.start(file)
            job.listen(partial(progress.reach, file))
            yield from job.events(file)


def write(
    events: Iterable[JobEvent | None],
    job: Job,
    output: Output,
    progress: Progress,
    watch: Callable[[Result], None] | None = None,
) -> bool:
    """Write the rows of all files, report each failure, and return whether there was any.

    Args:
        events: events of one file after the other, positions in between; None only updates the progress.
        job: encodes failures.
        output: destination of the rows.
        progress: updated for each event.
        watch: called with each result that was computed in this process.

    Raises OutputError, and the errors of `events`.
    """
    failed = False
    for event in events:
        if event is None:
            progress.tick()
        elif isinstance(event, Position):
            progress.reach(*event)
        elif isinstance(event, EncodedRows):
            output.put(event.data)
            progress.tick()
            if watch is not None and event.result is not None:
                watch(event.result)
        else:
            for warning in event.warnings:
                say(f"{printable(event.path)}: warning: {printable(warning)}")
            if event.failure is not None:
                failed = True
                say(str(event.failure))
                output.put(job.encode(event.failure))
            output.end(event.path, event.failure is not None)
            progress.add(event.path, event.seconds, event.failure is not None)
    return failed


@contextmanager
def open_output(
    path: str | None,
    job: Job,
    files: Files,
    model: ResolvedModel,
    *,
    resume: bool = False,
    overwrite: bool = False,
    one_file: bool = False,
) -> Iterator[Output]:
    """Open standard output (None), a device, or a file or folder with a journal.

    Args:
        path: the output.
        job: the job whose rows are written.
        files: the input files, which the output must not overwrite.
        model: the model of the job, for the journal.
        resume: continue an existing output.
        overwrite: replace an existing output.
        one_file: the run is about a single file: nothing can be added to its output, so that the
            journal is removed when the run is finished.

    Raises:
        OutputError: the output exists and neither `resume` nor `overwrite` is given, it can't be
            resumed, or rows can't be written.
        BrokenPipeError: the reader of standard output has closed it.
    """
    if path is None or _is_device(path):
        with _stream(path, job) as output:
            yield output
        return
    # only needed here: standard output has no journal
    from audiotag.crawl.journal import Journal
    from audiotag.crawl.sinks import FileSink, PartSink

    if overwrite and os.path.isfile(path):
        _refuse_inputs(path, files, model)
    sink = FileSink(path, _header(job)) if job.format in FORMATS else PartSink(path, PARTS[job.format](job.options))
    settings = {
        "model": model.name,
        "sha256": model.sha256,
        "shard": files.shard and str(files.shard),
        "format": job.format,
    }
    journal = Journal(sink, {**settings, **job.options.to_dict()}, resume=resume, overwrite=overwrite)
    finished = files.paths == [STDIN]  # a stream can't be resumed
    try:
        if journal.n_done:
            say(f"{printable(path)}: {journal.n_done:,} files done already, {journal.failures:,} of them with errors")
        yield journal
        finished = True
    except BaseException as error:
        if files.paths == [STDIN]:  # keep the rows of a live stream, which ends by an interrupt only
            journal.end(STDIN, failed=False)
        elif isinstance(error, KeyboardInterrupt | OutputError):
            say(f"{printable(path)}: to continue, run the same command with --resume")
        raise
    finally:
        journal.close(remove=one_file and finished)


def _is_device(path: str) -> bool:
    """Return whether a path is neither a file nor a folder, or is an alias of an open file of this process."""
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
            with open(own_descriptor(path), "w", encoding="utf-8") as file:
                yield Stream(file, _header(job))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(name, error.strerror or str(error)) from None


def _header(job: Job) -> str:
    return FORMATS[job.format](job.options).header()


def _refuse_inputs(output: str, files: Files, model: ResolvedModel) -> None:
    """Raise OutputError if `output` is one of the input files, or the model."""
    for source in chain([model.source], files if files.repeatable else ()):
        if isinstance(source, str) and os.path.exists(source) and os.path.samefile(source, output):
            raise OutputError(output, f"is also an input, {source}: results would overwrite it")
