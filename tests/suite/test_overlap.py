"""`newsclippings overlap`: rows of a stranger's table that are in the training split, in any dialect."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.command import run
from support.other_sets import write_other_set
from support.world import World, make_world

import newsclippings
from _newsclippings.suite.compare import find_near
from _newsclippings.suite.overlap import path_key
from newsclippings import BadFileError, ConfigError, UnsafePathError

Rows = list[dict[str, Any]]


def overlap(file: Path, world: World, *args: object) -> dict[str, Any]:
    result = run("overlap", file, "--data-dir", world.root, "--format", "json", *args)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def write_csv(file: Path, rows: Rows) -> Path:
    with open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return file


def spell(row: dict[str, Any]) -> Rows:
    """Rows that have something of a row of the training split, each in another way, and one that has nothing."""
    outlet, _, folder, name = row["image_path"].split("/")
    return [
        {"id": row["id"], "caption": "x", "image_path": "x.jpg"},
        {"id": row["image_id"], "caption": "x", "image_path": "x.jpg"},
        {"id": "", "caption": row["caption"].upper() + "!", "image_path": ""},
        {"id": "", "caption": "x", "image_path": f"visual_news/origin/{row['image_path']}"},
        {"id": "", "caption": "x", "image_path": f"DGM4/origin/{outlet}/{folder}/{name}"},
        {"id": "", "caption": "x", "image_path": f"/real/{outlet}_val_50/{outlet.upper()}_val_{folder}_{name}"},
        {"id": "1", "caption": "Nothing of it", "image_path": f"images/{folder}/{name}"},
    ]


KINDS: dict[str, Callable[[Path, Rows], Any]] = {
    "rows.csv": write_csv,
    "rows.tsv": lambda file, rows: file.write_text(
        "\n".join("\t".join(map(str, line)) for line in [[*rows[0]], *([*row.values()] for row in rows)])
    ),
    "rows.json": lambda file, rows: file.write_text(json.dumps(rows)),
    "rows.jsonl": lambda file, rows: file.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "rows.parquet": lambda file, rows: pq.write_table(
        pa.Table.from_pylist([{**row, "id": int(row["id"] or 0)} for row in rows]), file
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_found_in_every_way(world: World, tmp_path: Path, name: str) -> None:
    """By id of the caption or the picture, path in all dialects, and caption; in every kind of file."""
    row = next(r for r in world.rows(split="train") if r["falsified"] and not r["image_path"].startswith("washington"))
    KINDS[name](tmp_path / name, spell(row))
    found = overlap(tmp_path / name, world)
    assert found["by"] == {"id": 2, "path": 3, "caption": 1}
    assert found["row_numbers"] == [0, 1, 2, 3, 4, 5]
    assert (found["overlapping"], found["rows"]) == (6, 7)
    assert (found["config"], found["split"], found["split_rows"]) == (
        "merged_balanced", "train", len(world.rows(split="train"))
    )  # fmt: skip
    assert found["notes"] == ["Not compared by picture: no folder of pictures was passed."]


def test_rows_of_another_split_are_not_found(world: World, tmp_path: Path) -> None:
    """Test and train share nothing; `--split` and `--config` choose others."""
    rows = [{key: row[key] for key in ("id", "caption", "image_path")} for row in world.rows(split="test")]
    file = write_csv(tmp_path / "test.csv", rows)
    assert overlap(file, world)["overlapping"] == 0
    assert overlap(file, world, "--split", "test")["overlapping"] == len(rows)
    assert overlap(file, world, "--config", "scene_resnet_place", "--split", "test")["overlapping"] > 0


def test_the_text_names_the_first_rows(world: World, tmp_path: Path) -> None:
    """Counts, then the first rows, with a row of the split that has the same."""
    row = next(r for r in world.rows(split="train") if r["falsified"])
    file = write_csv(tmp_path / "rows.csv", spell(row)[:1])
    result = run("overlap", file, "--data-dir", world.root)
    index = min(r["index"] for r in world.rows(split="train") if row["id"] in (r["id"], r["image_id"]))
    lines = result.stdout.splitlines()
    assert lines[0] == f"{file}: 1 of 1 rows are in merged_balanced/train ({len(world.rows(split='train'))} rows)."
    assert lines[1:] == ["by id: 1", "by path: 0", "by caption: 0", f"row 0: id of row {index}"]


def test_a_column_may_be_missing(world: World, tmp_path: Path) -> None:
    """What cannot be compared is said, not counted as no overlap."""
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": world.rows(split="train")[0]["caption"], "other": [1]}))
    found = overlap(file, world)
    assert found["by"] == {"caption": 1}
    assert found["notes"] == [
        "Not compared by id: there is no column id or image_id.",
        "Not compared by path: there is no column image_path.",
        "Not compared by picture: no folder of pictures was passed.",
    ]


def test_ids_of_others_are_not_those_of_visual_news(world: World, tmp_path: Path) -> None:
    """DGM4's ids are; VERITE's are its own numbers, and a name is no id."""
    row = world.rows(split="train")[0]
    rows = [{"id": row["id"], "image": "DGM4/x.jpg", "text": "x", "fake_cls": "orig"}]
    found = overlap(write_other_set("dgm4", tmp_path / "dgm4", rows, pictures=False), world, "--on", "dgm4")
    assert (found["name"], found["by"]) == ("dgm4", {"id": 1, "path": 0, "caption": 0})
    assert "id" not in overlap(write_other_set("verite", tmp_path / "verite"), world, "--on", "verite")["by"]
    file = tmp_path / "names.jsonl"
    file.write_text(json.dumps({"id": "picture-7", "caption": "x"}) + "\n" + json.dumps({"id": None, "caption": "x"}))
    assert overlap(file, world)["overlapping"] == 0


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("guardian/images/0540/632.jpg", "guardian/0540/632"),
        ("./visual_news/origin/guardian/images/0540/632.jpg", "guardian/0540/632"),
        ("DGM4/origin/gardian/0540/632.jpg", "guardian/0540/632"),
        ("/real/usa_today_val_50/usa_today_val_0002_156.jpg", "usa_today/0002/156"),
        ("/real/bbc_val_50/BBC_val_0000_002.jpg", "bbc/0000/002"),
        ("/real/wash_val_50/wash_val_0010_771.jpg", "washington_post/0010/771"),
        ("washington_post_0010_771.jpeg", "washington_post/0010/771"),
        ("mirror/images/0540/632.jpg", None),
        ("myguardian/images/0540/632.jpg", None),
        ("guardian/images/540/632.jpg", None),
        ("guardian/images/0540/632", None),
        ("", None),
    ],
)
def test_paths_of_all_dialects(path: str, key: str | None) -> None:
    """One key for one picture of VisualNews."""
    assert path_key(path) == key


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose pictures are large enough to have a hash that survives a resize. Shared: never change it."""
    world = make_world(tmp_path_factory.mktemp("photos") / "data", tar=True)
    for n, path in enumerate(world.pictures):
        grid = np.random.default_rng(n).integers(0, 256, (9, 10, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(grid).resize((200, 180), Image.Resampling.NEAREST).save(data, "JPEG", quality=95)
        world.pictures[path] = data.getvalue()
        (world.origin / path).write_bytes(data.getvalue())
    return world


def test_pictures_are_compared_if_asked_for(photos: World, tmp_path: Path) -> None:
    """A smaller copy under another name is found; other pictures are not; absent and broken ones are counted."""
    rows = photos.rows(split="train")
    (tmp_path / "images").mkdir()
    with Image.open(io.BytesIO(photos.pictures[rows[3]["image_path"]])) as picture:
        picture.resize((150, 135)).save(tmp_path / "images" / "copy.jpg", quality=80)
    other = photos.rows(split="test")[0]
    (tmp_path / "images" / "other.jpg").write_bytes(photos.pictures[other["image_path"]])
    (tmp_path / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    names = ["copy", "other", "broken", "absent"]
    file = write_csv(tmp_path / "rows.csv", [{"image_path": f"images/{name}.jpg"} for name in names])
    found = overlap(file, photos, "--pictures", tmp_path)
    assert found["by"] == {"path": 0, "picture": 1}
    assert found["row_numbers"] == [0]
    assert f"{file}: 2 pictures are not there, do not decode, or have one colour only." in found["notes"]
    first = newsclippings.find_overlap(file, pictures=tmp_path, data_dir=photos.root).found["picture"][0]
    assert rows[first]["image_id"] == rows[3]["image_id"]


def test_a_set_of_others_has_its_pictures_in_its_folder(photos: World, tmp_path: Path) -> None:
    """With `--on`, pictures are below the folder of the set, whatever is passed."""
    folder = write_other_set("verite", tmp_path / "set", pictures=False)
    (folder / "images").mkdir()
    (folder / "images" / "true_0.jpg").write_bytes(photos.pictures[photos.rows(split="train")[0]["image_path"]])
    found = overlap(folder, photos, "--on", "verite", "--pictures", folder)
    assert found["by"]["picture"] == 2
    assert found["row_numbers"] == [0, 1]


def test_near_hashes_are_found() -> None:
    """The nearest within four bits; the hash of one colour is near nothing, not even itself."""
    known = np.array([0, 0b1111, 2**63 + 2**40, 2**64 - 1], np.uint64)
    hashes = np.array([0b0111, 2**63, 2**64 - 1 - 0b11111, 0, 2**64 - 1 - 0b1111, 7 << 30], np.uint64)
    assert find_near(hashes, known).tolist() == [1, 2, -1, -1, 3, -1]
    assert find_near(hashes, np.empty(0, np.uint64)).tolist() == [-1] * 6


def test_the_numbers_are_written(world: World, tmp_path: Path) -> None:
    """`--out` writes the JSON, again over its own, and over nothing else."""
    row = next(r for r in world.rows(split="train") if r["falsified"])
    file, out = write_csv(tmp_path / "rows.csv", spell(row)), tmp_path / "out.json"
    for _ in range(2):
        found = overlap(file, world, "--out", out)
        assert json.loads(out.read_text()) == found
    for place in (file, world.data_json, tmp_path / "mine.json"):
        before = place.read_bytes() if place.exists() else place.write_text("[]") and b"[]"
        result = run("overlap", file, "--data-dir", world.root, "--out", place)
        assert (result.exit_code, place.read_bytes()) == (1, before), result.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "expected rows, found none"),
        ("a,b\n1,2\n", "expected one of the columns that are compared, found a, b. Give each row any of id, image_id"),
        ("[{", "expected CSV, TSV, JSON, JSON lines or Parquet, found"),
        ("[7]", "row 0: expected an object, found 7"),
        ('[{"caption": 7}]', "row 0: expected a text as caption, found 7"),
        ('[{"id": [7]}]', r"row 0: expected a number or a text as id, found \[7\]"),
        ("PAR1 and no more", "expected a Parquet file, found"),
        ('caption\n"open', "expected CSV, TSV, JSON, JSON lines or Parquet, found"),
    ],
)
def test_another_content_is_an_error_in_a_line(world: World, tmp_path: Path, content: str, says: str) -> None:
    """The error names the file and what was expected."""
    file = tmp_path / "rows"
    file.write_text(content)
    with pytest.raises(BadFileError, match=says) as error:
        newsclippings.find_overlap(file, data_dir=world.root)
    assert "\n" not in str(error.value)


def test_wrong_calls(world: World, tmp_path: Path) -> None:
    """An unknown split, and paths that lead out of the folder of pictures."""
    file = write_csv(tmp_path / "rows.csv", [{"image_path": "../secret.jpg"}])
    with pytest.raises(ConfigError, match=r"split='val' is not known"):
        newsclippings.find_overlap(file, split="val", data_dir=world.root)
    with pytest.raises(UnsafePathError, match=r"the path '\.\./secret\.jpg' is refused, since it has '\.\.'"):
        newsclippings.find_overlap(file, pictures=tmp_path, data_dir=world.root)
    assert overlap(file, world)["overlapping"] == 0  # without pictures no path is opened


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,id\n1,2\n", "line 1: expected different names of columns, found one twice"),
        (b"id,caption\n1,2,3\n", "line 2: expected 2 values, found 3"),
        (b"id,caption\n1\n", "line 2: expected 2 values, found 1"),
        (b"\x1f\x8b\x08\x00abc", "Unpack it"),
    ],
)
def test_tables_that_would_be_read_wrongly(tmp_path: Path, content: bytes, says: str) -> None:
    """Values of another column are compared by nobody: such a table is refused."""
    world = make_world(tmp_path / "world", tar=False)
    (tmp_path / "rows.csv").write_bytes(content)
    done = run("overlap", tmp_path / "rows.csv", "--data-dir", world.root)
    assert done.exit_code == 1
    assert says in done.stderr


def test_pictures_that_are_not_compared(tmp_path: Path) -> None:
    """A folder of pictures that is not there is an error; one that no column leads into is a note."""
    world = make_world(tmp_path / "world", tar=False)
    file = write_csv(tmp_path / "rows.csv", [{"id": 1}])
    done = run("overlap", file, "--data-dir", world.root, "--pictures", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "nowhere: there is no such folder" in done.stderr
    assert (
        "Not compared by picture: there is no column image_path."
        in overlap(file, world, "--pictures", tmp_path)["notes"]
    )


def test_a_file_of_others_is_found_first(tmp_path: Path) -> None:
    """The file to write is checked before anything is compared, which may take minutes."""
    world = make_world(tmp_path / "world", tar=False)
    (tmp_path / "mine.json").write_text("{}")
    done = run("overlap", tmp_path / "no.csv", "--data-dir", world.root, "--out", tmp_path / "mine.json")
    assert "mine.json exists and was not written by `newsclippings overlap`" in done.stderr
