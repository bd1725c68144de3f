"""The folder of an export, written in parts so that it can be interrupted at any moment.

    <out>/export.json                    the plan: what is exported, written first
    <out>/<split>.jsonl, ...             the text of a split
    <out>/<split>-00000.tar, ...         or its tars
    <out>/images/0062/620701.jpg         pictures by image_id, each once
    <out>/SHA256SUMS                     of all of these, written last
    <out>/.parts/<split>-00000.sums      while it is written: SHA-256 of the files of a finished part
    <out>/.parts/<split>-00000.txt       and its lines

Every file is written under another name and then renamed, so one under its own name is whole. The rows of a part are
read again only if its file of sums, which is its last, is not there.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from _newsclippings.errors import BadFileError, ConfigError, bad_file
from _newsclippings.export.forms import TEXT_FORMS, WEBDATASET, Context, TarWriter
from _newsclippings.export.rows import PART, Row
from _newsclippings.facts import SPLITS, VERSION
from _newsclippings.storage import (
    DECODER,
    check_own_folder,
    compute_sha256,
    foreign_output,
    read_file,
    write_atomically,
    write_text,
)
from _newsclippings.text import printable

PLAN: Final = "export.json"
SUMS: Final = "SHA256SUMS"
PARTS: Final = ".parts"
IMAGES: Final = "images"
COMMAND: Final = "export"
_TEMPORARY = r"\.\d+-[0-9a-f]{8}\.tmp"
_SPLITS, _FILES = "|".join(SPLITS), "|".join(SPLITS.values())
_NAMES = (
    rf"({re.escape(PLAN)}|{SUMS}|data/[a-z][a-z0-9_]*/({_FILES})\.json|({_SPLITS})\.(json|jsonl|csv)"
    rf"|({_SPLITS})-\d{{5}}\.tar|{IMAGES}/-?\d+/-?\d+\.jpg|{re.escape(PARTS)}/({_SPLITS})-\d{{5}}\.(txt|sums))"
    rf"({_TEMPORARY})?"
)
_MOST_PLAN, _MOST_SUMS = 1 << 20, 1 << 30  # bytes
_AGAIN = "Remove the folder, and run the same `newsclippings export` again."


@dataclass(frozen=True)
class Plan:
    """What a folder has; equal plans give equal bytes.

    Attributes:
        form: the form.
        config: name of the config.
        splits: split -> number of its rows.
        images: `"bytes"` or `"none"`.
        prompt: the question, of forms that ask one.
        made_of: identifies the rows.
        version: of the package.
    """

    form: str
    config: str
    splits: dict[str, int]
    images: str
    prompt: str | None
    made_of: str
    version: str = VERSION

    def to_json(self) -> str:
        """Return the content of export.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


class ExportFolder:
    """A folder that is written; the caller holds its lock."""

    def __init__(self, path: Path, plan: Plan, measures: Sequence[str]) -> None:
        """Write the plan, or go on with the folder if it has the same one.

        Args:
            path: the folder.
            plan: what it has.
            measures: what the column `source_dataset` numbers.

        Raises:
            ConfigError: something else is in the folder.
        """
        self.path, self.plan, self._measures = path, plan, measures
        check_own_folder(path, _NAMES, COMMAND)
        if not (path / PLAN).exists():
            others = [name for name in sorted(os.listdir(path)) if not re.search(_TEMPORARY, name)]
            if others:
                raise foreign_output(path / others[0], COMMAND)
            write_text(path / PLAN, plan.to_json())
        _check_plan(path / PLAN, plan)

    @property
    def complete(self) -> bool:
        """Whether all was written."""
        return (self.path / SUMS).exists()

    @property
    def started(self) -> bool:
        """Whether some parts were written."""
        return (self.path / PARTS).exists()

    def list_todo(self, split: str, parts: Iterable[int]) -> list[int]:
        """Return those of some parts that are not finished."""
        return [part for part in parts if not self._part(split, part, "sums").exists()]

    def write(self, split: str, rows: Iterable[Row]) -> Iterator[int]:
        """Write the rows of unfinished parts; yield the number of rows of each part that is finished."""
        context = self._context(split)
        for part, members in groupby(rows, key=lambda row: int(row["index"]) // PART):
            if self.plan.form == WEBDATASET:
                count, sums = self._write_tar(f"{split}-{part:05d}.tar", members)
            else:
                count, sums = self._write_lines(split, part, members, context)
            lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
            write_text(self._part(split, part, "sums"), lines)
            yield count

    def finish(self, parts: dict[str, list[int]]) -> None:
        """Write the text of each split and SHA256SUMS, and remove what is not needed any more."""
        sums = {PLAN: compute_sha256(self.path / PLAN)}
        for split, numbers in parts.items():
            for part in numbers:
                for name, digest in _parse_sums(self._part(split, part, "sums")).items():
                    if sums.setdefault(name, digest) != digest:
                        message = f"{self.path / name} is not the same in all rows: the input changed. {_AGAIN}"
                        raise BadFileError(message)
            if self.plan.form in TEXT_FORMS:
                name = TEXT_FORMS[self.plan.form].name(self.plan.config, split)
                sums[name] = self._join_lines(name, split, numbers)
        write_text(self.path / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted_sums(sums)))
        self.clean()

    def clean(self) -> None:
        """Remove the parts, and files that killed processes did not finish."""
        shutil.rmtree(self.path / PARTS, ignore_errors=True)
        for file in self.path.rglob("*.tmp"):
            if re.search(rf"{_TEMPORARY}\Z", file.name):
                file.unlink(missing_ok=True)

    def check(self) -> None:
        """Compare the files of a complete folder with their checksums.

        Raises:
            BadFileError: a file is missing or has another content.
        """
        for name, digest in _parse_sums(self.path / SUMS).items():
            with contextlib.suppress(OSError):
                if re.fullmatch(_NAMES, name) and compute_sha256(self.path / name) == digest:
                    continue
            message = f"{self.path / printable(name)}: it is missing, or its content changed. {_AGAIN}"
            raise BadFileError(message)

    def _context(self, split: str) -> Context:
        return Context(self.plan.config, split, self.plan.prompt or "", self._measures)

    def _part(self, split: str, part: int, ending: str) -> Path:
        return self.path / PARTS / f"{split}-{part:05d}.{ending}"

    def _write_tar(self, name: str, rows: Iterable[Row]) -> tuple[int, dict[str, str]]:
        count = 0
        with write_atomically(self.path / name) as temporary:
            with open(temporary, "wb") as file:
                tar = TarWriter(file, self._measures)
                for row in rows:
                    tar.add(row)
                    count += 1
                tar.close()
            digest = compute_sha256(temporary)
        return count, {name: digest}

    def _write_lines(self, split: str, part: int, rows: Iterable[Row], context: Context) -> tuple[int, dict[str, str]]:
        form, sums, lines = TEXT_FORMS[self.plan.form], dict[str, str](), []
        for row in rows:
            if "image" in row:
                name, data = name_picture(row["image_id"]), row["image"]["bytes"]
                sums[name] = hashlib.sha256(data).hexdigest()
                if not os.path.lexists(self.path / name):
                    with write_atomically(self.path / name) as temporary:
                        Path(temporary).write_bytes(data)
                row = {**row, "image_path": name}
            lines.append(form.line(row, context))
        write_text(self._part(split, part, "txt"), form.between.join(lines))
        return len(lines), sums

    def _join_lines(self, name: str, split: str, parts: list[int]) -> str:
        """Write the text of a split; return its SHA-256."""
        form = TEXT_FORMS[self.plan.form]
        with write_atomically(self.path / name) as temporary:
            with open(temporary, "wb") as file:
                file.write(form.head(self._context(split)).encode())
                for number, part in enumerate(parts):
                    file.write(form.between.encode() if number else b"")
                    with open(self._part(split, part, "txt"), "rb") as lines:
                        shutil.copyfileobj(lines, file)
                file.write(form.tail.encode())
            return compute_sha256(temporary)


def name_picture(image_id: int) -> str:
    """Return the name of a picture below the folder. It is made of a number, and not of a text of the input."""
    return f"{IMAGES}/{image_id // 10_000:04d}/{image_id}.jpg"


def sorted_sums(sums: dict[str, str]) -> list[tuple[str, str]]:
    """Return names and digests in the order of the names."""
    return sorted(sums.items())


def _parse_sums(file: Path) -> dict[str, str]:
    """Read lines of a SHA-256 and a name."""
    lines = read_file(file, _MOST_SUMS).decode(errors="replace").splitlines()
    if odd := [line for line in lines if not re.match(r"[0-9a-f]{64}  ", line)]:
        raise bad_file(file, "lines of a SHA-256 and a name", repr(odd[0])[:80], _AGAIN)
    return {line[66:]: line[:64] for line in lines}


def _check_plan(file: Path, plan: Plan) -> None:
    """Raise an error if a folder has another plan."""
    try:
        there = DECODER.decode(read_file(file, _MOST_PLAN).decode())
    except (ValueError, RecursionError) as error:
        raise bad_file(file, "the plan of an export", "something else", _AGAIN) from error
    mine = json.loads(plan.to_json())
    if there != mine:
        odd = [name for name in mine if not isinstance(there, dict) or there.get(name) != mine[name]]
        what = "other rows, or an input that changed" if odd == ["made_of"] else f"another {', '.join(odd)}"
        message = (
            f"{file.parent} has another export: {what}. Nothing was changed: choose another folder, or remove this one."
        )
        raise ConfigError(message)
