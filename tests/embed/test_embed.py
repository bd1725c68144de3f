"""`embed` makes the vector of each distinct picture or caption once, wherever the data are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.constants import change_constant
from support.encoding import WIDTH, count_of, encoder, faces, read_folder, vectors_of, wanted
from support.remote import Origin, Published
from support.world import World

from newsclippings import (
    BadTarError,
    ConfigError,
    DataNotFoundError,
    MissingDataError,
    embed,
    read_embeddings,
    verify_vectors,
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def same(found: dict[int, Any], expected: dict[int, Any]) -> bool:
    return list(found) == list(expected) and all(np.array_equal(found[n], expected[n]) for n in expected)


@pytest.mark.parametrize("of", ["pictures", "captions"])
def test_vectors_equal_those_of_a_plain_loop(world: World, tmp_path: Path, of: str) -> None:
    """Each distinct id has one row, in ascending order over all parts, with the vector of a loop one at a time."""
    report = embed(tmp_path / "out", encoder(of), data_dir=world.root, part_size=7)
    assert same(read_folder(tmp_path / "out"), vectors_of(world, of))
    assert report.as_dict() == {
        **{"folder": str(tmp_path / "out"), "of": of, "model": "plain", "width": WIDTH, "unread": {}},
        **{"ids": len(wanted(world, of)), "parts": -(-len(wanted(world, of)) // 7), "absent": 0, "complete": True},
        "made": report.parts,
    }


def test_the_files_are_what_the_plan_says(world: World, tmp_path: Path) -> None:
    """plan.json, the schema and the metadata of parts, and SHA256SUMS, which sha256sum accepts."""
    out = tmp_path / "out"
    embed(out, encoder(facts={"model": "m", "versions": {"torch": "2"}}), data_dir=world.root, part_size=16)
    plan = json.loads((out / "plan.json").read_bytes())
    ids = sorted(wanted(world))
    assert plan.pop("encoder").items() >= {"model": "m", "versions": {"torch": "2"}}.items()
    assert plan == {
        **{"format": 1, "of": "pictures", "width": WIDTH, "dtype": "float32", "several": False, "normalised": False},
        **{
            "count": len(ids),
            "part_size": 16,
            "ids_sha256": hashlib.sha256(np.array(ids, "<i8").tobytes()).hexdigest(),
        },
    }
    names = [f"part-{number:05d}.parquet" for number in range(-(-len(ids) // 16))]
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "SHA256SUMS", *names, "plan.json"]
    for k, name in enumerate(names):
        file = pq.ParquetFile(out / name)
        assert file.schema_arrow.field("id").type == pa.int64()
        assert file.schema_arrow.field("vector").type == pa.list_(pa.float32(), WIDTH)
        assert file.read()["id"].to_pylist() == ids[16 * k : 16 * k + 16]
        assert json.loads(file.schema_arrow.metadata[b"unread"]) == {}
        assert file.schema_arrow.metadata[b"plan"].decode() == sha256((out / "plan.json").read_bytes())
        assert file.metadata.row_group(0).column(1).compression == "UNCOMPRESSED"
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out).returncode == 0
    assert 'embeddings={"mine": ' in (out / "README.md").read_text()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_any_number_of_vectors(world: World, tmp_path: Path, dtype: str) -> None:
    """With `several`, an item has a list of vectors, which may be empty."""
    embed(tmp_path / "out", faces(), data_dir=world.root, part_size=9, dtype=dtype)
    expected = vectors_of(world)
    found = read_folder(tmp_path / "out")
    assert list(found) == list(expected)
    for number, vector in expected.items():
        assert len(found[number]) == count_of(vector)
        assert all(np.array_equal(each, vector.astype(dtype)) for each in found[number])
    kind = pa.float16() if dtype == "float16" else pa.float32()
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert schema.field("vector").type == pa.list_(pa.list_(kind, WIDTH))


def test_folder_tar_and_server_give_the_same_bytes(
    world: World, published: Published, origin: Origin, tmp_path: Path
) -> None:
    """The files do not depend on where the pictures are."""
    sums = set()
    for name, place in {"folder": world.origin, "tar": world.tar, "server": published.url}.items():
        embed(tmp_path / name, encoder(), data_dir=world.root, visual_news=str(place), part_size=7)
        sums.add((tmp_path / name / "SHA256SUMS").read_bytes())
    assert len(sums) == 1


def test_ids_are_chosen(world: World, tmp_path: Path) -> None:
    """Of another config, all records, a file, a .npy file, a list; each id once."""
    some = sorted(wanted(world))[3:9]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, [*some, some[0]])) + "\n\n")
    np.save(tmp_path / "ids.npy", np.array(some[::-1]))
    chosen: dict[str, tuple[Any, list[int]]] = {
        "config": ("config:scene_resnet_place", sorted(wanted(world, "captions", "scene_resnet_place"))),
        "all": ("all", sorted(world.records)),
        "lines": (tmp_path / "ids.txt", some),
        "npy": (str(tmp_path / "ids.npy"), some),
        "list": (some, some),
        "array": (np.array(some), some),
    }
    for name, (ids, expected) in chosen.items():
        embed(tmp_path / name, encoder("captions"), data_dir=world.root, ids=ids)
        assert list(read_folder(tmp_path / name)) == expected, name


@pytest.mark.parametrize("ids", ["all", "config:merged_balanced", "list"])
def test_captions_may_come_from_the_metadata(new_world: Callable[..., World], tmp_path: Path, ids: str) -> None:
    """Without data.json the captions are those of the metadata."""
    world = new_world(folder=False, tar=False)
    chosen = sorted(wanted(world, "captions"))
    embed(tmp_path / "out", encoder("captions"), data_dir=world.root, ids=chosen if ids == "list" else ids)
    expected = chosen if ids != "all" else sorted(number for pool in world.pools.values() for number in pool)
    assert list(read_folder(tmp_path / "out")) == expected


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        ("nowhere.txt", DataNotFoundError, "no such file.*config:merged_balanced.*all"),
        ("", DataNotFoundError, "no such file"),
        (Path.cwd(), DataNotFoundError, "no such file"),
        ("config:merged_balancd", ConfigError, "Did you mean 'merged_balanced'"),
        ([], ConfigError, "has no ids"),
        ([1.5], ConfigError, "expected 'all', 'config:NAME', a file, or a list"),
        (7, ConfigError, "expected 'all'"),
    ],
    ids=str,
)
def test_wrong_ids_are_refused(world: World, tmp_path: Path, ids: Any, error: type[Exception], says: str) -> None:
    """The error says what ids may be; nothing is written."""
    with pytest.raises(error, match=says):
        embed(tmp_path / "out", encoder(), data_dir=world.root, ids=ids)
    assert not (tmp_path / "out").exists()


def test_a_wrong_line_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("12\nx7\n")
    with pytest.raises(ValueError, match=r"ids\.txt: line 2: expected an id, found 'x7'"):
        embed(tmp_path / "out", encoder(), data_dir=world.root, ids=tmp_path / "ids.txt")


def damage(world: World) -> dict[str, list[int]]:
    """Remove a picture, cut one, put text and nothing in the place of two; return the ids by reason."""
    paths = wanted(world)
    missing, broken, text, empty, *_ = ids = list(paths)[2:30:7]
    (world.origin / paths[missing]).unlink()
    (world.origin / paths[broken]).write_bytes((world.origin / paths[broken]).read_bytes()[:40])
    (world.origin / paths[text]).write_bytes(b"<html>")
    (world.origin / paths[empty]).write_bytes(b"")
    assert len(ids) == 4
    return {"does not decode": [broken, text], "missing or empty": [missing, empty]}


def test_unreadable_pictures_have_no_row(new_world: Callable[..., World], tmp_path: Path) -> None:
    """They are counted by reason, in the report and in the metadata of their part; the others have their vectors."""
    world = new_world(tar=False)
    expected = vectors_of(world)
    unread = damage(world)
    out = tmp_path / "out"
    report = embed(out, encoder(), data_dir=world.root, part_size=6, missing="null")
    assert report.unread == {"does not decode": 2, "missing or empty": 2}
    assert "2 without a vector: does not decode" in str(report)
    gone = {number for ids in unread.values() for number in ids}
    assert same(read_folder(out), {n: vector for n, vector in expected.items() if n not in gone})
    found: dict[str, list[int]] = {}
    for part in sorted(out.glob("part-*")):
        for reason, ids in json.loads(pq.read_schema(part).metadata[b"unread"]).items():
            found.setdefault(reason, []).extend(ids)
    assert {reason: sorted(ids) for reason, ids in found.items()} == unread
    assert "2: does not decode; 2: missing or empty" in (out / "README.md").read_text()


def test_a_part_without_any_vector_is_joined(new_world: Callable[..., World], tmp_path: Path) -> None:
    """If none of a part's pictures can be read, the others are read from the folder all the same."""
    world = new_world(tar=False)
    paths = wanted(world)
    ids = list(paths)
    for number in ids[6:12]:
        (world.origin / paths[number]).write_bytes(b"<html>")
    embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=6, missing="null")
    assert read_embeddings(tmp_path / "out")[0].tolist() == ids[:6] + ids[12:]
    assert verify_vectors(tmp_path / "out", encoder(), data_dir=world.root).sound


def test_too_many_parts_are_refused(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written, with the part_size that would do."""
    change_constant(monkeypatch, "MOST_PARTS", 10, of="plan")
    with pytest.raises(ConfigError, match=r"part_size='3' makes more than 10 parts. Choose 4 or more"):
        embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=3)
    assert not (tmp_path / "out").exists()
    embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=4)


def test_of_a_damaged_tar_the_whole_part_is_used(world: World, tmp_path: Path) -> None:
    """Only with missing="null": a tar that ends early, and a picture that a broken download filled with zeros."""
    tar, expected = tmp_path / "half.tar", vectors_of(world)
    data = world.tar.read_bytes()
    tar.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadTarError, match=r"half\.tar: .*missing='null'"):
        embed(tmp_path / "out", encoder(), data_dir=world.root, visual_news=tar)
    report = embed(tmp_path / "out", encoder(), data_dir=world.root, visual_news=tar, missing="null")
    found = read_folder(tmp_path / "out")
    assert 0 < len(found) < len(expected)
    assert report.unread == {"missing or empty": len(expected) - len(found)}
    assert all(np.array_equal(found[number], expected[number]) for number in found)
    zeros, number = tmp_path / "zeros.tar", list(expected)[4]
    picture = world.pictures[wanted(world)[number]]
    start = data.index(picture)
    zeros.write_bytes(data[: start + 40] + bytes(len(picture) - 40) + data[start + len(picture) :])
    report = embed(tmp_path / "zeros", encoder(), data_dir=world.root, visual_news=zeros, missing="null")
    assert report.unread == {"ends in zeros": 1}
    assert list(read_folder(tmp_path / "zeros")) == [each for each in expected if each != number]


def test_too_many_unreadable_pictures_are_an_error(new_world: Callable[..., World], tmp_path: Path) -> None:
    """More than 1 %: how many, why, and the first ids; with the pictures back, the same call ends as if never ill."""
    world = new_world(tar=False)
    out = tmp_path / "out"
    unread = damage(world)
    with pytest.raises(
        MissingDataError, match=r"of 38 pictures cannot be read, more than 1%: .*missing='null'"
    ) as error:
        embed(out, encoder(), data_dir=world.root, part_size=6)
    assert str(min(number for ids in unread.values() for number in ids)) in str(error.value)
    assert not (out / "SHA256SUMS").exists()
    embed(out, encoder(), data_dir=world.root, part_size=6, missing="null")
    assert (out / "SHA256SUMS").exists()
    world.write_folder()
    assert embed(out, encoder(), data_dir=world.root, part_size=6).unread == {}
    embed(tmp_path / "fresh", encoder(), data_dir=world.root, part_size=6)
    assert (out / "SHA256SUMS").read_bytes() == (tmp_path / "fresh" / "SHA256SUMS").read_bytes()


def test_ids_without_a_record_are_unread(world: World, tmp_path: Path) -> None:
    """Too many are an error before anything is written."""
    ids = [5, *wanted(world)]
    with pytest.raises(MissingDataError, match=r"1 no record\. The first ids: 5\."):
        embed(tmp_path / "out", encoder("captions"), data_dir=world.root, ids=ids)
    assert not (tmp_path / "out").exists()
    report = embed(tmp_path / "out", encoder("captions"), data_dir=world.root, ids=ids, missing="null")
    assert report.unread == {"no record": 1}
    assert list(read_folder(tmp_path / "out")) == sorted(wanted(world))


def spoiled(value: float) -> Callable[[list[Any]], Any]:
    def encode(batch: list[Any]) -> Any:
        vectors = np.stack(batch)
        vectors[0] = value
        return vectors

    return encode


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"encode": spoiled(np.nan)}, {}, r"The vector of id \d+ \(pictures\) is not finite"),
        ({"encode": spoiled(np.inf)}, {}, "not finite"),
        ({"encode": spoiled(0)}, {}, "is zero"),
        ({"encode": spoiled(1e9)}, {"dtype": "float16"}, "not finite as float16. Store float32"),
        ({"encode": lambda batch: np.stack(batch)[:, 1:]}, {}, r"shape \(5, 12\), found \(5, 11\)"),
        ({"encode": lambda batch: np.stack(batch)[1:]}, {}, r"shape \(5, 12\), found \(4, 12\)"),
        ({"encode": np.stack, "several": True}, {}, r"5 arrays of shape \(any, 12\), found one of shape \(12,\)"),
        ({"encode": lambda _: [], "several": True}, {}, "found 0 arrays"),
        ({"encode": lambda _: None}, {}, "expected numbers, found NoneType"),
        ({"encode": lambda _: "vectors"}, {}, "expected numbers, found str"),
        ({"encode": lambda batch: np.stack(batch).astype("c8")}, {}, "found ndarray of type complex64"),
        ({"encode": lambda batch: np.stack(batch).astype("f8") * 1e300}, {}, "not finite"),
        ({"encode": lambda batch: [[0.0] * k for k in range(len(batch))]}, {}, r"list \(setting an array element"),
    ],
)
def test_what_is_no_vector_is_refused(
    world: World, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    """The error names the id, or the shapes; the part is not written."""
    with pytest.raises(ConfigError, match=says):
        embed(tmp_path / "out", encoder(**changes), data_dir=world.root, **options)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["plan.json"]


def test_an_error_of_the_encoder_names_the_ids(world: World, tmp_path: Path) -> None:
    """What a user's own code raises comes out as it is, with a note."""

    def broken(_: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError) as error:
        embed(tmp_path / "a", encoder(prepare=broken), data_dir=world.root)
    assert "failed to prepare pictures: id" in error.value.__notes__[0]
    with pytest.raises(KeyError) as error:
        embed(tmp_path / "b", encoder(encode=broken), data_dir=world.root)
    assert "failed at a batch of 5 pictures: ids [" in error.value.__notes__[0]


def test_pictures_are_decoded_no_larger_than_needed(new_world: Callable[..., World], tmp_path: Path) -> None:
    """`side` is the shorter side that is needed; None means the whole picture."""
    world = new_world(tar=False)
    from PIL import Image

    path = next(iter(wanted(world).values()))
    Image.linear_gradient("L").resize((640, 480)).save(world.origin / path, "JPEG")
    sizes: dict[int | None, set[tuple[int, int]]] = {}
    for side in (None, 32):
        seen = sizes.setdefault(side, set())

        def prepare(picture: Image.Image, seen: set[tuple[int, int]] = seen) -> Any:
            seen.add(picture.size)
            return np.ones(WIDTH, np.float32)

        embed(tmp_path / f"{side}", encoder(prepare=prepare, side=side), data_dir=world.root)
    assert (640, 480) in sizes[None]
    assert (80, 60) in sizes[32]


def test_wrong_arguments_are_refused(world: World, tmp_path: Path) -> None:
    """Each error names the argument; nothing is written."""
    call: Callable[..., Any] = embed
    cases: list[tuple[dict[str, Any], str]] = [
        ({"of": "captions"}, "the encoder is for pictures"),
        ({"model": "py:x:y", "of": "picture"}, "Did you mean 'pictures'"),
        ({"dtype": "float8"}, "Allowed: 'float32', 'float16'"),
        ({"missing": "drop_pair"}, "Allowed: 'error', 'null'"),
        ({"engine": "spark"}, "Allowed: 'ray'"),
        ({"part_size": 0}, "part_size=0 is not known"),
        ({"model": encoder(batch=0)}, "an Encoder with a wrong batch: 0"),
        ({"augment": "nowhere:f"}, "The module nowhere of nowhere:f cannot be imported"),
        ({"rank": 1}, "belong together"),
        ({"rank": 2, "world": 2}, "below the number of processes"),
        ({"engine": "ray", "rank": 0, "world": 2}, "divides the work itself"),
        ({"out": "s3://bucket/x"}, "expected a local folder"),
        ({"out": world.origin / "vectors"}, "is inside a folder of inputs"),
        ({"out": world.root}, "contains the inputs"),
    ]
    for changes, says in cases:
        given = {"out": tmp_path / "out", "model": encoder(), "data_dir": world.root, **changes}
        with pytest.raises(ConfigError, match=says):
            call(**given)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(world: World, tmp_path: Path) -> None:
    """A file that embed did not write, even one of a name that it writes, stops it."""
    for name in ("notes.txt", "README.md"):
        out = tmp_path / name.partition(".")[0]
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"{name} exists and was not written by `newsclippings embed`"):
            embed(out, encoder(), data_dir=world.root)
        assert [file.name for file in out.iterdir()] == [name]


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"facts": {"model": "other"}}, {}, 'model "plain" there, "other" now'),
        ({}, {"dtype": "float16"}, 'dtype "float32" there, "float16" now'),
        ({}, {"part_size": 8}, "part_size 7 there, 8 now"),
        ({}, {"ids": "config:scene_resnet_place"}, "count 38 there"),
        ({"normalised": True}, {}, "normalised false there, true now"),
    ],
)
def test_other_vectors_in_the_same_folder_are_refused(
    world: World, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    """Another model, corpus or option: both are named, and nothing changes."""
    embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=7)
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(ConfigError, match=says):
        embed(tmp_path / "out", encoder(**changes), data_dir=world.root, **{"part_size": 7, **options})
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_another_corpus_is_refused(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The same ids with other captions are other vectors."""
    world = new_world(tar=False)
    embed(tmp_path / "out", encoder("captions"), data_dir=world.root)
    number = next(iter(wanted(world, "captions")))
    world.records[number] = dataclasses.replace(world.records[number], caption="Another one.")
    world.write_data_json()
    with pytest.raises(ConfigError, match=r"texts_sha256 .* there, .* now"):
        embed(tmp_path / "out", encoder("captions"), data_dir=world.root)
