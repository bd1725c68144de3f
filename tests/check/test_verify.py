"""`newsclippings verify` reports every state of the inputs and of a built folder, and no fault hides another."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.constants import change_constant
from support.remote import Origin, Published
from support.sampling import crossed, sampled
from support.vectors import make_plan
from support.vectors import write as write_embeddings
from support.world import CONFIGS, SPLITS, World, paths_of

import newsclippings
from _newsclippings.check import inputs as _verify
from _newsclippings.facts import EMBEDDINGS, HUB_FILES, ROWS
from _newsclippings.pictures import check as image_check
from _newsclippings.storage import threads
from _newsclippings.text import options_as_flags
from newsclippings import ConfigError, Report

HTML = b"<!DOCTYPE html><title>404</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
LAYOUTS: dict[str, dict[str, bool]] = {"both": {}, "extracted": {"tar": False}, "tar only": {"folder": False}}


def verify(world: World, **options: Any) -> Report:
    return newsclippings.verify(str(world.root), **options)


def from_command(world: World, *options: str, code: int) -> dict[str, Any]:
    """Return the command's JSON report; assert its exit code, and that the text report agrees."""
    result = run("verify", "--data-dir", world.root, "--format", "json", *options)
    assert result.exit_code == code, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    text = run("verify", "--data-dir", world.root, *options)
    assert text.exit_code == code
    faults = len(report["missing"]), len(report["invalid"])
    last = "Not sound: {} missing, {} invalid. Do what each line says, then verify again.".format(*faults)
    if code == 0:
        chosen = " ".join(f"--config {config}" for config in report["counts"])
        last = f"Sound. Next: `newsclippings build newsclippings {chosen} --data-dir {world.root}`."
    assert text.stdout.splitlines()[-1] == last
    for message in (*report["missing"].values(), *report["invalid"].values()):
        assert message.splitlines()[0] in text.stdout
    return report


def counts(report: Report, name: str, config: str = "merged_balanced") -> dict[str, Any]:
    return {split: about.get(name) for split, about in report.counts[config].items()}


# States of the inputs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_complete(new_world: Callable[..., World], layout: str) -> None:
    """Complete inputs are sound for all five configs, from the folder or the tar, with the planned counts."""
    world = new_world(**LAYOUTS[layout])
    report = verify(world)
    assert (report.missing, report.invalid, report.sound) == ({}, {}, True)
    assert list(report.counts) == ["merged_balanced", *(c for c in ROWS if c != "merged_balanced")]
    for config in CONFIGS:
        for split in SPLITS:
            rows = world.rows(config, split)
            about = report.counts[config][split]
            size = about.pop("bytes")
            place = world.origin if world.origin.is_dir() else world.tar
            needed = len({row["image_path"] for row in rows})
            assert about.pop("locations") == {str(place): needed, "missing": 0}
            assert about == {
                "rows": len(rows),
                "published": ROWS[config][split],
                "pristine": len(rows) // 2,
                "unknown_ids": 0,
                "complete": len(rows),
                "missing": {"caption": {}, "picture_record": {}, "picture": {}},
            }
            pictures = sum(len(row["image"]["bytes"]) for row in rows)
            assert pictures < size < pictures + 1000 * len(rows)
    found = from_command(world, code=0)
    assert {**found, "notes": []} == {
        **verify(world).as_dict(),
        "notes": [],
    }  # without the notes, because the free disk space changes


def test_configs_and_paths_of_any_kind(new_world: Callable[..., World]) -> None:
    """configs= may be an iterator, and places may be paths."""
    world = new_world()
    world.annotations("merged_balanced", "test").write_bytes(HTML)
    report = newsclippings.verify(world.root, world.tar, configs=iter(["merged_balanced"]))
    assert list(report.counts) == ["merged_balanced"]
    assert list(report.invalid) == [str(world.annotations("merged_balanced", "test"))]


def test_absent(tmp_path: Path) -> None:
    """Without a folder, or with an empty one, everything is missing and nothing is invalid."""
    (tmp_path / "empty").mkdir()
    for place, says in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "is an empty folder")):
        report = newsclippings.verify(str(place))
        assert list(report.missing) == [str(place)]
        assert says in report.missing[str(place)]
        assert (report.invalid, report.counts, report.sound) == ({}, {}, False)
    report = newsclippings.verify()
    names = [place.rpartition("/")[2] for place in report.missing]
    assert names == ["train.json", "val.json", "test.json", "VisualNews"]
    assert report.invalid == {}
    assert run("verify").exit_code == 1


def test_partial(new_world: Callable[..., World]) -> None:
    """Lost pictures are counted by outlet and split, and the first are named; other splits stay complete."""
    world = new_world(tar=False)
    record = world.used_once()
    (world.origin / record.image_path).unlink()
    world.annotations("merged_balanced", "test").unlink()
    report = verify(world, configs=["merged_balanced"])
    assert list(report.missing) == [f"{HUB_FILES}/data/merged_balanced/test.json", "merged_balanced/train"]
    assert record.image_path in report.missing["merged_balanced/train"]
    assert report.invalid == {}
    nothing: dict[str, Any] = {"caption": {}, "picture_record": {}, "picture": {}}
    assert counts(report, "missing") == {"train": {**nothing, "picture": {record.source: 1}}, "validation": nothing}
    assert counts(report, "complete") == {"train": 23, "validation": 10}
    with options_as_flags():  # as on the command line
        missing = verify(world, configs=["merged_balanced"]).missing
    assert from_command(world, "--config", "merged_balanced", code=1)["missing"] == missing
    assert "--missing null" in missing["merged_balanced/train"]
    assert verify(world).counts.keys() == set(CONFIGS) - {"merged_balanced"}  # some of its matches are missing


def test_advice_is_not_repeated(new_world: Callable[..., World]) -> None:
    """If many splits are incomplete, each has its numbers, and what to do is said once."""
    world = new_world(tar=False)
    shutil.rmtree(world.origin / "guardian")
    report = verify(world)
    text = str(report)
    assert len(report.missing) > 5
    for line in ("Looked in:", "If others are in another folder"):
        assert all(line in message for message in report.missing.values())
        assert text.count(line) == 1
    assert text.count("Complete the files") <= 2  # another line where no pair is whole
    for message in report.missing.values():
        assert all(line.strip() in text for line in message.split("\n")[:3])


def test_without_visual_news(new_world: Callable[..., World]) -> None:
    """With matches and metadata alone, only VisualNews is missing, and everything else is checked."""
    world = new_world(folder=False, tar=False)
    report = verify(world, configs=["merged_balanced"])
    assert list(report.missing) == ["VisualNews"]
    assert counts(report, "complete") == {split: len(world.rows(split=split)) for split in SPLITS}


def test_visual_news_that_is_not_there(world: World, tmp_path: Path) -> None:
    """A wrong visual_news= is one entry in the report; the files of data_dir are still checked."""
    report = verify(world, visual_news=str(tmp_path / "none.tar"))
    assert list(report.missing) == ["visual_news"]
    assert set(report.counts) == set(CONFIGS)


def _cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def _fill(data: bytes) -> Callable[[Path], None]:
    return lambda file: (file.write_bytes(data), None)[1]


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (_cut, "expected"),
    "a web page": (_fill(HTML), "an HTML page"),
    "a pointer": (_fill(POINTER), "a Git LFS pointer"),
    "empty": (_fill(b""), "expected"),
}


@pytest.mark.parametrize(
    ("what", "how"), crossed(["matches", "data.json", "metadata", "tar", "unused tar"], list(BREAKS))
)
def test_one_invalid_file_is_the_only_fault(new_world: Callable[..., World], what: str, how: str) -> None:
    """A file that is truncated, a web page, an LFS pointer or empty is invalid, and no other file is."""
    world = new_world(folder=what not in ("tar",), tar="tar" in what)
    places = {"matches": world.annotations("merged_balanced", "validation"), "data.json": world.data_json}
    place = places.get(what, world.metadata("test") if what == "metadata" else world.tar)
    breaking, says = BREAKS[how]
    if how == "truncated":
        says = {"tar": "it is damaged at byte", "unused tar": "it has no end marker"}.get(what, says)
    breaking(place)
    report = verify(world, configs=["merged_balanced"])
    assert list(report.invalid) == [str(place)]
    assert says in report.invalid[str(place)]
    cut_tar = what == "tar" and how == "truncated"
    assert bool(report.missing) == cut_tar  # the pictures in its second half
    splits = [split for split in SPLITS if (what, split) != ("matches", "validation")]
    assert list(report.counts["merged_balanced"]) == splits
    if not cut_tar:
        assert counts(report, "complete") == {split: len(world.rows(split=split)) for split in splits}
    with options_as_flags():  # as on the command line
        invalid = verify(world, configs=["merged_balanced"]).invalid
    assert from_command(world, "--config", "merged_balanced", code=1)["invalid"] == invalid


def test_no_fault_hides_another(new_world: Callable[..., World]) -> None:
    """Five faults in different files are all reported by one run."""
    world = new_world()
    for place in (world.annotations("merged_balanced", "train"), world.metadata("train"), world.data_json, world.tar):
        _cut(place)
    world.metadata("validation").write_bytes(HTML)
    row = next(row for row in world.rows(split="test") if row["falsified"])
    (world.origin / row["image_path"]).write_bytes(b"")
    report = verify(world, configs=["merged_balanced"], images="header")
    broken = [world.tar, world.annotations("merged_balanced", "train"), world.metadata("validation"), world.data_json]
    assert set(report.invalid) == {
        str(place) for place in broken
    }  # train's metadata are not needed: its matches cannot be read
    assert set(report.missing) == {"merged_balanced/test"}
    assert row["image_path"] in report.missing["merged_balanced/test"]


def test_odd_places_do_not_hide_faults(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A dangling link as tar, a folder named data.json and linked pictures are reported; all else is still checked."""
    world = new_world()
    world.tar.unlink()
    world.tar.symlink_to(tmp_path / "nowhere")
    world.annotations("merged_balanced", "validation").write_bytes(HTML)
    lost, linked = paths_of(world)[:2]
    (world.origin / lost).unlink()
    (world.origin / linked).rename(tmp_path / "elsewhere.jpg")
    (world.origin / linked).symlink_to(tmp_path / "elsewhere.jpg")
    report = verify(world, configs=["merged_balanced"])
    assert "is a broken link" in report.missing[str(world.tar)]
    assert "found an HTML page" in report.invalid[str(world.annotations("merged_balanced", "validation"))]
    assert "leads through a link to" in report.invalid[str(world.origin / linked)]
    gone = {name for name in paths_of(world) if name in (lost, linked)}
    for split in ("train", "test"):
        rows = world.rows(split=split)
        assert report.counts["merged_balanced"][split]["complete"] == sum(r["image_path"] not in gone for r in rows)
    world.data_json.rename(tmp_path / "data.json")
    world.data_json.mkdir()
    assert "is a folder; expected a file" in verify(world, configs=["merged_balanced"]).missing[str(world.data_json)]
    assert list(verify(world, configs=["merged_balanced"]).counts["merged_balanced"]) == ["train", "test"]


def test_ids_that_no_corpus_knows(new_world: Callable[..., World]) -> None:
    """An id that neither data.json nor the metadata have is counted, and its rows are incomplete."""
    world = new_world(tar=False)
    record = world.used_once()
    del world.records[record.id]
    world.write_data_json()
    report = verify(world, configs=["merged_balanced"])
    assert counts(report, "unknown_ids") == dict.fromkeys(SPLITS, 0)  # the metadata have it
    world.write_metadata()
    report = verify(world, configs=["merged_balanced"])
    assert counts(report, "unknown_ids") == {"train": 1, "validation": 0, "test": 0}
    assert list(report.missing) == ["merged_balanced/train"]
    assert "no record has the picture's id (unknown 1)" in report.missing["merged_balanced/train"]


# Hostile and odd inputs


def _hostile_path(world: World) -> None:
    record = world.records[world.rows()[0]["id"]]
    record.image_path = "../../etc/passwd"
    world.write_data_json()


def _link(world: World) -> None:
    outside = world.root.parent / "outside.jpg"
    outside.write_bytes(jpeg())
    file = world.origin / world.used_once().image_path
    file.unlink()
    file.symlink_to(outside)


def _folder_in_place(world: World) -> None:
    world.annotations("merged_balanced", "train").unlink()
    world.annotations("merged_balanced", "train").mkdir()


def _compressed(world: World) -> None:
    shutil.rmtree(world.origin)
    world.write_tar()
    world.tar.write_bytes(gzip.compress(world.tar.read_bytes()))


def _only_the_tar_has_records(world: World) -> None:
    """Put data.json into a damaged tar beside a folder of pictures: captions then come from the metadata."""
    world.data_json.unlink()
    world.write_tar()
    data = bytearray(world.tar.read_bytes())
    data[0:100] = b"x" * 100
    world.tar.write_bytes(data)


# name -> (change, end of the name of the only faulty place, part of the message, complete rows of train)
HOSTILE: dict[str, tuple[Callable[[World], None], str, str, int | None]] = {
    "a path that climbs": (_hostile_path, "origin/data.json", "it has '..'", 24),
    "a link that leaves": (_link, ".jpg", "leads through a link to", 23),
    "a folder for a file": (_folder_in_place, "train.json", "is a folder; expected a file", None),
    "a compressed tar": (_compressed, "origin.tar", "gunzip", 24),
    "records in a damaged tar": (_only_the_tar_has_records, "origin.tar", "do not begin with a tar header", 24),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_inputs(new_world: Callable[..., World], what: str) -> None:
    """What a build would refuse is one entry with the build's message; all else is still checked."""
    world = new_world(tar=False)
    act, place, says, complete = HOSTILE[what]
    act(world)
    report = verify(world, configs=["merged_balanced"], images="decode")
    if complete == 23:
        assert "the picture is not there" in report.missing.pop("merged_balanced/train")
    ((found, message),) = {**report.missing, **report.invalid}.items()
    assert found.endswith(place)
    assert says in message
    about = {split: len(world.rows(split=split)) for split in SPLITS}
    assert counts(report, "complete") == ({**about, "train": complete} if complete else
                                          {split: n for split, n in about.items() if split != "train"})  # fmt: skip


def test_a_remote_tar(published: Published, origin: Origin, tmp_path: Path) -> None:
    """Every picture of a remote tar can be checked; a tar that does not exist is missing."""
    index = tmp_path / "index.parquet"
    assert run("index", published.url, "--out", index).exit_code == 0
    for given in (None, str(index)):
        report = verify(published.world, visual_news=published.url, visual_news_index=given, images="decode")
        assert report.sound, str(report)
        assert sum(report.looked_at.values()) == len({p for c in CONFIGS for p in paths_of(published.world, c)})
        assert report.files[published.url] == {"is": "VisualNews", "bytes": None}
    origin.mode()
    report = verify(published.world, visual_news=f"{origin.address}/none.tar?token=secret", configs=["merged_balanced"])
    assert list(report.missing) == [f"{origin.address}/none.tar"]
    assert "secret" not in str(report)
    assert counts(report, "complete") == {split: len(published.world.rows(split=split)) for split in SPLITS}


def test_the_index_of_another_tar(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The index of another tar is a fault; an index without a tar is an error."""
    world, other = new_world(folder=False), new_world("other", folder=False, seed=1)
    index = tmp_path / "index.parquet"
    assert run("index", other.tar, "--out", index).exit_code == 0
    report = verify(world, configs=["merged_balanced"], visual_news_index=str(index))
    assert list(report.invalid) == [str(world.tar)]
    assert "is not the index of" in report.invalid[str(world.tar)]
    with pytest.raises(ConfigError, match="is the index of a tar"):
        newsclippings.verify(visual_news_index=str(index))


# Rules of the official files


def _rewrite(world: World, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    file = world.annotations("merged_balanced", "train")
    content = json.loads(file.read_bytes())
    content["annotations"] = change(content["annotations"])
    file.write_text(json.dumps(content))


def _with_label(rows: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    return [{**row, "falsified": True} if k == i else row for i, row in enumerate(rows)]


RULES: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], dict[str, str]]] = {
    "order": (lambda rows: [rows[1], rows[0], *rows[2:]], {"train: twins": "1 other pairs"}),
    "one row less": (
        lambda rows: rows[1:],
        {"train: twins": "12 other pairs", "train: labels": "found 11", "train: sources": "pairs with two"},
    ),
    "a score": (
        lambda rows: [{**rows[0], "similarity_score": 0.3}, *rows[1:]],
        {"train: scores": "1 rows with another"},
    ),
    "a source": (lambda rows: [{**rows[0], "source_dataset": 3}, *rows[1:]], {"train: sources": "1 pairs"}),
    "a wrong label": (lambda rows: _with_label(rows, 4), {"train: twins": "1 other", "train: labels": "found 11"}),
    "a pair twice": (lambda rows: [*rows, *rows[:2]], {"train: keys": "2 rows"}),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_the_matches(new_world: Callable[..., World], rule: str) -> None:
    """Each broken rule on twins, labels, scores, sources or keys is reported separately."""
    world = new_world(tar=False)
    change, expected = RULES[rule]
    _rewrite(world, change)
    report = verify(world, configs=["merged_balanced"])
    assert set(report.invalid) == {f"merged_balanced/{place}" for place in expected}
    assert all(says in report.invalid[f"merged_balanced/{place}"] for place, says in expected.items())


def test_splits_share_no_ids(new_world: Callable[..., World]) -> None:
    """In merged_balanced, a copy of another split's file is detected by its ids."""
    world = new_world(tar=False)
    shutil.copyfile(world.annotations("merged_balanced", "test"), world.annotations("merged_balanced", "validation"))
    report = verify(world, configs=["merged_balanced"])
    assert list(report.invalid) == ["merged_balanced: validation and test"]
    shared = {row[key] for row in world.rows(split="test") for key in ("id", "image_id")}
    assert f"found {len(shared)} ids in both" in report.invalid["merged_balanced: validation and test"]
    thin = "scene_resnet_place"  # splits of other configs may share ids
    shutil.copyfile(world.annotations(thin, "test"), world.annotations(thin, "validation"))
    assert verify(world, configs=[thin]).missing.keys() <= {f"{thin}/validation"}
    assert verify(world, configs=[thin]).invalid == {}


def test_published_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If some files have the published number of rows, another number is invalid; if none has, there is a note."""
    assert any("published" in note for note in verify(world).notes)
    rows = {config: {split: len(world.rows(config, split)) for split in SPLITS} for config in CONFIGS}
    for config, by_split in rows.items():
        monkeypatch.setitem(ROWS, config, {**by_split})
    report = verify(world)
    assert report.sound
    assert not any("published" in note for note in report.notes)
    monkeypatch.setitem(ROWS, "merged_balanced", {"train": 24, "validation": 12, "test": None})
    report = verify(world)
    assert list(report.invalid) == ["merged_balanced/validation: rows"]
    assert "expected the published 12 rows, found 10" in report.invalid["merged_balanced/validation: rows"]


# Pictures


def jpeg(size: tuple[int, int] = (64, 48), mode: str = "RGB", kind: str = "JPEG") -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(stream, kind)
    return stream.getvalue()


def _bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims `side` x `side` pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(b"\0" * 100)
    )  # fmt: skip


def _spoiled(data: bytes) -> bytes:
    """Damage the compressed data of a PNG."""
    start = data.index(b"IDAT") + 4
    return data[:start] + b"\xff" * 40 + data[start + 40 :]


# name -> (bytes, problem in the header, problem in decoding)
SPECIMENS: dict[str, tuple[bytes, str | None, str | None]] = {
    "jpeg": (jpeg(), None, None),
    "grey": (jpeg(mode="L"), None, None),
    "cut in the scan": (jpeg()[:-300], "truncated", "truncated"),
    "cut in the header": (jpeg()[:300], "corrupt", "corrupt"),
    "web page": (HTML, "no_picture", "no_picture"),
    "pointer": (POINTER, "no_picture", "no_picture"),
    "text": (b"not found", "no_picture", "no_picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no_picture", "no_picture"),
    "what Pillow refuses": (_bomb(20_000), "bomb", "bomb"),
    "what Pillow warns of": (_bomb(10_000), "bomb", "bomb"),
    "more than we decode": (_bomb(8_001), "bomb", "bomb"),
    "as large as we decode": (_bomb(8_000), "truncated", "truncated"),
    "gif": (jpeg(mode="P", kind="GIF"), "not_jpeg odd_mode", "not_jpeg odd_mode"),
    "png": (jpeg(mode="LA", kind="PNG"), "not_jpeg odd_mode", "not_jpeg odd_mode"),
    "cmyk": (jpeg(mode="CMYK"), "odd_mode", "odd_mode"),
    "spoiled png": (_spoiled(jpeg(kind="PNG")), "not_jpeg", "corrupt"),
    "jpeg and more": (jpeg() + b"\0trailing", None, None),
}
HARMLESS = ("not_jpeg", "odd_mode")


@pytest.mark.parametrize(("layout", "decode"), crossed(["folder", "tar"], {"header": False, "decode": True}))
def test_pictures(new_world: Callable[..., World], layout: str, decode: bool) -> None:
    """Every broken or unusual picture is listed by its path, after a look at the header or after decoding."""
    world = new_world(folder=layout == "folder", tar=False)
    needed = paths_of(world)
    specimens = dict(zip(needed, SPECIMENS.values(), strict=False))
    assert len(specimens) == len(SPECIMENS)
    for path in needed:
        world.pictures[path] = specimens[path][0] if path in specimens else jpeg()
    if layout == "folder":
        world.write_folder()
    else:
        world.write_tar()
    report = verify(world, configs=["merged_balanced"], images="decode" if decode else "header")
    expected: dict[str, list[str]] = {}
    for path, specimen in specimens.items():
        for problem in (specimen[2 if decode else 1] or "").split():
            expected.setdefault(str(problem), []).append(path)
    assert report.pictures == {problem: sorted(paths) for problem, paths in expected.items()}
    assert set(report.invalid) == {f"pictures: {problem}" for problem in expected if problem not in HARMLESS}
    assert report.missing == {}
    for problem, paths in expected.items():
        if problem not in HARMLESS:
            titles = {"no_picture": "Files that are not pictures", "bomb": "Pictures that are too large to decode"}
            title = titles.get(problem, f"{problem.capitalize()} pictures")
            assert f"{title} ({len(paths)}): " in report.invalid[f"pictures: {problem}"]
    assert "an HTML page" in report.invalid["pictures: no_picture"]
    assert report.looked_at["JPEG CMYK"] == 1
    option = "--images=decode" if decode else "--images"
    assert from_command(world, "--config", "merged_balanced", option, code=1)["pictures"] == report.pictures


def test_pictures_of_records_in_several_files(new_world: Callable[..., World]) -> None:
    """Without data.json, when each split has its own records, broken pictures of all splits are in one list."""
    world = new_world(tar=False)
    world.data_json.unlink()
    broken = [world.rows(split=split)[0]["image_path"] for split in SPLITS]
    for path in broken:
        (world.origin / path).write_bytes(HTML)
    report = verify(world, configs=["merged_balanced"], images="header")
    assert report.pictures["no_picture"] == sorted(broken)
    assert list(report.invalid) == ["pictures: no_picture"]
    assert f"Files that are not pictures (3): {', '.join(sorted(broken))}." in report.invalid["pictures: no_picture"]
    assert sum(report.looked_at.values()) == len(paths_of(world)) - 3


def test_sound_pictures(world: World) -> None:
    """If all pictures decode, formats and modes are counted, each picture once; unusual ones are no fault."""
    report = verify(world, images="decode")
    assert report.sound
    kinds: Counter[str] = Counter()
    needed = {path for config in CONFIGS for path in paths_of(world, config)}
    for path in needed:
        image = PIL.Image.open(io.BytesIO(world.pictures[path]))
        kinds[f"{image.format} {image.mode}"] += 1
    assert report.looked_at == dict(kinds)
    assert report.looked_at["GIF P"] == len(report.pictures["not_jpeg"])


def test_the_text_of_the_report() -> None:
    """The text has sizes, counts in columns, shortened lists, faults with their places, and a last line."""
    report = Report(
        missing={"a/b": "a/b: expected a file,\nfound none."},
        invalid={"c": "expected x, found y."},
        counts={
            "m": {"train": {"rows": 2000, "published": None, "missing": {}, "coverage": {"sbert": 7}}, "t": {"rows": 1}}
        },
        files={"/x": {"is": "matches", "bytes": 1234, "sha256": "0f"}, "hf://y": {"is": "metadata", "bytes": None}},
        pictures={"odd_mode": [f"{k}.jpg" for k in range(7)]},
        looked_at={"GIF P": 7, "JPEG RGB": 1000},
        notes=["so it is."],
        next="Go on.",
    )
    assert str(report).splitlines() == [
        "          1,234  matches: /x  sha256 0f",
        "         remote  metadata: hf://y",
        "                  rows          sbert",
        "m/train          2,000              7",
        "m/t                  1              -",
        "Pictures inspected: 1,007 (GIF P 7, JPEG RGB 1,000)",
        "  odd mode: 7: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more",
        "Note: so it is.",
        "MISSING a/b: expected a file,",
        "    found none.",
        "INVALID c: expected x, found y.",
        "Not sound: 1 missing, 1 invalid. Go on.",
    ]
    assert str(Report(next="Go on.")) == "Sound. Go on."


def test_a_picture_without_read_permission(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture without read permission is invalid, even if no picture is read; check_images is not suggested."""
    world = new_world(tar=False)
    place, access = str(world.origin / world.used_once().image_path), os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != place and access(path, mode)
    )  # patched, because root may read everything
    for images in (None, "decode"):
        report = verify(world, images=images)
        assert not report.sound
        assert "permission denied. Make it" in report.invalid[place]
        assert "check_images" not in report.invalid[place]


def test_a_picture_that_shrinks_during_the_check(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that becomes unreadable during the check is listed, and the others are still checked."""
    world = new_world(tar=False)
    record, look = world.used_once(), threads.map_ahead

    def shrinking(*args: Any) -> Any:
        (world.origin / record.image_path).write_bytes(b"x")
        return look(*args)

    monkeypatch.setattr(image_check, "map_ahead", shrinking)
    report = verify(world, configs=["merged_balanced"], images="header")
    assert report.pictures["unreadable"] == [record.image_path]
    assert sum(report.looked_at.values()) == len(paths_of(world)) - 1


# Embeddings and checksums


def test_embeddings(new_world: Callable[..., World]) -> None:
    """Rows with a vector are counted by kind and split; a broken pickle is one fault, a missing one another."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write_embeddings(world, plan)
    report = verify(world, configs=["merged_balanced"], embeddings=True)
    assert report.sound
    without = verify(world, configs=["merged_balanced"])
    for split in SPLITS:
        added = counts(report, "bytes")[split] - counts(without, "bytes")[split]
        numbers = 0.0
        for kind, about in EMBEDDINGS.items():
            there = {n: v for n, v in plan[kind][split].items() if v is not None}
            shown = sum(row[about.key] in there for row in world.rows(split=split))
            numbers += shown * sum(np.size(v) for v in there.values()) / len(there)
        assert added == pytest.approx(4 * numbers, abs=len(EMBEDDINGS))
        rows = world.rows(split=split)
        expected = {
            kind: sum(plan[kind][split].get(row[about.key]) is not None for row in rows)
            for kind, about in EMBEDDINGS.items()
        }
        assert counts(report, "coverage")[split] == expected
    folder = world.root / "news_clippings" / "embeddings"
    broken = folder / "places_resnet50" / "places_resnet50_val.pkl"
    _cut(broken)
    (folder / "sbert_embeddings" / "sbert_embeddings_test.pkl").unlink()
    (folder / "facenet_embeddings" / "facenet_embeddings_test.pkl").write_bytes(HTML)
    found = from_command(world, "--config", "merged_balanced", "--embeddings", code=1)
    assert set(found["invalid"]) == {str(broken), str(folder / "facenet_embeddings" / "facenet_embeddings_test.pkl")}
    assert [place.rpartition("/")[2] for place in found["missing"]] == ["sbert_embeddings_test.pkl"]
    covered = found["counts"]["merged_balanced"]
    assert {split: len(about["coverage"]) for split, about in covered.items()} == {
        "train": 5, "validation": 4, "test": 3,
    }  # fmt: skip


def test_vectors_of_another_split(new_world: Callable[..., World]) -> None:
    """A file of vectors without one for any row is invalid."""
    world = new_world(tar=False)
    write_embeddings(world, make_plan(world))
    files = world.root / "news_clippings" / "embeddings" / "clip_text_embeddings"
    train = files / "clip_text_embeddings_train.pkl"
    shutil.copy(files / "clip_text_embeddings_test.pkl", train)
    report = verify(world, configs=["merged_balanced"], embeddings=True)
    assert list(report.invalid) == [str(train)]
    assert "has no vector for any of the" in report.invalid[str(train)]


def test_free_disk_space_of_the_current_folder_and_the_cache(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the free space of the current folder, for `build`, and of the cache, for `load_dataset`."""
    there = {".": 100_000}
    monkeypatch.setattr(_verify, "free_bytes", lambda place: there.get(str(place), 10**12))
    report = verify(world)
    assert "; 100,000 are free in this folder, for `newsclippings build`, and 1,000," in report.notes[-1]
    assert report.next.startswith(
        "Next: free disk space, or change to a folder on a larger disk; then `newsclippings build"
    )
    there["."] = 10**12
    assert verify(world).next.startswith("Next: `newsclippings build")


@pytest.mark.parametrize("source", ["\x1b[31mevil\x1b[0m", "a\nINVALID forged"])
def test_control_characters_in_names_are_escaped(new_world: Callable[..., World], source: str) -> None:
    """An outlet's name can neither colour the terminal nor forge a line of the report."""
    world = new_world(tar=False)
    record = world.used_once()
    (world.origin / record.image_path).unlink()
    record.source = source
    world.write_data_json()
    result = run("verify", "--data-dir", world.root)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert not [line for line in result.stdout.splitlines() if line.strip().startswith("INVALID")]
    assert repr(source)[1:-1] in result.stdout


def test_checksums(new_world: Callable[..., World]) -> None:
    """checksums=True gives the SHA-256 of each file; offline it compares nothing and says why."""
    world = new_world()
    report = verify(world, checksums=True)
    files = [world.annotations(config, split) for config in CONFIGS for split in SPLITS]
    files += [world.metadata(split) for split in SPLITS]
    files += [world.data_json, world.tar]
    assert {place: about["sha256"] for place, about in report.files.items()} == {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    (note,) = [note for note in report.notes if "digest" in note]
    assert note.startswith("No digest was compared: the Hub could not be asked for them (Offline")


# Side effects


def test_it_writes_only_the_index_of_the_tar(new_world: Callable[..., World], tmp_path: Path) -> None:
    """verify writes only the index of the tar, into the given cache."""
    world = new_world(folder=False)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    report = verify(world, images="decode", embeddings=True, checksums=True, cache_dir=tmp_path / "cache")
    assert report.counts
    after = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    new = {file.relative_to(tmp_path).parts[:3] for file in after if file not in files}
    assert new == {("cache", "newsclippings", "tar_indexes")}
    assert {file: after[file] for file in files} == files


def test_wrong_arguments(tmp_path: Path) -> None:
    """An invalid value is a ConfigError; on the command line the exit code is 2."""
    with pytest.raises(ConfigError, match="images='all'"):
        newsclippings.verify(images="all")
    with pytest.raises(ConfigError, match="configs='all'"):
        newsclippings.verify(configs=["all"])
    with pytest.raises(ConfigError, match="is a URL"):
        newsclippings.verify("https://host/data")
    assert run("verify", "--images=all").exit_code == 2
    assert run("verify", "--config", "nonsense").exit_code == 2
    for flag in ("-q", "-v"):  # are about no inputs
        assert run("verify", "--built", tmp_path, flag).exit_code == 1
    result = run("verify", "--built", ".", "--images")
    assert (result.exit_code, "--built" in result.stderr, "--images" in result.stderr) == (2, True, True)


# A built folder


@pytest.fixture(scope="module")
def built_once(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two configs with shared pictures, eight files per split. Shared: `built` copies it."""
    out = tmp_path_factory.mktemp("built") / "out"
    options = ["--config", "merged_balanced", "--config", "scene_resnet_place", "--images", "once"]
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "FEWEST", 1)
        assert run("build", out, "--data-dir", world.root, *options).exit_code == 0
    assert run("croissant", out).exit_code == 0
    return out


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_once, tmp_path / "out"))


def test_built(built: Path, world: World) -> None:
    """A new folder is sound; its rows, files and bytes are counted."""
    report = newsclippings.verify_built(built)
    assert (report.missing, report.invalid, report.notes) == ({}, {}, [])
    assert counts(report, "rows") == {split: len(world.rows(split=split)) for split in SPLITS}
    for config in ("merged_balanced", "scene_resnet_place", "images"):
        for split in SPLITS:
            files = list((built / config).glob(f"{split}-*.parquet"))
            assert report.counts[config][split]["files"] == len(files)
            assert report.counts[config][split]["bytes"] == sum(file.stat().st_size for file in files)
    result = run("verify", "--built", built, "--format", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == report.as_dict()


def _flip(file: Path, byte: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 1
    file.write_bytes(data)


def _change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


SHARD = "merged_balanced/train-00003-of-00008.parquet"
# name -> (change, faulty place, whether it is missing, part of the message)
DAMAGE: dict[str, tuple[Callable[[Path], Any], str, bool, str]] = {
    "a bit": (lambda out: _flip(out / SHARD, 3_000), SHARD, False, "SHA-256"),
    "a short file": (lambda out: os.truncate(out / SHARD, 500), SHARD, False, "is too short"),
    "a longer file": (lambda out: (out / SHARD).write_bytes((out / SHARD).read_bytes() + b"x"), SHARD, False, "long"),
    "no file": (lambda out: (out / SHARD).unlink(), SHARD, True, "does not exist"),
    "a stray shard": (
        lambda out: shutil.copyfile(out / SHARD, out / "merged_balanced/train-00008-of-00008.parquet"),
        "merged_balanced/train-00008-of-00008.parquet", False, "would be read as data",
    ),
    "a stray file": (lambda out: (out / "images/x.txt").touch(), "images/x.txt", False, "does not belong here"),
    "a file beside": (lambda out: (out / "x.parquet").touch(), "x.parquet", False, "Remove it"),
    "no manifest": (lambda out: (out / "images/manifest.json").unlink(), "images/manifest.json", True, "not exist"),
    "no card": (lambda out: (out / "README.md").unlink(), "README.md", True, "does not exist"),
    "another card": (lambda out: (out / "README.md").write_text("x"), "README.md", False, "newsclippings card"),
    "other infos": (lambda out: _flip(out / "dataset_infos.json", 9), "dataset_infos.json", False, "does not describe"),
    "a card of no text": (lambda out: (out / "README.md").write_bytes(b"\xff"), "README.md", False, "Run `newsclippi"),
    "other pairs": (lambda out: _flip(out / "pairs.png", 999), "pairs.png", False, "same `newsclippings build` again"),
    "no picture": (lambda out: (out / "pairs.png").write_bytes(HTML), "pairs.png", False, "SHA-256"),
    "no sums": (lambda out: (out / "SHA256SUMS").unlink(), "SHA256SUMS", True, "newsclippings card"),
    "other sums": (lambda out: _flip(out / "SHA256SUMS", 9), "SHA256SUMS", False, "does not describe"),
    "other croissant": (lambda out: _flip(out / "croissant.json", 9), "croissant.json", False, "does not describe"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_built_folder(built: Path, damage: str) -> None:
    """Each change is reported with its place and what to do, and the exit code is 1."""
    act, name, absent, says = DAMAGE[damage]
    act(built)
    report = newsclippings.verify_built(built)
    entries = report.missing if absent else report.invalid
    assert says in entries[str(built / name)]
    others = {*report.missing, *report.invalid} - {str(built / name)}
    # card and croissant depend on all manifests
    of_all = ("README.md", "dataset_infos.json", "SHA256SUMS", "croissant.json")
    assert others == ({str(built / name) for name in of_all} if damage == "no manifest" else set())
    result = run("verify", "--built", built, "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == report.as_dict()


@pytest.mark.parametrize(("every", "times"), sampled([(7, 1), (1, 9)], 2))
def test_any_flipped_bit_is_found(built: Path, every: int, times: int) -> None:
    """After a bit flip anywhere in any file the report says that the folder is not sound, without an exception."""
    random = np.random.default_rng(0)
    files = sorted(file for file in built.rglob("*") if file.is_file())
    small = [file for file in files if file.suffix != ".parquet"]
    for file in files[::every] + small * (times - 1):
        before = file.read_bytes()
        after = bytearray(before)
        after[int(random.integers(len(before)))] ^= 1 << int(random.integers(8))
        file.write_bytes(after)
        report = newsclippings.verify_built(built)
        assert not report.sound, file
        file.write_bytes(before)
    assert newsclippings.verify_built(built).sound


def test_renamed_configs_and_removed_pictures(built: Path) -> None:
    """verify, `card` and `push` refuse a config whose folder was renamed or whose shared pictures are missing."""
    shutil.rmtree(built / "images")
    place = str(built / "images")
    expected = f"{place}: expected the config images, which has the pictures of scene_resnet_place, found none."
    assert newsclippings.verify_built(built).invalid[place].startswith(expected)
    pushed = run("push", "me/x", built, "--dry-run", "--with-images", "--i-have-the-rights")
    assert (pushed.exit_code, expected in pushed.stderr) == (1, True)
    (built / "scene_resnet_place").rename(built / "person_sbert_text_text")
    message = "expected the config person_sbert_text_text, found 'scene_resnet_place'. Give the folder its name again."
    assert any(message in fault for fault in newsclippings.verify_built(built).invalid.values())
    assert message in run("card", built).stderr


def test_sums_are_those_of_coreutils(built: Path) -> None:
    """`sha256sum --check` accepts SHA256SUMS, which has all files except croissant.json and itself."""
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=built, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    named = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    files = {file.relative_to(built).as_posix() for file in built.rglob("*") if file.is_file()}
    assert named == files - {"croissant.json", "SHA256SUMS"}


def test_other_rows_than_the_manifest_says(built: Path) -> None:
    """Rows and ids are compared with the files, so a manifest adapted to a changed file does not hide the change."""
    file = built / "scene_resnet_place" / "test-00000-of-00001.parquet"
    file = file if file.exists() else built / "scene_resnet_place" / "test-00000-of-00008.parquet"
    table = pq.read_table(file)
    pq.write_table(table.take(list(range(len(table)))[::-1]), file)

    def fit(manifest: dict[str, Any]) -> None:
        about = manifest["files"][file.name]
        about["bytes"], about["sha256"] = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()

    _change_manifest(file.parent, fit)
    assert (
        "has other ids than the build wrote"
        in newsclippings.verify_built(built).invalid["scene_resnet_place/test: ids"]
    )
    pq.write_table(table.slice(1), file)
    _change_manifest(file.parent, fit)
    report = newsclippings.verify_built(built)
    assert re.search(r"it has \d+ rows, where its manifest says \d+", report.invalid["scene_resnet_place/test: ids"])
    file.write_bytes(b"PAR1 no more")
    _change_manifest(file.parent, fit)
    assert "cannot be read as Parquet" in newsclippings.verify_built(built).invalid["scene_resnet_place/test: ids"]


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.update(splits={"train": 1}),
        lambda manifest: manifest["files"].update(
            {"../../secret": {"split": "train", "rows": 0, "bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}}
        ),
        lambda manifest: manifest["files"].update({"x.parquet": {}}),
        lambda manifest: manifest.update(splits=None),
    ],
)
def test_a_manifest_of_another_shape(built: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """An edited manifest of any content is a fault, and other configs are still checked."""
    (built.parent / "secret").write_bytes(b"secret")
    _change_manifest(built / "scene_resnet_place", change)
    _flip(built / SHARD, 200)
    report = newsclippings.verify_built(built)
    assert any("scene_resnet_place" in place for place in report.invalid)
    assert str(built / SHARD) in report.invalid
    assert "secret" not in "".join(report.files)


def test_leftovers_are_harmless(built: Path, world: World, tmp_path: Path) -> None:
    """Files that a killed build left are a note, not a fault, and the next build removes them."""
    (built / ".building" / "images-0123").mkdir(parents=True)
    (built / "README.md.1-0123abcd.tmp").touch()
    (built / "images" / "manifest.json.1-0123abcd.tmp").touch()
    report = newsclippings.verify_built(built)
    assert report.sound
    again = ["--config", "merged_balanced", "--config", "scene_resnet_place", "--images", "once"]
    assert run("build", shutil.copytree(built, tmp_path / "copy"), "--data-dir", world.root, *again).exit_code == 0
    assert newsclippings.verify_built(tmp_path / "copy").notes == []
    assert len(report.notes) == 3
    assert all("left by a killed build" in note for note in report.notes)
    assert run("verify", "--built", built).exit_code == 0


def test_an_unreadable_file_is_not_called_changed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is reported as unreadable, and the report does not advise to remove it."""
    opened = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path) in (str(built / SHARD), str(built / "pairs.png")):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    report = newsclippings.verify_built(built)
    for file in (built / SHARD, built / "pairs.png"):
        assert "permission denied. Make it" in report.invalid[str(file)]
        assert "emove" not in report.invalid[str(file)]


def _nested(out: Path) -> None:
    (out / "images" / "manifest.json").write_text("[" * 100_000)


def _pipe(name: str) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        (out / name).unlink(missing_ok=True)
        (out / name).parent.mkdir(exist_ok=True)
        os.mkfifo(out / name)

    return act


def _folder(name: str) -> Callable[[Path], None]:
    def act(out: Path) -> None:
        (out / name).unlink(missing_ok=True)
        (out / name).mkdir()

    return act


PIPES = ("README.md", "SHA256SUMS", "pairs.png", "croissant.json", "images/manifest.json", SHARD)
ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"a pipe for {name}": (_pipe(name), name) for name in PIPES},
    **{f"a folder for {name}": (_folder(name), name) for name in ("README.md", "SHA256SUMS", "croissant.json")},
    "a pipe for numbers": (_pipe("charts/stats.json"), "charts"),
    "a manifest without an end": (_nested, "images"),
    "a file for a config": (lambda out: (out / "person_sbert_text_text").touch(), "person_sbert_text_text"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_places_hide_nothing(built: Path, what: str) -> None:
    """A pipe, or a folder in place of a file, is reported without waiting or a traceback, beside other faults."""
    act, name = ODD[what]
    act(built)
    stray = built / "a\nSound. b"
    stray.touch()
    result = run("verify", "--built", built)
    assert result.exit_code == 1
    assert str(built / name) in result.stdout
    assert f"INVALID {built}/a\\nSound. b was not written by" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert run("stats", built).exit_code in (0, 1)


def test_no_built_folder(tmp_path: Path) -> None:
    """A folder that does not exist, or has no config, is missing."""
    for place in (tmp_path / "none", tmp_path):
        report = newsclippings.verify_built(place)
        assert (list(report.missing), report.sound) == ([str(place)], False)
    assert run("verify", "--built", tmp_path / "none").exit_code == 1
