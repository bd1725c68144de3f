"""What web evidence tells of the label before any model sees it, and evidence that is filtered without the label.

CCN leaves exact matches of the query (the same caption, the same perceptual hash) out of the evidence of pristine rows,
and keeps them in that of falsified rows: the filter knows the label. Here both are treated alike.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError
from _newsclippings.evaluate import Evaluation, evaluate
from _newsclippings.evidence import evidence_folder
from _newsclippings.facts import DEFAULT_CONFIG, NAME
from _newsclippings.inputs import find_inputs
from _newsclippings.pictures import FolderPictures
from _newsclippings.rows import stream_rows
from _newsclippings.storage import NO_ACCESS, Access, cache_folder
from _newsclippings.suite.compare import FLAT, caption_key, check_path, hash_picture, is_near
from _newsclippings.tables import array_of
from _newsclippings.text import option

OF_CAPTIONS: Final = ("captions", "caption_domains", "caption_keep")
OF_IMAGES: Final = ("images", "image_domains", "image_keep")
RULES: Final = {
    "removed": "CCN's lists leave something out of the row's evidence: pristine",
    "exact": "the row's evidence, all of it, has an exact match: pristine",
    "as_if_unlabelled": "the same, after the filter that does not know the label",
}


@dataclass(frozen=True)
class Leak:
    """What rules that see no more than the evidence score.

    Attributes:
        split: name of the split.
        rows: rows of the split.
        with_evidence: rows that have evidence.
        pictures: whether pictures were compared, too; else only captions.
        unread: pictures of the evidence that are not there, do not decode, or have one colour only: they match none.
        found: of what is counted -> rows: `removed`, `exact_caption`, `exact_picture`; by label.
        rules: one of `RULES` -> its measures.
    """

    split: str
    rows: int
    with_evidence: int
    pictures: bool
    unread: int
    found: Mapping[str, tuple[int, int]]
    rules: Mapping[str, Evaluation]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the JSON output."""
        return {
            "split": self.split,
            "rows": self.rows,
            "with_evidence": self.with_evidence,
            "pictures": self.pictures,
            "unread_pictures": self.unread,
            "found": {name: {"pristine": counts[0], "falsified": counts[1]} for name, counts in self.found.items()},
            "rules": {name: one.as_dict() for name, one in self.rules.items()},
        }

    def __str__(self) -> str:
        compared = "captions and pictures were" if self.pictures else "only captions were"
        lines = [f"{self.with_evidence:,} of {self.rows:,} rows of {self.split} have evidence; {compared} compared."]
        if self.unread:
            lines.append(
                f"{self.unread:,} pictures of the evidence are not there, do not decode, or have one colour only: they "
                "match none."
            )
        for name, (pristine, falsified) in self.found.items():
            lines.append(f"{name}: {pristine:,} pristine and {falsified:,} falsified rows")
        lines += ["", f"{'rule':18}{'accuracy and 95 % interval':28}meaning"]
        for name, one in self.rules.items():
            result = one.as_dict()["measures"]["accuracy"]
            shown = f"{result['value']:.4f} [{result['low']:.4f}, {result['high']:.4f}]"
            lines.append(f"{name:18}{shown:28}{RULES[name]}")
        return "\n".join(lines)


def as_if_unlabelled(row: Mapping[str, Any], folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Leave exact matches out of the evidence of a row, whatever its label: for `Dataset.map`, with the folder bound.

    Captions that equal the row's caption (letters and digits only) and pictures with the perceptual hash of the row's
    picture are left out; CCN does so for pristine rows only. A picture that is not in the folder, or does not decode,
    stays. The fields `caption_keep` and `image_keep` depend on the label: they become null.

    Args:
        row: with the columns caption, image and evidence.
        folder: that of the option `evidence`.

    Returns:
        `{"evidence": ...}`, with which `Dataset.map` replaces the column.

    Raises:
        ConfigError: the row has no picture column, with which pictures could be compared.
    """
    if "image" not in row or "evidence" not in row:
        message = "as_if_unlabelled needs the columns image and evidence. Load with images='bytes' and evidence=FOLDER."
        raise ConfigError(message)
    evidence = row["evidence"]
    if evidence is None:
        return {"evidence": None}
    query = _hash(row["image"])
    hashes = _hash_files(evidence_folder(os.fspath(folder)), (*(evidence["images"] or ()),))
    return {"evidence": _filter(evidence, row["caption"], query, hashes)}


def measure_leak(
    folder: str | os.PathLike[str],
    split: str = "test",
    data_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Leak:
    """Measure what evidence alone tells of the label, by rules that are scored as any model is.

    Args:
        folder: that of the option `evidence`.
        split: name of the split.
        data_dir: folder with the official tree.
        storage_options: options of fsspec for URLs.
        fields: fields of `Request` that say where pictures are. Without pictures, only captions are compared.

    Raises:
        NewsCLIPpingsError: an input is missing or damaged.
    """
    data = None if data_dir is None else os.fspath(data_dir)
    request = Request(
        DEFAULT_CONFIG, data_dir=data, splits=[split], missing="null", evidence=os.fspath(folder), **fields
    )
    inputs = find_inputs(request, access=Access(storage_options) if storage_options else NO_ACCESS)
    pictures = bool(inputs.sources)
    if not pictures:
        request = replace(request, images="none")
    root = evidence_folder(os.fspath(folder))
    seen = list(_inspect(stream_rows(request, inputs, split, cache_folder() / NAME), root))
    if not any(row["has"] for row in seen):
        message = (
            f"{option('evidence', root)}: no row of {split} has evidence there. Are the folders of the searches beside "
            "the list of items?"
        )
        raise DataNotFoundError(message)
    falsified = np.array([row["falsified"] for row in seen]) == 1
    facts = {name: np.array([row[name] for row in seen], bool) for name in _FOUND}
    exact = facts["exact_caption"] | facts["exact_picture"]
    answers = {"removed": facts["removed"], "exact": exact, "as_if_unlabelled": np.array([r["left"] for r in seen])}
    index = [row["index"] for row in seen]
    rules = {
        name: evaluate(
            [{"index": k, "label_predicted": int(not p)} for k, p in zip(index, pristine.tolist(), strict=True)],
            split=split,
            data_dir=data,
        )
        for name, pristine in answers.items()
    }
    found = {
        name: (int((values & ~falsified).sum()), int((values & falsified).sum())) for name, values in facts.items()
    }
    unread = sum(row["unread"] for row in seen)
    return Leak(split, len(seen), sum(row["has"] for row in seen), pictures, unread, found, rules)


_FOUND: Final = ("removed", "exact_caption", "exact_picture")


def _inspect(rows: Iterator[dict[str, Any]], root: str) -> Iterator[dict[str, Any]]:
    """Yield of each row whether it has evidence, and what of it is an exact match."""
    known: tuple[Sequence[str], list[int]] = [], []  # those of twins are the same
    for row in rows:
        evidence = row["evidence"]
        about = {"index": row["index"], "falsified": row["falsified"], "has": evidence is not None, "left": False}
        about |= {**dict.fromkeys(_FOUND, False), "unread": 0}
        if evidence is not None:
            query, paths = _hash(row.get("image")), evidence["images"] or []
            if query == FLAT:
                hashes = [FLAT] * len(paths)
            else:
                if known[0] != paths:
                    known = paths, _hash_files(root, (*paths,))
                    about["unread"] = known[1].count(FLAT)
                hashes = known[1]
            keep = [*(evidence["caption_keep"] or ()), *(evidence["image_keep"] or ())]
            about["removed"] = not all(keep)
            about["exact_caption"], about["exact_picture"] = _find_exact(evidence, row["caption"], query, hashes)
            about["left"] = any(_find_exact(_filter(evidence, row["caption"], query, hashes), row["caption"], FLAT, []))
        yield about


def _find_exact(
    evidence: Mapping[str, Any], caption: str | None, query: int, hashes: Sequence[int]
) -> tuple[bool, bool]:
    key = caption_key(caption or "")
    of_captions = bool(key) and any(caption_key(text) == key for text in evidence["captions"] or ())
    return of_captions, any(is_near(query, each) for each in hashes)


def _filter(evidence: Mapping[str, Any], caption: str | None, query: int, hashes: Sequence[int]) -> dict[str, Any]:
    """Return the evidence without exact matches of a caption and a picture."""
    key = caption_key(caption or "")
    captions = [not key or caption_key(text) != key for text in evidence["captions"] or ()]
    images = [not is_near(query, each) for each in hashes] or [True] * len(evidence["images"] or ())
    kept = dict(evidence)
    for names, which in ((OF_CAPTIONS, captions), (OF_IMAGES, images)):
        for name in names[:-1]:
            values = evidence[name]
            kept[name] = None if values is None else [v for v, keep in zip(values, which, strict=True) if keep]
    return kept | {OF_CAPTIONS[-1]: None, OF_IMAGES[-1]: None}


def _hash(image: Any) -> int:
    """Hash the picture of a row; `FLAT` if it has none."""
    return FLAT if image is None else hash_picture(image)


@functools.lru_cache(maxsize=1)  # those of twins are the same
def _hash_files(root: str, paths: tuple[str, ...]) -> list[int]:
    """Hash pictures below a folder; `FLAT` for those that are not there or do not decode."""
    names = [check_path("evidence", path) for path in paths]
    pictures = FolderPictures(root, array_of(names, pa.string()))
    numbers = np.arange(len(names), dtype=np.int32)
    pictures.look(numbers)
    hashes = []
    for data in pictures.read(numbers).to_pylist():
        try:
            hashes.append(FLAT if data is None else hash_picture({"bytes": data, "path": None}))
        except BadFileError:
            hashes.append(FLAT)
    return hashes
