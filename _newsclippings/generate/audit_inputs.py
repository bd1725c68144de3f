"""What an audit reads: official matches, metadata and vectors of one split."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.config import Request, bad_value, check_path
from _newsclippings.corpus import Corpus
from _newsclippings.errors import DataNotFoundError, bad_file
from _newsclippings.facts import CONFIGS, EMBEDDINGS, NAME, SOURCE_DATASETS, SPLITS
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.storage import cache_folder, is_url
from _newsclippings.tables import Int32s, Int64s, int64s, lookup, one_chunk, values_of
from _newsclippings.text import option
from _newsclippings.vectors import read_embeddings

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

KINDS: Final = tuple(kind for kind, vectors in EMBEDDINGS.items() if not vectors.several)
_IN_MEMORY = 1 << 30  # bytes of vectors; val has 630 MB of all kinds


class Pairs(NamedTuple):
    """Falsified rows of a source: the position of the caption, that of the picture's own caption, and the score."""

    captions: Int64s
    pictures: Int64s
    scores: Float64s


@dataclass
class Official:
    """The official files of a split. Positions are those of the records in the file of the metadata.

    Attributes:
        split: its full name.
        ids: int64 (N,), of the records.
        captions: their texts.
        entities: (text, label) of each caption.
        entity_lists: the same as Arrow has them.
        linked: ids of the linked entities of each caption.
        columns: outlet and topic as numbers, int32 (N,).
        times: float64 (N,), in seconds; NaN if it is unknown.
        has_person: bool (N,), whether there is a person in the picture.
        pairs: source -> its falsified rows.
        used: source -> the falsified rows of the source's own config, which has all of its matches; the same as `pairs`
            if that is not there.
        whole: sources of which all matches are there.
        in_matches: bool (N,), captions of any config that is there.
        missing: how many rows of the matches have a record that the metadata do not have.
        absent: files that are not there, which some figures need.
        records: the table of the records, with their metadata.
        rows: all rows of the config: positions of captions and pictures, and whether they are falsified.
    """

    split: str
    ids: Int64s
    captions: list[str]
    entities: list[list[tuple[str, str]]]
    entity_lists: pa.Array
    linked: list[list[str]]
    columns: dict[str, Int32s]
    times: Float64s
    has_person: Bools
    pairs: dict[str, Pairs]
    used: dict[str, Pairs]
    whole: set[str]
    in_matches: Bools
    missing: int
    absent: list[str]
    records: pa.Table
    rows: tuple[Int64s, Int64s, Bools]
    files: Mapping[str, str] = field(default_factory=dict)
    _kept: dict[str, tuple[Float32s, Bools]] = field(default_factory=dict)

    def vectors(self, kind: str) -> tuple[Float32s, Bools] | None:
        """Return the vectors of a kind, float32 (N, width), zero where `known` (N,) is false; None without a file."""
        if kind not in self.files:
            return None
        if kind not in self._kept:
            while len(self._kept) > 1 and sum(each.nbytes for each, _ in self._kept.values()) > _IN_MEMORY:
                self._kept.pop(next(iter(self._kept)))
            ids, values = read_embeddings(self.files[kind])
            order = np.argsort(ids, kind="stable")
            rows = lookup(ids[order], self.ids)
            vectors = values[order[rows]]
            vectors[rows < 0] = 0
            self._kept[kind] = vectors, rows >= 0
        return self._kept[kind]


def read_official(config: str, split: str, data_dir: str | os.PathLike[str] | None) -> Official:
    """Read the matches and the metadata of a split, and find its vectors. Nothing is downloaded.

    Args:
        config: an official one.
        split: `"train"`, `"validation"` (or `"val"`) or `"test"`.
        data_dir: as in `NewsCLIPpingsConfig`.

    Raises:
        ConfigError: there is no such config or split.
        DataNotFoundError: the matches or the metadata are not there.
        BadFileError: a file is malformed.
    """
    if config not in CONFIGS:
        raise bad_value("config", config, CONFIGS)
    split = {short: name for name, short in SPLITS.items()}.get(split, split)
    if split not in SPLITS:
        raise bad_value("split", split, (*SPLITS, "val"))
    try:
        inputs = find_files(config, split, data_dir)
    except DataNotFoundError as error:  # there is no file of this config, nor of VisualNews
        if data_dir is None or not os.path.isdir(data_dir):
            raise
        raise _needs("matches", split) from error
    for what, place in (("matches", inputs.matches[split]), ("metadata", inputs.metadata[split])):
        if is_url(place):
            raise _needs(what, split)
    records = open_corpus(inputs).read_metadata_in_order(split)
    ids = int64s(records["id"])
    matches = read_matches(inputs.matches[split], config)
    captions, pictures, falsified, known = _locate(ids, matches)
    pairs = _split_sources(ids, matches)
    if not pairs:
        expected = "falsified rows whose records are in the metadata"
        raise bad_file(inputs.matches[split], expected, "none", "Fetch matches and metadata again.")
    used, whole, in_matches = dict(pairs), {config}, np.zeros(len(ids), bool)
    in_matches[captions[captions >= 0]] = True
    for other in CONFIGS:
        file = Path(inputs.matches[split])
        place = str(file.parent.parent / other / file.name)
        if other == config or not os.path.isfile(place):
            continue
        table = read_matches(place, other)
        rows = _locate(ids, table)[0]
        in_matches[rows[rows >= 0]] = True
        if other in pairs:
            used[other] = _split_sources(ids, table).get(other, pairs[other])
            whole.add(other)
    metadata = one_struct(records["metadata"])
    return Official(
        split=split,
        ids=ids,
        captions=records["caption"].to_pylist(),
        entities=[[(e["text"], e["label"]) for e in each] for each in metadata.field("entities").to_pylist()],
        entity_lists=metadata.field("entities"),
        linked=[[e["title"] for e in each] for each in metadata.field("linked_entities").to_pylist()],
        columns={name: _number(one_chunk(records[name]).to_pylist()) for name in ("source", "topic")},
        times=_to_seconds(metadata.field("timestamp")),
        has_person=values_of(metadata.field("image_has_person"), False).astype(bool),
        pairs=pairs,
        used=used,
        whole=whole,
        in_matches=in_matches,
        missing=int((~known).sum()),
        absent=[*_list_absent(inputs, split)],
        records=records,
        rows=(captions[known], pictures[known], falsified[known]),
        files={kind: files[split] for kind, files in inputs.embeddings.items() if not is_url(files[split])},
    )


def find_files(config: str, split: str, data_dir: str | os.PathLike[str] | None) -> Inputs:
    """Find the matches, the metadata and the vectors of a split."""
    return find_inputs(Request(config, splits=[split], data_dir=check_path("data_dir", data_dir), embeddings=[*KINDS]))


def open_corpus(inputs: Inputs) -> Corpus:
    """Return what reads the metadata."""
    return Corpus(inputs, {}, False, True, False, Path(cache_folder(), NAME))


def one_struct(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of structs as one array."""
    chunks = column.chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _needs(what: str, split: str) -> DataNotFoundError:
    flag = " --metadata" if what == "metadata" else ""
    message = f"An audit needs the {what} of {split}, which are not below {option('data_dir')}. Fetch them: "
    return DataNotFoundError(f"{message}newsclippings download DIR{flag}, and pass that folder.")


def _list_absent(inputs: Inputs, split: str) -> Iterable[str]:
    for kind, files in inputs.embeddings.items():
        if is_url(files[split]):
            yield f"vectors of {kind}"


def _locate(ids: Int64s, matches: pa.Table) -> tuple[Int64s, Int64s, Bools, Bools]:
    """Return positions of captions and pictures, whether rows are falsified, and whether both are known."""
    order = np.argsort(ids, kind="stable")
    places = np.append(order, -1)
    captions, pictures = (places[lookup(ids[order], int64s(matches[name]))] for name in ("id", "image_id"))
    return captions, pictures, values_of(matches["falsified"]), (captions >= 0) & (pictures >= 0)


def _split_sources(ids: Int64s, matches: pa.Table) -> dict[str, Pairs]:
    captions, pictures, falsified, known = _locate(ids, matches)
    sources, scores = values_of(matches["source_dataset"], -1), values_of(matches["similarity_score"])
    chosen = {name: falsified & known & (sources == number) for number, name in enumerate(SOURCE_DATASETS)}
    return {name: Pairs(captions[c], pictures[c], scores[c]) for name, c in chosen.items() if c.any()}


def _number(values: list[str]) -> Int32s:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) if value else -1 for value in values], np.int32)


def _to_seconds(column: pa.Array) -> Float64s:
    seconds: Float64s = values_of(column.cast(pa.int64())).astype(np.float64)
    return seconds
