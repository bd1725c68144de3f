"""Walk the headers of a whole tar, in segments that are walked in parallel and kept until all are done.

Nothing is extracted, no link is followed and no data are read. `tarfile` stops silently at a damaged header; this walk
reports where and why it stopped, and returns the members before the damage. Each segment begins at a header that was
found by its checksum. A segment is used only if the walk of the one before it ends exactly where it begins.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from _newsclippings.errors import BadFileError, BadTarError
from _newsclippings.storage import Lock, RandomFile, limit_threads, open_table, progress_bar, write_kept
from _newsclippings.tables import empty_table
from _newsclippings.tar.end import find_end_damage, find_unwritten_data, last_member
from _newsclippings.tar.headers import BLOCK, PLAIN, DamageError, compute_checksums, parse_size, read_checksum
from _newsclippings.tar.walk import WALKED, GlobalFieldsError, Segment, walk_segment
from _newsclippings.text import option, printable

SEGMENT = 256 << 20  # bytes of a segment: the most that is walked again after an interruption
SEGMENTS = 1024  # most segments, whatever size a file claims to have
SEARCH = 4 << 20  # bytes searched for a header at which a segment can begin
LONG = 5 * BLOCK  # bytes before a header that may hold its long name or PAX fields
BEFORE = b"xLK"  # header types that describe the following member
THREADS = 16  # segments walked at a time if the walk mostly waits for a disk or a network
WAITING = 50e-6  # seconds per member above which it does; with headers in memory a member takes 3e-6
_MAGIC = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "zstd -d"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"7z\xbc\xaf", "7-Zip", "7z x"),
    (b"Rar!", "RAR", "unrar x"),
)


def walk_headers(file: RandomFile, parts: Path | None = None) -> tuple[pa.Table, str | None]:
    """Find every member of a tar, except folders.

    Args:
        file: the tar.
        parts: folder for finished segments, from which an interrupted walk continues; None keeps none.

    Returns:
        Arrow table of `WALKED` in the order of the tar; and a description of the damage (at which byte, after how many
        members, why), None if there is none. With damage, the table holds the members before it.
    """
    what = f"Indexing {printable(os.path.basename(file.path))}"
    with progress_bar(
        total=file.size, desc=what, unit="B", unit_scale=True
    ) as bar, contextlib.ExitStack() as stack:  # fmt: skip
        lock = Lock()

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        def pool(threads: int) -> ThreadPoolExecutor:
            executor = stack.enter_context(ThreadPoolExecutor(limit_threads(threads)))
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            return executor

        try:
            each = max(SEGMENT, file.size // SEGMENTS)
            cuts = list(pool(THREADS).map(lambda at: _find_header(file, at), range(each, file.size, each)))
            starts = [0, *sorted({cut for cut in cuts if cut is not None})]
            stops = [*starts[1:], file.size]
            began = time.perf_counter()
            first = _walk_or_load(file, starts[0], stops[0], parts, advance)
            waits = time.perf_counter() - began > WAITING * len(first.members)
            rest = pool(THREADS if waits else 1).map(
                lambda start, stop: _walk_or_load(file, start, stop, parts, advance), starts[1:], stops[1:]
            )
            return _join(file, _chain(file, itertools.chain([first], rest), stops, parts, advance))
        except GlobalFieldsError:  # members depend on fields in an earlier segment: walk the tar in one go
            return _join(file, iter([_walk_or_load(file, 0, file.size, None, advance)]))


def _chain(
    file: RandomFile, segments: Iterator[Segment], stops: list[int], parts: Path | None, advance: Callable[[int], None]
) -> Iterator[Segment]:
    """Yield the segments in order, each beginning where the one before it ends; walk again where they do not fit."""
    expected = 0
    for segment, stop in zip(segments, stops, strict=True):
        if expected >= stop and stop != file.size:
            continue  # the member before covers all of it: what looked like headers is part of its data
        if segment.start != expected:
            segment = _walk_or_load(file, expected, stop, parts, advance)
        yield segment
        expected = segment.end


def _join(file: RandomFile, chain: Iterator[Segment]) -> tuple[pa.Table, str | None]:
    """Join the segments up to the end marker or the first damage, and check the end of the tar."""
    tables, members = [empty_table(WALKED)], 0
    stop: DamageError | None = None
    for segment in chain:
        tables.append(segment.members)
        members += len(segment.members)
        stop = segment.stop
        if segment.at_end and stop is None:
            stop = find_end_damage(file, segment.end)
        if segment.at_end or stop is not None:
            cut = _remove_unwritten_member(file, tables, stop.byte if stop else segment.end, stop is not None)
            stop, members = cut or stop, members - (cut is not None)
            break
    damage = f"it is damaged at byte {stop.byte}, after {members} whole members: {stop.why}" if stop else None
    return pa.concat_tables(tables), damage  # not combined: kept segments are mapped files


def _remove_unwritten_member(file: RandomFile, tables: list[pa.Table], byte: int, damaged: bool) -> DamageError | None:
    """Remove the last member from its table if its data end in zeros up to `byte` because they were not written."""
    last = last_member(tables)
    if last is None or file.read_at(byte, 1) not in (b"", b"\0"):
        return None
    k, member = last
    ends = int(member["offset"]) + int(member["size"])
    cut = find_unwritten_data(file, member, damaged) if -(-ends // BLOCK) * BLOCK == byte else None
    if cut is not None:
        tables[k] = tables[k].slice(0, len(tables[k]) - 1)
    return cut


def _walk_or_load(
    file: RandomFile, start: int, stop: int, parts: Path | None, advance: Callable[[int], None]
) -> Segment:
    """Load a segment that was kept, or walk and keep it."""
    kept = parts / f"{start}-{stop}.arrow" if parts else None
    loaded = _load_segment(kept, start) if kept is not None else None
    if loaded is not None:
        advance(min(loaded.end, stop) - start)
        return loaded
    segment = walk_segment(file, start, stop, advance)
    if kept is not None and segment.stop is None:
        # If it cannot be kept, an interrupted walk begins again; nothing else changes.
        with contextlib.suppress(OSError, BadFileError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            schema = WALKED.with_metadata({"end": str(segment.end), "at_end": str(segment.at_end)})
            with write_kept(kept, _key(kept)) as temporary, pa.ipc.new_file(temporary, schema) as writer:
                writer.write_table(segment.members)
            return _load_segment(kept, start) or segment  # mapped, so that it takes no memory
    return segment


def _load_segment(kept: Path, start: int) -> Segment | None:
    """Load a kept segment; None if there is none, or if it is damaged."""
    opened = open_table(kept, _key(kept))
    if opened is None or not opened.table.schema.equals(WALKED):
        return None
    metadata, members = opened.table.schema.metadata, opened.table.replace_schema_metadata(None)
    with contextlib.suppress(TypeError, KeyError, ValueError):  # no metadata, or others
        return Segment(start, int(metadata[b"end"]), members, metadata[b"at_end"] == b"True", None)
    return None


def _key(kept: Path) -> str:
    """Name the content of a kept segment: its tar (the name of the folder) and its range (the name of the file)."""
    return f"{kept.parent.name}/{kept.name}"


def _find_header(file: RandomFile, at: int) -> int | None:
    """Find the first byte at or after `at` where a member seems to begin: magic, position and checksum are right.

    A header that has a long name or PAX fields before it is not used: a walk that begins there would miss them.
    """
    step = 256 << 10
    for low in range(at, min(at + SEARCH, file.size), step):
        data = file.read_at(low, step + BLOCK)
        if data.count(0) == len(data):  # a hole; a sparse file may have terabytes of them
            return None
        k = data.find(b"ustar")
        while k >= 0:
            place = k - 257
            header = data[place : place + BLOCK] if place >= 0 else b""
            if (low + place) % BLOCK == 0 and _is_header(header, PLAIN + BEFORE):
                ahead = file.read_at(max(0, low + place - LONG), LONG)
                backs = range(2 * BLOCK, len(ahead) + 1, BLOCK)
                if not any(_belongs_to_header(ahead[-back : BLOCK - back], back) for back in backs):
                    return low + place
            k = data.find(b"ustar", k + 1)
    return None


def _is_header(block: bytes, kinds: bytes) -> bool:
    return len(block) == BLOCK and block[156] in kinds and read_checksum(block) in compute_checksums(block)


def _belongs_to_header(block: bytes, distance: int) -> bool:
    """Check whether a block is the header of a long name or of PAX fields that end `distance` bytes after its start."""
    with contextlib.suppress(DamageError):
        return _is_header(block, BEFORE) and -(-parse_size(block[124:136], 0) // BLOCK) * BLOCK == distance - BLOCK
    return False


def check_magic(file: RandomFile) -> None:
    """Raise `BadTarError` if the first bytes of a file show that it is no uncompressed tar."""
    head = file.read_at(0, BLOCK)
    for magic, what, tool in _MAGIC:
        if head.startswith(magic):
            if what == "zip":
                message = (
                    f"{file.path} is a zip, not a tar. It is read in place, and needs no index: pass it as "
                    f"{option('visual_news')}, under a name that ends in .zip."
                )
                raise BadTarError(message)
            message = (
                f"{file.path}: expected an uncompressed tar, found {what}. A compressed archive cannot be read at a "
                f"position: decompress it once ({tool} {os.path.basename(file.path)}), without unpacking the tar in it."
            )
            raise BadTarError(message)
    if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer" if head.startswith(b"v") else "an HTML page"
        message = f"{file.path}: expected an uncompressed tar, found {what}. The download went wrong; fetch it again."
        raise BadTarError(message)
    if file.size < 2 * BLOCK or read_checksum(head) not in compute_checksums(head):
        what = f"{file.size} bytes that do not begin with a tar header"
        message = f"{file.path}: expected an uncompressed tar, found {what}. Is it a partial or another download?"
        raise BadTarError(message)
