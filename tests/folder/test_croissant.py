"""`newsclippings croissant` writes true, deterministic metadata, with which mlcroissant reads every row."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from support.command import run
from support.constants import change_constant
from support.folders import ALL, TWO, build, content, manifest
from support.reading import expected_splits, raw_splits
from support.sampling import sampled
from support.vectors import Plan, make_plan
from support.vectors import write as write_embeddings
from support.world import CONFIGS, SPLITS, Row, World

from _newsclippings.facts import CITATION, COLUMNS, EMBEDDINGS, LABELS, LICENSE, SOURCE_DATASETS, TEXTS, VERSION
from _newsclippings.folder import BuiltFolder
from _newsclippings.hub.plan import plan_upload
from newsclippings import ConfigError

TYPES = {
    "split": "sc:Text",
    "index": "sc:Integer",
    "id": "sc:Integer",
    "image_id": "sc:Integer",
    "caption": "sc:Text",
    "image": "sc:ImageObject",
    "image_path": "sc:Text",
    "falsified": "sc:Integer",
    "similarity_score": "sc:Float",
    "source_dataset": "sc:Integer",
    "source": "sc:Text",
    "topic": "sc:Text",
    "image_source": "sc:Text",
    "image_topic": "sc:Text",
    "image_caption": "sc:Text",
}
THIN = {name: kind for name, kind in TYPES.items() if name != "image"}
PICTURES = {name: TYPES[name] for name in ("split", "image_id", "image", "image_path")}
LAYOUTS = {
    "bytes": dict.fromkeys(("merged_balanced", "scene_resnet_place"), TYPES),
    "once": {"merged_balanced": TYPES, "scene_resnet_place": THIN, "images": PICTURES},
    "none": dict.fromkeys(("merged_balanced", "scene_resnet_place"), THIN),
}
LISTS = ("entities", "linked_entities", "title_entities")
EVERYTHING = ["--embeddings", "all", "--metadata", "--articles", "--images", "none", "--split", "test"]
needs_embeddings = pytest.mark.skipif(int(pa.__version__.partition(".")[0]) < 26, reason="Parquet of vectors")


def croissant(folder: Path) -> dict[str, Any]:
    """Return what the command writes for a folder."""
    result = run("croissant", folder)
    assert result.exit_code == 0, result.output
    metadata: dict[str, Any] = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    return metadata


def of_type(metadata: dict[str, Any], kind: str) -> dict[str, Any]:
    """The nodes of a type by their id, without the RecordSets of enumerations."""
    nodes = metadata["recordSet" if kind == "RecordSet" else "distribution"]
    return {node["@id"]: node for node in nodes if node["@type"] == f"cr:{kind}" and "data" not in node}


def types(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Name -> data type, in a list if repeated, or a dict for a field with subfields."""
    found = {field["name"]: types(field["subField"]) if "subField" in field else field["dataType"] for field in fields}
    return {
        field["name"]: [found[field["name"]]] if field.get("repeated") else found[field["name"]] for field in fields
    }


# Content of the metadata


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_column_is_a_field(world: World, tmp_path: Path, layout: str) -> None:
    """Each config has one record set: the split, then the columns in order, with types and descriptions."""
    build(world, tmp_path / "out", *TWO, "--images", layout)
    metadata = croissant(tmp_path / "out")
    sets = of_type(metadata, "RecordSet")
    assert {config: types(node["field"]) for config, node in sets.items()} == LAYOUTS[layout]
    for config, node in sets.items():
        assert list(types(node["field"])) == ["split", *manifest(tmp_path / "out" / config)["features"]]
        assert node["description"] == manifest(tmp_path / "out" / config)["description"]
        assert [key["@id"] for key in node["key"]] == [field["@id"] for field in node["field"][:2]]
        for field in node["field"]:
            assert field["@id"] == f"{config}/{field['name']}"
            assert field["source"]["fileSet"]["@id"] in of_type(metadata, "FileSet")
            assert field["name"] == "split" or field["description"].startswith(COLUMNS[field["name"]][1])


def test_version_licence_and_citation(world: World, tmp_path: Path) -> None:
    """Version, licence and citation are those of the data; labels have their names; the date is that of the paper."""
    build(world, tmp_path / "out")
    metadata = croissant(tmp_path / "out")
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    found = [metadata[key] for key in ("name", "version", "citeAs")]
    assert found == ["NewsCLIPpings", VERSION, CITATION]
    assert metadata["license"]["description"] == LICENSE
    assert all(person["name"].split()[-1] in CITATION for person in metadata["creator"])
    assert metadata["datePublished"] == "2021-11-07"  # not that of the build, which changes no byte
    names = {node["@id"]: node for node in metadata["recordSet"] if node.get("dataType") == "sc:Enumeration"}
    for column, expected in {"falsified": LABELS, "source_dataset": SOURCE_DATASETS}.items():
        rows = [{f"{column}/value": k, f"{column}/name": name} for k, name in enumerate(expected)]
        assert names[column]["data"] == rows


def test_every_file_has_its_checksum(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Parquet file has its size and SHA-256, and is in the file set of its config only."""
    change_constant(monkeypatch, "FEWEST", 1)
    out = tmp_path / "out"
    build(world, out, *TWO, "--images", "once")
    metadata = croissant(out)
    files = of_type(metadata, "FileObject")
    assert set(files) == {str(file.relative_to(out)) for file in out.rglob("*.parquet")}
    assert len(files) > 20
    for place, node in files.items():
        data = (out / node["contentUrl"]).read_bytes()
        assert node["contentUrl"] == place
        assert (node["sha256"], node["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")
    for config in LAYOUTS["once"]:
        patterns = of_type(metadata, "FileSet")[f"{config}-files"]["includes"]
        assert patterns == [f"{config}/{split}-*.parquet" for split in SPLITS]
        found = {place for place in files if any(fnmatch(place, pattern) for pattern in patterns)}
        assert found == {place for place in files if place.startswith(f"{config}/")}


@needs_embeddings
def test_vectors_and_structs_are_fields(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Vectors are repeated numbers, metadata has subfields, entities are repeated records."""
    world = new_world(tar=False)
    write_embeddings(world, make_plan(world))
    build(world, tmp_path / "out", *EVERYTHING)
    fields = of_type(croissant(tmp_path / "out"), "RecordSet")["merged_balanced"]["field"]
    about = {
        "title": "sc:Text",
        "timestamp": "sc:DateTime",
        "timestamp_text": "sc:Text",
        "image_has_person": "sc:Boolean",
        "entities": [{"text": "sc:Text", "label": "sc:Text"}],
        "linked_entities": [{"title": "sc:Text", "type": "sc:Text", "mention": "sc:Text", "confidence": "sc:Float"}],
        "article_path": "sc:Text",
        "full_article_path": "sc:Text",
        "title_entities": [{"text": "sc:Text", "label": "sc:Text"}],
    }
    vectors = {kind: ["sc:Float"] for kind in EMBEDDINGS}
    assert types(fields) == {**THIN, **vectors, "metadata": about, "image_metadata": about, "article": "sc:Text"}
    described = {field["name"]: field["description"] for field in fields}
    assert all(described[kind] == f"{one.meaning} {one.width} values." for kind, one in EMBEDDINGS.items())
    assert all(described[name] == meaning for name, (_, meaning) in TEXTS.items() if name in described)


def test_the_same_folder_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    """Written again, elsewhere, or for a copy, the metadata are identical, and have no path of this machine."""
    build(world, tmp_path / "out", *TWO, "--images", "once")
    croissant(tmp_path / "out")
    text = (tmp_path / "out" / "croissant.json").read_bytes()
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    result = run("croissant", tmp_path / "copy", "-o", tmp_path / "elsewhere.json")
    assert result.stdout == f"{tmp_path / 'elsewhere.json'}\n"
    croissant(tmp_path / "out")
    assert text == (tmp_path / "elsewhere.json").read_bytes() == (tmp_path / "out" / "croissant.json").read_bytes()
    assert str(tmp_path).encode() not in text
    assert not list(tmp_path.rglob("*.tmp"))


# Command, build and push


def test_the_command_prints_what_it_wrote(world: World) -> None:
    """Without arguments, the command describes the folder ./newsclippings, in a file in it."""
    build(world, Path("newsclippings"), "--split", "test", "--images", "none")
    result = run("croissant")
    assert (result.exit_code, result.stdout) == (0, "newsclippings/croissant.json\n")
    assert Path("newsclippings/croissant.json").is_file()


def test_another_folder_is_refused(tmp_path: Path) -> None:
    """For a folder that `build` did not write, the error is one line, and nothing is written."""
    (tmp_path / "photos").mkdir()
    result = run("croissant", tmp_path / "photos")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert f"{tmp_path / 'photos'}: expected a folder that `newsclippings build` wrote, found none of" in line
    assert not list((tmp_path / "photos").iterdir())


def test_build_leaves_it_alone(world: World, tmp_path: Path) -> None:
    """`build` neither writes nor removes croissant.json, and the folder loads with and without it."""
    out = tmp_path / "out"
    build(world, out)
    assert not (out / "croissant.json").exists()
    croissant(out)
    before = content(out)
    build(world, out)
    assert content(out) == before
    assert raw_splits(datasets.load_dataset(str(out))) == expected_splits(world)


def test_push_takes_it_along_if_it_is_true(world: World, tmp_path: Path) -> None:
    """`push` uploads croissant.json if it is up to date; otherwise it refuses, and the error says what to do."""
    out = tmp_path / "out"
    options: dict[str, Any] = {"with_images": False, "have_the_rights": False}
    build(world, out, "--split", "test", "--images", "none")
    assert "croissant.json" not in plan_upload(BuiltFolder.open(out), "me/news-clippings", **options).files
    croissant(out)
    size = (out / "croissant.json").stat().st_size
    assert plan_upload(BuiltFolder.open(out), "me/news-clippings", **options).files["croissant.json"] == size
    build(world, out, "--images", "none")
    with pytest.raises(ConfigError, match=r"croissant.json: expected .* found others. Run `newsclippings croissant "):
        plan_upload(BuiltFolder.open(out), "me/news-clippings", **options)
    croissant(out)
    assert "croissant.json" in plan_upload(BuiltFolder.open(out), "me/news-clippings", **options).files


# Rows as mlcroissant reads them


def records(folder: Path, config: str, split: str | None = None) -> list[Row]:
    """The rows that mlcroissant reads, as the plan has them: text decoded, pictures as bytes."""
    mlc = pytest.importorskip("mlcroissant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls what rdflib and pandas have deprecated
        dataset = mlc.Dataset(folder / "croissant.json")  # a new one for each call, because filters stay with it
        found = list(dataset.records(config, filters=split and {f"{config}/split": split}))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    return [{name.partition("/")[2]: _plain(value) for name, value in record.items()} for record in found]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name.rpartition("/")[2]: _plain(one) for name, one in value.items()}
    if hasattr(value, "getbands"):  # an image, not decoded yet
        return {"bytes": value.fp.getvalue(), "path": None}
    return value


@pytest.mark.parametrize("layout", sampled(LAYOUTS, 2))
def test_mlcroissant_reads_every_row(world: World, tmp_path: Path, layout: str) -> None:
    """mlcroissant finds no error, and reads the planned rows of each config: captions, ids, labels, picture bytes."""
    pytest.importorskip("mlcroissant")
    out = tmp_path / "out"
    build(world, out, *ALL, "--images", layout)
    croissant(out)
    for config in CONFIGS:
        images = "none" if layout == "none" or (layout == "once" and config != "merged_balanced") else "bytes"
        rows = [{"split": split, **row} for split in SPLITS for row in world.rows(config, split, images=images)]
        found = records(out, config)
        assert sorted(found, key=lambda row: list(SPLITS).index(row["split"])) == rows
        if config in CONFIGS[:2]:  # each read takes a quarter of a second
            assert records(out, config, "test") == [row for row in rows if row["split"] == "test"]
    if layout == "once":
        used = {row["image_id"]: row for config in CONFIGS[1:] for row in world.rows(config, "test")}
        names = ("image_id", "image", "image_path")
        rows = [{"split": "test", **{name: used[k][name] for name in names}} for k in sorted(used)]
        assert records(out, "images", "test") == rows


def test_mlcroissant_reads_many_files_in_order(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of splits with several files are read in order."""
    pytest.importorskip("mlcroissant")
    change_constant(monkeypatch, "FEWEST", 1)
    build(world, tmp_path / "out", "--split", "train", "--images", "none")
    croissant(tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("train-*.parquet"))) == 8
    assert [row["index"] for row in records(tmp_path / "out", "merged_balanced")] == list(range(24))


def test_mlcroissant_reads_the_names_of_labels(world: World, tmp_path: Path) -> None:
    """mlcroissant reads the names of labels from their record sets."""
    pytest.importorskip("mlcroissant")
    build(world, tmp_path / "out", "--split", "test", "--images", "none")
    croissant(tmp_path / "out")
    assert [row["name"] for row in records(tmp_path / "out", "falsified")] == list(LABELS)
    assert [row["name"] for row in records(tmp_path / "out", "source_dataset")] == list(SOURCE_DATASETS)


def test_mlcroissant_reads_nulls_as_none(new_world: Callable[..., World], tmp_path: Path) -> None:
    """For a row without caption or picture, mlcroissant gives None."""
    pytest.importorskip("mlcroissant")
    world = new_world(tar=False)
    lost = world.used_once(split="test").image_path
    (world.origin / lost).unlink()
    build(world, tmp_path / "out", "--split", "test", "--missing", "null")
    croissant(tmp_path / "out")
    rows = world.rows(split="test", pictures=set(world.pictures) - {lost})
    assert sum(row["image"] is None for row in rows) == 1
    assert records(tmp_path / "out", "merged_balanced") == [{"split": "test", **row} for row in rows]


@needs_embeddings
def test_mlcroissant_reads_vectors_and_metadata(new_world: Callable[..., World], tmp_path: Path) -> None:
    """mlcroissant reads vectors to the bit, any number of faces, and structs with lists."""
    pytest.importorskip("mlcroissant")
    world = new_world(tar=False)
    plan: Plan = make_plan(world)
    write_embeddings(world, plan)
    build(world, tmp_path / "out", *EVERYTHING)
    croissant(tmp_path / "out")
    found = records(tmp_path / "out", "merged_balanced")
    built = datasets.load_dataset(str(tmp_path / "out"), split="test")
    for row, stored in zip(found, built, strict=True):
        assert {name: row[name] for name in ("index", *EMBEDDINGS, "article")} == {
            name: stored[name] for name in ("index", *EMBEDDINGS, "article")
        }
        for column in ("metadata", "image_metadata"):
            lists = {name: row[f"{column}/{name}"] for name in LISTS}  # where it puts them
            if stored[column]["title_entities"] is None:
                lists["title_entities"] = None  # mlcroissant makes an empty list of it
            assert {**row[column], **lists} == stored[column]
