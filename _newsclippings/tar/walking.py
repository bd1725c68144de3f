"""Walk the headers of an uncompressed tar: nothing is extracted, no link is followed, no body is read.

`tarfile` and everything built on it stops without a word at a damaged header; this walk says where and why, and what
lies before the damage is still good. A large tar is walked in segments, several at a time, each from a header that was
found by its checksum; a segment counts only if the walk of the one before it ends exactly where it starts.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from tqdm.auto import tqdm

from _newsclippings.errors import BadFileError, BadTarError
from _newsclippings.storage import DamagedError, Lock, RandomFile, as_many, open_kept, write_kept
from _newsclippings.tables import empty_table
from _newsclippings.tar.end import end_damage, last_member, zeros_in
from _newsclippings.tar.headers import BLOCK, PLAIN, DamageError, checksums, number, stored_checksum
from _newsclippings.tar.segment import SCHEMA, GlobalFieldsError, Segment, walk_segment
from _newsclippings.text import printable

SEGMENT = 256 << 20  # bytes of a segment, about: what is walked again after an interruption
SEGMENTS = 1024  # at most, whatever size a file says it has: a search for a header each
SEARCH = 4 << 20  # bytes that are searched for a header to start a segment from
LONG = 5 * BLOCK  # bytes in which a long name or PAX fields that belong to a header stand before it
BEFORE = b"xLK"  # kinds of headers that tell more of the member behind them
THREADS = 16  # segments at a time, where they mostly wait for a disk or a network
WAITING = 50e-6  # seconds a member from which on that is so: it is 3 while the headers are in memory
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
    """Find every file of a tar.

    Args:
        file: the tar.
        parts: folder in which finished segments are kept until all are: an interrupted walk goes on from there.

    Returns:
        Arrow table of `SCHEMA` in the order of the tar; and None, or at which byte, after how many members and why the
        walk had to stop (the table is then the whole part before it).

    Raises:
        BadTarError: the tar has a link, a device, a sparse file, or a name that leaves the root.
    """
    what = f"Indexing {printable(os.path.basename(file.path))}"
    with tqdm(
        total=file.size, desc=what, unit="B", unit_scale=True, disable=None
    ) as bar, contextlib.ExitStack() as stack:  # fmt: skip
        lock = Lock()

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        def pool(threads: int) -> ThreadPoolExecutor:
            executor = stack.enter_context(ThreadPoolExecutor(as_many(threads)))
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            return executor

        try:
            each = max(SEGMENT, file.size // SEGMENTS)
            cuts = list(pool(THREADS).map(lambda at: _find_header(file, at), range(each, file.size, each)))
            starts = [0, *sorted({cut for cut in cuts if cut is not None})]
            stops = [*starts[1:], file.size]
            began = time.perf_counter()
            first = _segment(file, starts[0], stops[0], parts, advance)
            waits = time.perf_counter() - began > WAITING * len(first.members)
            rest = pool(THREADS if waits else 1).map(
                lambda start, stop: _segment(file, start, stop, parts, advance), starts[1:], stops[1:]
            )
            return _joined(file, _chained(file, itertools.chain([first], rest), stops, parts, advance))
        except GlobalFieldsError:  # what a segment holds depends on what stands long before it
            return _joined(file, iter([_segment(file, 0, file.size, None, advance)]))


def _chained(
    file: RandomFile, found: Iterator[Segment], stops: list[int], parts: Path | None, advance: Callable[[int], None]
) -> Iterator[Segment]:
    """The segments in order, each starting where the one before it ends."""
    expected = 0
    for segment, stop in zip(found, stops, strict=True):
        if expected >= stop and stop != file.size:
            continue  # the member before runs past all of it: what looked like headers lies inside that
        if segment.start != expected:
            segment = _segment(file, expected, stop, parts, advance)
        yield segment
        expected = segment.end


def _joined(file: RandomFile, chain: Iterator[Segment]) -> tuple[pa.Table, str | None]:
    tables, members = [empty_table(SCHEMA)], 0
    stop: DamageError | None = None
    for segment in chain:
        if isinstance(segment.stop, BadTarError):
            raise segment.stop
        tables.append(segment.members)
        members += len(segment.members)
        stop = segment.stop
        if segment.at_end and stop is None:
            stop = end_damage(file, segment.end)
        if segment.at_end or stop is not None:
            cut = _cut_member(file, tables, stop.byte if stop else segment.end, stop is not None)
            stop, members = cut or stop, members - (cut is not None)
            break
    damage = f"it is damaged at byte {stop.byte}, after {members} whole members: {stop.why}" if stop else None
    return pa.concat_tables(tables), damage  # in pieces: those that are kept are mapped, and fill no memory


def _cut_member(file: RandomFile, tables: list[pa.Table], byte: int, damaged: bool) -> DamageError | None:
    """Take the last member away if its data are zeros up to those at `byte`, and say so."""
    last = last_member(tables)
    if last is None or file.read_at(byte, 1) not in (b"", b"\0"):
        return None
    k, member = last
    ends = int(member["offset"]) + int(member["size"])
    cut = zeros_in(file, member, damaged) if -(-ends // BLOCK) * BLOCK == byte else None
    if cut is not None:
        tables[k] = tables[k].slice(0, len(tables[k]) - 1)
    return cut


def _segment(file: RandomFile, start: int, stop: int, parts: Path | None, advance: Callable[[int], None]) -> Segment:
    """Walk one segment, or take it from where it was kept."""
    kept = parts / f"{start}-{stop}.arrow" if parts else None
    found = _kept_segment(kept, start) if kept is not None else None
    if found is not None:
        advance(min(found.end, stop) - start)
        return found
    segment = walk_segment(file, start, stop, advance)
    if kept is not None and segment.stop is None:
        # No place for it: nothing is lost but the way back after an interruption.
        with contextlib.suppress(OSError, BadFileError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            schema = SCHEMA.with_metadata({"end": str(segment.end), "at_end": str(segment.at_end)})
            with write_kept(kept, _key(kept)) as temporary, pa.ipc.new_file(temporary, schema) as writer:
                writer.write_table(segment.members)
            return _kept_segment(kept, start) or segment  # mapped: memory is for what is being walked
    return segment


def _kept_segment(kept: Path, start: int) -> Segment | None:
    """A segment that was kept; None where there is none, or it is not what was written, so that it is walked again."""
    with contextlib.suppress(DamagedError, pa.ArrowInvalid, OSError, TypeError, KeyError, ValueError):
        file = open_kept(kept, _key(kept))
        if file is None:
            return None
        file.check()
        table = pa.ipc.open_file(pa.BufferReader(file.content)).read_all()
        about, members = table.schema.metadata, table.replace_schema_metadata(None)
        if members.schema.equals(SCHEMA):
            return Segment(start, int(about[b"end"]), members, about[b"at_end"] == b"True", None)
    return None


def _key(kept: Path) -> str:
    """Of a segment that is kept: which tar, in whose folder it is, and which segment."""
    return f"{kept.parent.name}/{kept.name}"


def _find_header(file: RandomFile, at: int) -> int | None:
    """The first place at or after a byte where a member seems to begin: magic, place and checksum are right.

    With a long name or PAX fields before its header it begins there, and not at the header, to which the walk before
    comes with those in hand.
    """
    step = 256 << 10
    for low in range(at, min(at + SEARCH, file.size), step):
        data = file.read_at(low, step + BLOCK)
        if data.count(0) == len(data):  # a hole, of which there may be terabytes
            return None
        k = data.find(b"ustar")
        while k >= 0:
            place = k - 257
            header = data[place : place + BLOCK] if place >= 0 else b""
            if (low + place) % BLOCK == 0 and _is_header(header, PLAIN + BEFORE):
                ahead = file.read_at(max(0, low + place - LONG), LONG)
                backs = range(2 * BLOCK, len(ahead) + 1, BLOCK)
                if not any(_leads_to(ahead[-back : BLOCK - back], back) for back in backs):
                    return low + place
            k = data.find(b"ustar", k + 1)
    return None


def _is_header(block: bytes, kinds: bytes) -> bool:
    return len(block) == BLOCK and block[156] in kinds and stored_checksum(block) in checksums(block)


def _leads_to(block: bytes, distance: int) -> bool:
    """Whether a block is the header of a long name or of PAX fields that end just so many bytes behind its start."""
    with contextlib.suppress(DamageError):
        return _is_header(block, BEFORE) and -(-number(block[124:136], 0) // BLOCK) * BLOCK == distance - BLOCK
    return False


def check_magic(file: RandomFile) -> None:
    """Raise `BadTarError` if a file is plainly no uncompressed tar, by its first bytes."""
    head = file.read_at(0, BLOCK)
    for magic, what, tool in _MAGIC:
        if head.startswith(magic):
            message = (
                f"{file.path}: expected an uncompressed tar, found {what}. A compressed archive cannot be read at a "
                f"position: decompress it once ({tool} {os.path.basename(file.path)}), without unpacking the tar in it."
            )
            raise BadTarError(message)
    if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer" if head.startswith(b"v") else "an HTML page"
        message = f"{file.path}: expected an uncompressed tar, found {what}. The download went wrong; fetch it again."
        raise BadTarError(message)
    if file.size < 2 * BLOCK or stored_checksum(head) not in checksums(head):
        found = f"{file.size} bytes that do not begin with a tar header"
        message = f"{file.path}: expected an uncompressed tar, found {found}. Is it a partial or another download?"
        raise BadTarError(message)
