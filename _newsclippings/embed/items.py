"""What is encoded: the distinct pictures or captions of a config, of the whole corpus, or of a list of ids."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import check_name
from _newsclippings.corpus import Corpus
from _newsclippings.errors import ConfigError, DataNotFoundError, bad_file
from _newsclippings.facts import DEFAULT_CONFIG, SIDES
from _newsclippings.inputs import Inputs
from _newsclippings.matches import read_matches
from _newsclippings.storage import read_file
from _newsclippings.tables import Int32s, Int64s, as_array, int64s, lookup, one_chunk, unique_ids, values_of
from _newsclippings.text import option, printable, short_repr

ALL = "all"
CONFIG = "config:"
DEFAULT_IDS = f"{CONFIG}{DEFAULT_CONFIG}"
TEXTS = "texts_sha256"  # in the plan, beside the facts of the model
_TEXTS = {"pictures": "image_path", "captions": "caption"}
_MOST_BYTES = 1 << 30  # of a list of ids
_BLOCK = 1 << 16  # texts that are hashed at a time
_NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Items:
    """The pictures or captions to encode, each once.

    Attributes:
        of: `"pictures"` or `"captions"`.
        ids: int64 (N,), in ascending order: image_id of pictures, id of captions.
        rows: int32 (N,), where each id is in `texts`; -1 for an id that the corpus does not have.
        texts: string (M,), the paths of pictures in the normal form, or captions.
    """

    of: str
    ids: Int64s
    rows: Int32s
    texts: pa.Array

    def order(self, start: int, stop: int) -> Int64s:
        """Return the order in which the items of a range are read and encoded: their positions, those known only.

        Pictures are ordered by path, so that those of a folder, which are neighbours in a tar, are read together;
        captions by length, so that a batch has captions of one length. The order does not depend on where pictures are.
        """
        places = np.flatnonzero(self.rows[start:stop] >= 0) + start
        texts = self.texts.take(as_array(self.rows[places]))
        if self.of == "captions":
            lengths = values_of(pc.utf8_length(texts))
            return places[np.argsort(lengths, kind="stable")]
        return places[np.array(sorted(range(len(texts)), key=texts.to_pylist().__getitem__), np.int64)]

    def hash_ids(self) -> str:
        """Return the SHA-256 of the ids, as in the plan."""
        return hash_ids(self.ids)

    def hash_texts(self) -> str:
        """Return a SHA-256 of the paths or captions, by which another corpus with the same ids is noticed."""
        digest = hashlib.sha256((self.rows >= 0).tobytes())
        for start in range(0, len(self.texts), _BLOCK):
            digest.update(json.dumps(self.texts.slice(start, _BLOCK).to_pylist()).encode())
        return digest.hexdigest()


def hash_ids(ids: Int64s) -> str:
    """Return the SHA-256 of ids, as in the plan."""
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


def find_config(ids: object, data_dir: object = None) -> str:
    """Return the config whose matches are read for `ids`; the default one for those that need no matches.

    A generated config is looked for in data_dir.
    """
    if not isinstance(ids, str) or not ids.startswith(CONFIG):
        return DEFAULT_CONFIG
    name = ids.removeprefix(CONFIG)
    check_name(name, data_dir)
    return name


def find_items(of: str, ids: str | os.PathLike[str] | Iterable[int], inputs: Inputs, corpus: Corpus) -> Items:
    """Find the items to encode, and read their records.

    Args:
        of: `"pictures"` or `"captions"`.
        ids: see `embed`.
        inputs: the inputs of the config that `find_config` names.
        corpus: the records.

    Raises:
        NewsCLIPpingsError: an input, or the list of ids, is not there or malformed.
    """
    if isinstance(ids, str) and ids == ALL:
        records = corpus.read_all()
        return Items(of, *_pick(records, int64s(records["id"]), of))
    if isinstance(ids, str) and ids.startswith(CONFIG):
        matches = {
            split: read_matches(file, inputs.config, inputs.access, inputs.source_datasets)
            for split, file in inputs.matches.items()
        }
        wanted = {split: unique_ids(int64s(table[SIDES[of]])) for split, table in matches.items()}
    else:
        given = np.unique(_read_ids(ids))
        splits = [*inputs.metadata][:1] if corpus.data_json is not None else [*inputs.metadata]
        wanted = dict.fromkeys(splits, given)
    tables = [table.select(["id", _TEXTS[of]]) for _, table in corpus.read_records(wanted)]
    every = unique_ids(*wanted.values())
    if not len(every):
        message = f"{option('ids', short_repr(ids))} has no ids. Name a file with one id per line, or leave it out."
        raise ConfigError(message)
    return Items(of, *_pick(pa.concat_tables([table.replace_schema_metadata() for table in tables]), every, of))


def _pick(records: pa.Table, ids: Int64s, of: str) -> tuple[Int64s, Int32s, pa.Array]:
    """Return ids, the row of each in the records, and the texts of the records; records may be there several times."""
    known, first = np.unique(int64s(records["id"]), return_index=True)
    return ids, lookup(known, ids), one_chunk(records[_TEXTS[of]]).take(as_array(first))


def _read_ids(ids: str | os.PathLike[str] | Iterable[int]) -> Int64s:
    """Read ids from a file, one per line or .npy; or convert a sequence or an array of them."""
    if isinstance(ids, str | os.PathLike):
        path = Path(os.path.expanduser(ids))
        if not path.is_file():
            ways = f"{option('ids', DEFAULT_IDS)}, {option('ids', ALL)}"
            message = f"{option('ids', printable(str(ids)))}: there is no such file. Correct the path, or pass {ways}."
            raise DataNotFoundError(message)
        data = read_file(path, _MOST_BYTES)
        return _load_npy(path) if data.startswith(_NPY) else _parse_lines(data, path)
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    try:
        values = [int(value) for value in ids if not isinstance(value, bool | str | float)]
        if isinstance(ids, list | tuple) and len(values) == len(ids):
            return np.array(values, np.int64)
    except (TypeError, ValueError, OverflowError):
        pass
    message = f"ids={short_repr(ids)}: expected 'all', 'config:NAME', a file, or a list or an array of ids."
    raise ConfigError(message)


def _load_npy(path: Path) -> Int64s:
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise bad_file(path, "an array of numpy", str(error)[:100]) from error
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise bad_file(path, "int64 (N,)", f"{array.dtype} {array.shape}")
    return array.astype(np.int64)


def _parse_lines(data: bytes, path: Path) -> Int64s:
    lines = data.decode("utf-8-sig", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(r"\s*(-?[0-9]{1,18})?\s*", line):
            raise bad_file(f"{path}: line {number}", "an id", repr(line)[:60], "Write one id per line.")
    return np.array([int(line) for line in lines if line.strip()], np.int64)
