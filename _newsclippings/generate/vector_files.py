"""Vectors by name for a recipe: the authors' kinds, and files or folders of the user."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import parse_vectors
from _newsclippings.errors import ConfigError
from _newsclippings.facts import EMBEDDINGS, SIDES, VERSION, Vectors
from _newsclippings.generate.search import normalise
from _newsclippings.generate.tiles import Float32s
from _newsclippings.inputs import Inputs
from _newsclippings.storage import lazy_property, local_copy
from _newsclippings.tables import Int64s, lookup, values_of
from _newsclippings.text import did_you_mean, option, short_repr
from _newsclippings.vectors import Embeddings, VectorFiles, find_vectors, load_embeddings

SIDE_OF: Final = {key: side for side, key in SIDES.items()}
_BYTES = 32 << 20  # of vectors that are read at a time


@dataclass
class NamedVectors:
    """Vectors by the ids of captions or pictures; the id of a picture is that of its own caption.

    Attributes:
        name: as methods name them.
        facts: what they are.
        parts: the vectors, in one file or one for each split.
    """

    name: str
    facts: Vectors
    parts: list[Embeddings] = field(repr=False)

    @property
    def of(self) -> str:
        """`"pictures"` or `"captions"`."""
        return SIDE_OF[self.facts.key]

    @lazy_property
    def ids(self) -> Int64s:
        """The ids that have exactly one vector, int64 (N,), sorted."""
        ids = np.unique(np.concatenate([np.empty(0, np.int64), *(part.ids for part in self.parts)]))
        if not self.facts.several:
            return ids
        alone = [np.empty(0, np.int64)]  # of several faces it is unknown which one the caption is about
        for part in self.parts:
            for some in self._blocks(part.ids):
                counts = values_of(pc.list_value_length(part.take(some)), 0)
                alone.append(some[counts == 1])
        return np.unique(np.concatenate(alone))

    def take(self, ids: Int64s) -> Float32s:
        """Return the vectors of ids that have one, scaled to length 1: float32 (N, width).

        Raises:
            ConfigError: a vector is zero.
        """
        return np.concatenate([np.empty((0, self.facts.width), np.float32), *self.take_blocks(ids)])

    def take_blocks(self, ids: Int64s) -> Iterator[Float32s]:
        """Yield what `take` returns, in blocks that are small in memory."""
        for some in self._blocks(ids):
            vectors = self.read(some)
            if len(zero := some[~vectors.any(axis=1)]):
                message = f"{self.name}: the vector of id {zero[0]} is zero, so it has no direction. Leave it out."
                raise ConfigError(message)
            yield normalise(vectors, vectors)

    def read(self, ids: Int64s) -> Float32s:
        """Return the vectors of ids that have one, as they are stored: float32 (N, width)."""
        vectors = np.empty((len(ids), self.facts.width), np.float32)
        start = 0
        for some in self._blocks(ids):
            block, left = vectors[start : start + len(some)], np.ones(len(some), bool)
            for part in self.parts:
                here = left & (lookup(part.ids, some) >= 0)
                if here.any():
                    block[here] = self._read(part, some[here])
                    left &= ~here
            start += len(some)
        return vectors

    def digest(self) -> str:
        """Return the SHA-256 of the ids and their vectors, in whatever files they are."""
        digest = hashlib.sha256(f"{self.of} {self.facts.width}".encode())
        digest.update(self.ids.astype("<i8").tobytes())
        for vectors in self.take_blocks(self.ids):
            digest.update(vectors.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _blocks(self, ids: Int64s) -> Iterable[Int64s]:
        step = max(1, _BYTES // (4 * self.facts.width))
        return (ids[start : start + step] for start in range(0, len(ids), step))

    def _read(self, part: Embeddings, ids: Int64s) -> npt.NDArray[Any]:
        values: pa.Array = part.take(ids)
        while not pa.types.is_floating(values.type):
            values = values.flatten()
        return values_of(values).reshape(len(ids), self.facts.width).astype(np.float32)


def parse_named(vectors: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and places of vectors: name -> True for the authors', else where they are.

    Raises:
        ConfigError: a name or a place cannot be used.
    """
    for name, value in vectors.items():
        if value is True and name not in EMBEDDINGS:
            hint = did_you_mean(str(name), EMBEDDINGS)
            message = f"vectors: {short_repr(name)} is True, but is not a kind of the authors.{hint}"
            raise ConfigError(f"{message} Kinds: {', '.join(EMBEDDINGS)}. Of others, pass the location.")
        if value is not True:
            parse_vectors(name, value)
    return dict(vectors)


def open_vectors(
    names: Iterable[str], given: Mapping[str, Any], inputs: Inputs, cache: Path, needed_by: Mapping[str, str]
) -> dict[str, NamedVectors]:
    """Open the vectors that a recipe names.

    Args:
        names: the names.
        given: name -> True for those of the authors, or where they are, as in `embeddings=`. The authors' kinds need
            not be given.
        inputs: the inputs, with the authors' kinds among the names; none if the corpus is not VisualNews.
        cache: folder for converted files.
        needed_by: name -> the method that needs it, for errors.

    Raises:
        NewsCLIPpingsError: vectors are not there or damaged.
    """
    opened = {}
    for name in names:
        if given.get(name, True) is not True:
            files = find_vectors(name, parse_vectors(name, given[name]), access=inputs.access)
            opened[name] = NamedVectors(name, files.facts, [_load(files, inputs, cache)])
        elif name in inputs.embeddings:
            facts = EMBEDDINGS[name]
            parts = []
            for place in inputs.embeddings[name].values():
                path = local_copy(place, cache / "downloads", access=inputs.access)
                key = f"{inputs.identity(path)}-{VERSION}"
                check = functools.partial(inputs.check_unchanged, [path])
                parts.append(load_embeddings(path, key, facts.width, facts.several, cache / "embeddings", check))
            opened[name] = NamedVectors(name, facts, parts)
        else:
            hint = did_you_mean(name, [each for each in (*given, *inputs.embeddings) if each != name])
            message = f"method {needed_by[name]} needs vectors {name!r}, which are not given.{hint}"
            do = f"Make them with `newsclippings embed`, and pass them as {option('vectors', f'{name}=FOLDER')}."
            raise ConfigError(f"{message} {do}")
    return opened


def _load(files: VectorFiles, inputs: Inputs, cache: Path) -> Embeddings:
    check = functools.partial(inputs.check_unchanged, files.files)
    return files.load(inputs.identity, cache, check, inputs.access)
