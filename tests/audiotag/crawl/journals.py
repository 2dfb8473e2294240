"""Runs of a fake job into an output with a journal."""

from __future__ import annotations

from audiotag.crawl.journal import Journal
from audiotag.crawl.sinks import FileSink

SETTINGS = {"top": 10, "labels": (1, 2)}


FILES = [f"clip {number}.wav" for number in range(12)]


def rows_of(path):
    """Return rows of different lengths, none for some files."""
    return "".join(f"{path} row {row}{'.' * row}\n" for row in range(int(path[5:-4]) % 4)).encode()


def open_file(path, header="", settings=SETTINGS, resume=False, overwrite=False):
    return Journal(FileSink(str(path), header), settings, resume=resume, overwrite=overwrite)


def do(journal, files=FILES, stop_after=None):
    """Do the files that are not done."""
    for file in [file for file in files if not journal.done_before(file)][:stop_after]:
        if rows := rows_of(file):
            journal.put(rows)
        journal.end(file, failed=file == FILES[5])


def complete(path, header="", resume=False):
    """Open, do the files that are not done, and close."""
    journal = open_file(path, header, resume=resume)
    do(journal)
    journal.close()
    return journal


def expected(header=""):
    return header.encode() + b"".join(map(rows_of, FILES))
