"""What evidence alone tells of labels, and a filter that does not know them."""

from __future__ import annotations

import functools
import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from support.command import run
from support.evidence import Evidence, write_evidence
from support.world import World, make_world

import newsclippings
from _newsclippings.suite.compare import caption_key, hash_picture
from newsclippings import ConfigError, UnsafePathError

PAIRS = 12  # of test: 3 of them with exact matches


@pytest.fixture(scope="module")
def world_and_evidence(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Evidence]:
    """A world of which every picture has its own hash, and its evidence. Shared: never change it."""
    root = tmp_path_factory.mktemp("leak")
    world = make_world(root / "data", tar=False, pairs={"train": 3, "validation": 3, "test": PAIRS})
    return world, write_evidence(world, root / "ccn")


def value_of(found: dict[str, Any], rule: str) -> float:
    value: float = found["rules"][rule]["measures"]["accuracy"]["value"]
    return value


def test_the_leak_is_measured(world_and_evidence: tuple[World, Evidence]) -> None:
    """Pairs 0, 4 and 8 have an exact match in their pristine row: both rules get these and all falsified rows right."""
    world, evidence = world_and_evidence
    result = run("evidence", evidence.root, "--data-dir", world.root, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["rows"], found["with_evidence"], found["pictures"]) == (2 * PAIRS, 2 * PAIRS - 2, True)
    assert found["found"] == {name: {"pristine": 3, "falsified": 0} for name in found["found"]}
    assert [*found["found"]] == ["removed", "exact_caption", "exact_picture"]
    assert value_of(found, "removed") == value_of(found, "exact") == pytest.approx((PAIRS + 3) / (2 * PAIRS))
    assert value_of(found, "as_if_unlabelled") == 0.5
    assert newsclippings.measure_leak(evidence.root, data_dir=world.root).as_dict() == found
    text = run("evidence", evidence.root, "--data-dir", world.root).stdout
    assert text.startswith(
        "22 of 24 rows of test have evidence; captions and pictures were compared.\nremoved: 3 prist"
    )
    assert "\nremoved           0.6250 [" in text
    assert "\nas_if_unlabelled  0.5000 [" in text


def test_without_pictures_captions_are_compared(world_and_evidence: tuple[World, Evidence], tmp_path: Path) -> None:
    """The matches and records are enough; the output says what was compared."""
    world, evidence = world_and_evidence
    (tmp_path / "news_clippings").symlink_to(world.root / "news_clippings")
    (tmp_path / "visual_news" / "origin").mkdir(parents=True)
    (tmp_path / "visual_news" / "origin" / "data.json").symlink_to(world.data_json)
    found = newsclippings.measure_leak(evidence.root, "test", tmp_path)
    assert not found.pictures
    assert found.found == {"removed": (3, 0), "exact_caption": (3, 0), "exact_picture": (0, 0)}
    assert str(found).splitlines()[0].endswith("have evidence; only captions were compared.")


@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "pictures"])
def test_the_filter_does_not_know_the_label(world_and_evidence: tuple[World, Evidence], decoded: bool) -> None:
    """Exact matches are left out of any row, also of a falsified one, and nothing else; masks become null."""
    world, evidence = world_and_evidence
    rows = newsclippings.load(split="test", data_dir=str(world.root), evidence=str(evidence.root))
    if not decoded:
        rows = rows.cast_column("image", datasets.Image(decode=False))
    found = rows.map(functools.partial(newsclippings.as_if_unlabelled, folder=evidence.root))["evidence"][:]
    before = rows["evidence"][:]
    for index, (row, old) in enumerate(zip(found, before, strict=True)):
        if old is None:
            assert row is None
            continue
        kept = [True, False, True] if index in (0, 8, 16) else [True] * len(old["captions"])
        shown = [True, False] if index in (0, 8, 16) else [True, True]
        assert row == old | {
            "captions": [text for text, keep in zip(old["captions"], kept, strict=True) if keep],
            "caption_domains": [text for text, keep in zip(old["caption_domains"], kept, strict=True) if keep],
            "images": [path for path, keep in zip(old["images"], shown, strict=True) if keep],
            "image_domains": [text for text, keep in zip(old["image_domains"], shown, strict=True) if keep],
            "caption_keep": None,
            "image_keep": None,
        }
    swapped = {**rows[1], "caption": "ANOTHER caption!", "image": rows[0]["image"]}
    assert before[1]["image_keep"] == [True, True]  # CCN keeps all of it, since the row is falsified
    got = newsclippings.as_if_unlabelled(swapped, evidence.root)["evidence"]
    assert (got["captions"], got["images"]) == (["A title", "Text 1"], [before[1]["images"][0]])


def test_odd_rows_of_the_filter(world_and_evidence: tuple[World, Evidence]) -> None:
    """A row without evidence or picture; a picture that is not there; a table without the columns; a hostile path."""
    world, evidence = world_and_evidence
    rows = newsclippings.load(split="test", data_dir=str(world.root), evidence=str(evidence.root), images="none")
    with pytest.raises(ConfigError, match="as_if_unlabelled needs the columns image and evidence"):
        newsclippings.as_if_unlabelled(rows[0], evidence.root)
    first = {**rows[0], "image": None}
    assert newsclippings.as_if_unlabelled({**first, "evidence": None}, evidence.root) == {"evidence": None}
    assert newsclippings.as_if_unlabelled(first, evidence.root)["evidence"]["images"] == first["evidence"]["images"]
    gone = {**first, "image": {"bytes": world.rows(split="test")[0]["image"]["bytes"], "path": None}}
    assert newsclippings.as_if_unlabelled(gone, world.root)["evidence"]["images"] == first["evidence"]["images"]
    part = {**first["evidence"], "images": None, "image_domains": None, "captions": None, "caption_domains": None}
    assert newsclippings.as_if_unlabelled({**gone, "evidence": part}, evidence.root)["evidence"]["captions"] is None
    hostile = {**first["evidence"], "images": ["../data/x.jpg", "a.jpg"]}
    with pytest.raises(UnsafePathError, match="is refused, since it has"):
        newsclippings.as_if_unlabelled({**gone, "evidence": hostile}, evidence.root)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anthony Stokes last played, in August.", "Anthony Stokes last played in August"),
        ("It&#39;s <b>here</b>", "its HERE"),
        ("Caf\u00e9 M\u00fcnchen", "Cafe Munchen"),
        ("a < b and c > d", "a b and c d"),
    ],
)
def test_captions_are_equal_by_letters_and_digits(one: str, other: str) -> None:
    """Punctuation, case, accents, tags and entities do not matter."""
    assert caption_key(one) == caption_key(other) != ""


def test_the_hash_of_a_picture(world_and_evidence: tuple[World, Evidence]) -> None:
    """Another size or quality changes few bits, another picture many; one colour has none."""
    side = 64
    slope = Image.new("L", (side, side))
    slope.putdata([(x * x + 3 * y * (x - 20)) % 251 for y in range(side) for x in range(side)])
    data = io.BytesIO()
    slope.resize((200, 160)).save(data, "JPEG", quality=60)
    again = {"bytes": data.getvalue(), "path": None}
    assert (hash_picture(slope) ^ hash_picture(again)).bit_count() <= 4
    assert (hash_picture(slope) ^ hash_picture(slope.rotate(90))).bit_count() > 12
    assert hash_picture(Image.new("RGB", (9, 9), "red")) == 0


def test_evidence_that_is_not_there(world_and_evidence: tuple[World, Evidence], tmp_path: Path) -> None:
    """Lists without the folders of the searches are an error, and pictures that are not there are counted."""
    world, evidence = world_and_evidence
    (tmp_path / "lists").mkdir()
    shutil.copy(evidence.items("test"), tmp_path / "lists")
    done = run("evidence", tmp_path / "lists", "--data-dir", world.root)
    assert done.exit_code == 1
    assert "no row of test has evidence there. Are the folders of the searches beside the list" in done.stderr
    shutil.copytree(evidence.root, tmp_path / "ccn")
    (tmp_path / "ccn" / "direct_search" / "test" / "0" / "0.jpg").unlink()
    (tmp_path / "ccn" / "direct_search" / "test" / "2" / "0.jpg").write_bytes(b"no picture")
    found = newsclippings.measure_leak(tmp_path / "ccn", data_dir=world.root)
    assert found.unread == found.as_dict()["unread_pictures"] == 2
    assert "2 pictures of the evidence are not there" in str(found)
    assert newsclippings.measure_leak(evidence.root, data_dir=world.root).unread == 0
