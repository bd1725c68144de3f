"""Entities are read from folders of `newsclippings entities` and the authors' metadata, or refused with a reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.generating import make_corpus, write_parts
from support.world import World

from _newsclippings.generate import read_entities
from newsclippings import BadFileError, DataNotFoundError, NewsCLIPpingsError

KIND = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
VALUES = [[{"text": "US", "label": "GPE"}], [], [{"text": "安倍", "label": "PERSON"}, {"text": "US", "label": "GPE"}]]


def write(folder: Path, ids: list[int], linked: list[list[str | None]] | None = None) -> str:
    columns = {"entities": pa.array(VALUES[: len(ids)], KIND)}
    columns |= {"linked": pa.array(linked, pa.list_(pa.string()))} if linked is not None else {}
    return str(write_parts(folder, np.array(ids, np.int64), columns, {}))


def test_a_folder(tmp_path: Path) -> None:
    """Ids and entities come out as they are in the parts."""
    table = read_entities(write(tmp_path / "e", [3, 5, 9]))
    assert table.ids.tolist() == [3, 5, 9]
    assert table.entities.to_pylist() == VALUES
    corpus = make_corpus(tmp_path / "corpus")
    table = read_entities(str(corpus.write_entities(tmp_path / "several")))
    assert table.ids.tolist() == corpus.ids
    assert [[(e["text"], e["label"]) for e in each] for each in table.entities.to_pylist()] == corpus.entities


def test_linked_entities(tmp_path: Path) -> None:
    """What an entity is linked to is an entity with its label, beside its text, so that both are compared."""
    table = read_entities(write(tmp_path / "e", [3, 5, 9], [["Q30"], [], ["", "Q30"]]))
    assert table.entities.to_pylist() == [
        [*VALUES[0], {"text": "Q30", "label": "GPE"}],
        [],
        [*VALUES[2], {"text": "Q30", "label": "GPE"}],
    ]
    table = read_entities(write(tmp_path / "none", [3, 5, 9], [[None], [], [None, None]]))
    assert table.entities.to_pylist() == VALUES
    with pytest.raises(BadFileError, match="one value in linked for each of the entities"):
        read_entities(write(tmp_path / "other", [3, 5, 9], [["United States"], ["x"], [None]]))


def test_the_authors_metadata(world: World) -> None:
    """A file, the folder metadata, or the folder that has it."""
    place = world.metadata("train")
    one = read_entities(str(place))
    assert one.ids.tolist() == sorted(world.pools["train"])
    assert one.entities[0].as_py() == [{"text": "Celtic", "label": "NORP"}, {"text": "}, {", "label": "PERSON"}]
    for folder in (place.parent, place.parent.parent, world.root):
        every = read_entities(str(folder))
        assert every.ids.tolist() == sorted(number for pool in world.pools.values() for number in pool)


def test_what_is_wrong(tmp_path: Path) -> None:
    """Nothing there, a part that is missing or damaged, an id twice, other columns."""
    with pytest.raises(DataNotFoundError, match="has no entities"):
        read_entities(str(tmp_path))
    with pytest.raises(NewsCLIPpingsError):
        read_entities(str(tmp_path / "absent"))
    folder = Path(write(tmp_path / "e", [3, 5, 5]))
    with pytest.raises(BadFileError, match="id 5: expected each id once"):
        read_entities(str(folder))
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'').hexdigest()}  part-00000.parquet\n")
    with pytest.raises(BadFileError, match="expected the content that SHA256SUMS names"):
        read_entities(str(folder))
    (folder / "part-00000.parquet").write_bytes(b"no")
    with pytest.raises(BadFileError, match="part-00000"):
        read_entities(str(folder))
    (folder / "part-00000.parquet").unlink()
    with pytest.raises(DataNotFoundError, match="has 0 of its 1 parts; the first that is missing is part-00000"):
        read_entities(str(folder))
    for plan in ("{", "[]", json.dumps({"count": 10**9, "part_size": 1}), json.dumps({"count": "1", "part_size": 1})):
        (folder / "plan.json").write_text(plan)
        with pytest.raises(BadFileError, match="the plan of entities"):
            read_entities(str(folder))
    vectors = write_parts(tmp_path / "v", np.array([1]), {"vector": pa.array([[1.0]])}, {})
    with pytest.raises(BadFileError, match="the entities of captions"):
        read_entities(str(vectors))
