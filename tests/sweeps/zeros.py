"""Tars that were planned, with zeros where a download was broken off, and what must be found in them.

    python -m tests.sweeps.zeros 20000

tries so many: each is walked at once and in segments, and every verdict and list of members is compared with the plan.
"""

from __future__ import annotations

import io
import random
import sys
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar import segments as tar_segments
from _newsclippings.tar.end import longest_end
from newsclippings import BadTarError

BLOCKS = (1, 2, 20, 64, 128)


def jpeg(length: int, padding: int = 0) -> bytes:
    """Something with the beginning and the end of a JPEG, then zeros."""
    return b"\xff\xd8\xff\xe0\x00\x04ab" + b"\x55" * length + b"\xff\xd9" + bytes(padding)


@dataclass
class Planned:
    """A tar, and where its members are.

    Attributes:
        data: its bytes.
        members: name -> byte of the header, of the data, and the one after the data.
        end: byte of its end marker.
    """

    data: bytes
    members: dict[str, tuple[int, int, int]]
    end: int


def plan(files: dict[str, bytes], blocks: int = 20, form: int = tarfile.GNU_FORMAT) -> Planned:
    """A tar in records of some blocks, as `tar -b` makes it."""
    stream, members = io.BytesIO(), {}
    with tarfile.open(fileobj=stream, mode="w", format=form) as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, start = len(data), stream.tell()
            out.addfile(info, io.BytesIO(data))
            first = stream.tell() - -(-len(data) // 512) * 512
            members[name] = start, first, first + len(data)
        end = stream.tell()
    record = blocks * 512
    whole = -(-(end + 1024) // record) * record
    return Planned(stream.getvalue()[:end].ljust(whole, b"\0"), members, end)


def noise(form: str) -> bytes:
    """A picture of some thousand bytes."""
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(1, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


PICTURES = {form: noise(form) for form in ("PNG", "GIF", "WEBP")}


def invent_files(rng: random.Random) -> dict[str, bytes]:
    """Some pictures, articles and records, a few of them with zeros behind their end."""
    files: dict[str, bytes] = {}
    for k in range(rng.randint(2, 14)):
        kind, length = rng.choice(("JPEG", "JPEG", "JPEG", "text", "text", *PICTURES)), rng.randint(1, 3000)
        if kind == "text":
            files[f"bbc/articles/{k}{rng.choice(('.txt', '.json'))}"] = b"t" * length
        else:
            data = PICTURES.get(kind) or jpeg(length)
            files[f"bbc/images/{k}.{rng.choice(('jpg', kind.lower()))}"] = data + bytes(rng.choice((0, 0, 0, 3, 700)))
    return files


def expected(tar: Planned, start: int, stop: int) -> tuple[list[str], bool]:
    """The members that are whole before zeros in [start, stop), and whether the zeros are damage of the tar."""
    data = np.frombuffer(tar.data, np.uint8)
    changed = start + np.flatnonzero(data[start:stop])
    if not len(changed):
        return list(tar.members), False
    whole = [name for name, (_, _, end) in tar.members.items() if end <= changed[0]]
    end = -(-max(tar.members[name][2] for name in whole) // 512) * 512 if whole else 0
    rest = bytearray(tar.data)
    rest[start:stop] = bytes(stop - start)
    is_end = bool(whole) and not any(rest[end:]) and len(rest) - end <= longest_end(len(rest))
    return whole, not is_end


def is_within_data(tar: Planned, start: int, stop: int) -> bool:
    """Whether zeros in [start, stop) change the data of one member, and nothing else."""
    changed = start + np.flatnonzero(np.frombuffer(tar.data, np.uint8)[start:stop])
    return any(first <= changed[0] and changed[-1] < end for _, first, end in tar.members.values() if len(changed))


def cannot_be_told(tar: Planned, start: int) -> bool:
    """Whether zeros begin in the last few bytes of a WEBP: its format marks no end."""
    for _, first, end in tar.members.values():
        data = tar.data[first:end].rstrip(b"\0")
        if data.startswith(b"RIFF") and first + len(data) - 8 < start < first + len(data):
            return True
    return False


def walk(path: Path) -> tuple[list[str], str | None]:
    """Names and damage; where no member is whole, that is an error."""
    try:
        with LocalFile(str(path)) as file:
            table = tar_index.index_tar(file)
    except BadTarError as error:
        return [], str(error)
    damage = table.schema.metadata.get(b"damage")
    return table["name"].to_pylist(), damage.decode() if damage else None


def main(count: int) -> None:
    """Try so many tars and count the verdicts, and those that are wrong."""
    counts: Counter[str] = Counter()
    path, whole_segment = Path(tempfile.mkdtemp()) / "x.tar", tar_segments.SEGMENT
    for seed in range(count):
        rng = random.Random(seed)
        tar = plan(invent_files(rng), rng.choice(BLOCKS))
        start = rng.choice(
            [rng.randrange(512, len(tar.data)), rng.choice([at for m in tar.members.values() for at in m])]
        )
        stop = len(tar.data) if rng.random() < 0.6 else min(len(tar.data), start + rng.randrange(1, 20_000))
        if (stop < len(tar.data) and is_within_data(tar, start, stop)) or cannot_be_told(tar, start):
            continue
        path.write_bytes(tar.data[:start] + bytes(stop - start) + tar.data[stop:])
        whole, damaged = expected(tar, start, stop)
        for tar_segments.SEGMENT in (whole_segment, 2048):
            names, damage = walk(path)
            if (names, damage is not None) != (whole, damaged):
                counts["wrong"] += 1
                click.echo(f"seed {seed}: zeros in [{start}, {stop}): {names} {damage}, expected {whole} {damaged}")
        counts["damaged" if damaged else "sound"] += 1
    click.echo(f"{counts['damaged'] + counts['sound']:,} tars: {dict(counts)}, {counts['wrong']} wrong")


if __name__ == "__main__":
    main(int(sys.argv[1]))
