"""The option `evidence`: rows join CCN's published folders by their number, and nothing leads out of the folder."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.evidence import Evidence, write_evidence
from support.folders import build
from support.reading import raw
from support.world import SPLITS, World

import newsclippings
from newsclippings import BadFileError, ConfigError, DataNotFoundError, NewsCLIPpings, UnsafePathError


def load(world: World, evidence: Evidence | Path, **options: Any) -> Any:
    root = evidence.root if isinstance(evidence, Evidence) else evidence
    return newsclippings.load("merged_balanced", data_dir=str(world.root), evidence=str(root), **options)


@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
@pytest.mark.parametrize("inner", ["", "merged_balanced/"])
def test_rows_have_their_evidence(world: World, tmp_path: Path, inner: str, streaming: bool) -> None:
    """Each row has that of its own number; all other columns are those of a build without evidence."""
    evidence = write_evidence(world, tmp_path / "ccn", inner=inner)
    found = load(world, evidence, streaming=streaming)
    for split in SPLITS:
        rows = raw(found[split])
        expected = [evidence.rows[split].get(row["index"]) for row in world.rows(split=split)]
        assert [row["evidence"] for row in rows] == expected
        assert [{name: row[name] for name in row if name != "evidence"} for row in rows] == world.rows(split=split)
        assert [*rows[0]][-1] == "evidence"
        assert rows[4]["evidence"] is None


def test_an_odd_row_has_the_direct_search_of_its_twin(world: World, tmp_path: Path) -> None:
    """Pictures are the same for twins, captions are not; nothing is masked for the falsified one."""
    rows = load(world, write_evidence(world, tmp_path / "ccn"), split="train", images="none")
    first, second = rows[0]["evidence"], rows[1]["evidence"]
    assert first["images"] == second["images"] == ["direct_search/train/0/0.jpg", "direct_search/train/0/2.jpg"]
    assert (first["image_keep"], second["image_keep"]) == ([True, False], [True, True])
    assert (first["captions"][2], second["captions"][2]) == ("Text 0", "Text 1")


def test_the_folder_may_have_another_name_around_it(world: World, tmp_path: Path) -> None:
    """A folder that has it as `queries_dataset` is accepted, as consumers keep it."""
    evidence = write_evidence(world, tmp_path / "data" / "queries_dataset")
    rows = load(world, tmp_path / "data", split="test", images="none")
    assert rows[0]["evidence"] == evidence.rows["test"][0]


def test_rows_without_evidence_are_counted(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The report and the log say how many rows have evidence."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    options = {"data_dir": str(world.root), "evidence": str(evidence.root), "splits": ["test"], "images": "none"}
    builder = NewsCLIPpings(**options)
    with caplog.at_level(logging.INFO, "newsclippings"):
        builder.download_and_prepare()
    count = len(world.rows(split="test"))
    assert builder.join_reports["test"]["coverage"] == {"evidence": count - 2}
    assert f"evidence for {count - 2}" in caplog.text


def test_a_changed_file_is_noticed(world: World, tmp_path: Path) -> None:
    """A build after a change of one row's file has the new content."""
    evidence = write_evidence(world, tmp_path / "ccn")
    assert load(world, evidence, split="test", images="none")[0]["evidence"]["captions"][2] == "Text 0"
    file = evidence.inverse("test", 0) / "captions_info"
    file.write_text(file.read_text().replace("Text 0", "Text 0, corrected"))
    assert load(world, evidence, split="test", images="none")[0]["evidence"]["captions"][2] == "Text 0, corrected"


def test_missing_parts_are_null(world: World, tmp_path: Path) -> None:
    """A search without a folder, or a folder without its file, gives null; a list of positions may be absent."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    evidence.change("test", 0, inv_path="inverse_search/test/none", direct_path=None)
    evidence.change("test", 1, direct_path="direct_search/none")
    (evidence.direct("test", 2) / "metadata_of_features").unlink()
    (evidence.direct("test", 6) / "imgs_to_keep_idx").unlink()
    (evidence.inverse("test", 6) / "captions_to_keep_idx").unlink()
    (evidence.inverse("test", 7) / "inverse_annotation.json").unlink()
    rows = load(world, evidence, split="test", images="none")["evidence"]
    expected = evidence.rows["test"]
    of_images, of_captions = (
        {name for name in expected[0] if name.startswith("image") == images} for images in (True, False)
    )
    assert rows[0] is None
    assert rows[1] == expected[1] | dict.fromkeys(of_images)
    assert rows[2] == expected[2] | dict.fromkeys(of_images)
    assert rows[6] == expected[6] | {"image_keep": None, "caption_keep": None}
    assert rows[7] == expected[7] | dict.fromkeys(of_captions) | {"image_keep": None}


def test_a_built_folder_has_it(world: World, tmp_path: Path) -> None:
    """`newsclippings build --evidence` writes the column, and everything reads and describes the folder."""
    evidence, out = write_evidence(world, tmp_path / "ccn"), tmp_path / "out"
    build(world, out, "--images", "none", "--evidence", evidence.root)
    files = sorted(out.glob("merged_balanced/*test*.parquet")) or sorted(out.rglob("*test*.parquet"))
    values = [row["evidence"] for file in files for row in pq.read_table(file).to_pylist()]
    assert values == [evidence.rows["test"].get(k) for k in range(len(values))]
    loaded = datasets.load_dataset(str(out), "merged_balanced", split="test")
    assert loaded["evidence"][:] == values
    assert "| `evidence` | struct |" in re.sub(" +", " ", (out / "README.md").read_text())
    for command in (["verify", "--built", out], ["card", out, "--check"], ["croissant", out], ["stats", out]):
        result = run(*command)
        assert result.exit_code == 0, result.output


def test_only_merged_balanced_has_evidence(world: World, tmp_path: Path) -> None:
    """Its rows are counted in merged_balanced; for another config it is refused."""
    with pytest.raises(ConfigError, match=r"evidence= is of the rows of merged_balanced only\. For scene_resnet_place"):
        NewsCLIPpings("cache", config_name="scene_resnet_place", data_dir=str(world.root), evidence=str(tmp_path))
    result = run("build", tmp_path / "o", "--config", "scene_resnet_place", "--evidence", tmp_path)
    assert (result.exit_code, "--evidence is of the rows of merged_balanced only" in result.stderr) == (1, True)


def test_another_folder_is_refused(world: World, tmp_path: Path) -> None:
    """The error names the file that is missing; a URL is refused."""
    with pytest.raises(DataNotFoundError, match=r"evidence='.*' has no dataset_items_test\.json\. Pass the folder"):
        load(world, tmp_path, split="test")
    with pytest.raises(ConfigError, match=r"evidence='https://host/x' is a URL; expected a local folder"):
        newsclippings.load(split="test", data_dir=str(world.root), evidence="https://me:secret@host/x")


def test_an_output_is_never_among_the_evidence(world: World, tmp_path: Path) -> None:
    """A folder is not built into the evidence."""
    evidence = write_evidence(world, tmp_path / "ccn")
    result = run(
        "build", evidence.root / "out", "--data-dir", world.root, "--images", "none", "--evidence", evidence.root
    )
    assert result.exit_code == 1
    assert not (evidence.root / "out").exists()


PATHS = [
    "../secret", "inverse_search/../../secret", "/etc", "~/x", "a\\b", "a\nb", "", ".", "./..", "inverse_search/\0",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("which", ["inv_path", "direct_path"])
def test_no_path_leads_out_of_the_folder(world: World, tmp_path: Path, path: str, which: str) -> None:
    """A path of the list that could lead elsewhere is an error that names the list."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "inverse_annotation.json").write_text('{"entities": ["secret"]}')
    evidence.change("test", 3, **{which: path})
    with pytest.raises(UnsafePathError, match=r"dataset_items_test\.json: .* is no plain path below the folder"):
        load(world, evidence, split="test", images="none")


@pytest.mark.parametrize("name", ["../2.jpg", "/etc/passwd", "..", "", "a\\b", "a\nb"])
def test_no_name_of_a_picture_leads_out_of_its_folder(world: World, tmp_path: Path, name: str) -> None:
    """A name of a picture is a plain one."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    about = {"0": {"domain": "x.example", "name": name}}
    (evidence.direct("test", 0) / "metadata_of_features").write_text(json.dumps(about))
    with pytest.raises(UnsafePathError, match=r"metadata_of_features: .* is no name of a file"):
        load(world, evidence, split="test", images="none")


def test_links_that_lead_out_are_refused(world: World, tmp_path: Path) -> None:
    """Neither a folder nor a file of a row may be a link to another place."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    os.symlink(world.root, evidence.root / "elsewhere")
    evidence.change("test", 0, inv_path="elsewhere")
    with pytest.raises(UnsafePathError, match="is a link that leads out of"):
        load(world, evidence, split="test", images="none")
    evidence.change("test", 0, inv_path="inverse_search/test/0")
    file = evidence.inverse("test", 0) / "inverse_annotation.json"
    file.unlink()
    os.symlink(world.data_json, file)
    with pytest.raises(UnsafePathError, match="is a link, which could lead out of the folder"):
        load(world, evidence, split="test", images="none")


def _items(change: Callable[[dict[str, Any]], Any]) -> Callable[[Evidence], None]:
    def damage(evidence: Evidence) -> None:
        evidence.items("test").write_text(json.dumps(change(json.loads(evidence.items("test").read_text()))))

    return damage


def _file(side: str, name: str, text: str) -> Callable[[Evidence], None]:
    def damage(evidence: Evidence) -> None:
        place = evidence.inverse("test", 0) if side == "inverse" else evidence.direct("test", 0)
        (place / name).write_text(text)

    return damage


DAMAGES = {
    "a list": (_items(lambda items: [*items]), r"dataset_items_test\.json: expected a JSON object, found \["),
    "of another split": (_items(lambda items: items | {"7000": items["0"]}), r"numbers of the \d+ rows .*'7000'"),
    "no numbers": (_items(lambda items: items | {"-1": items["0"]}), r"found '-1'\. Is it the list of another split"),
    "leading zeros": (_items(lambda items: items | {"007": items["0"]}), "found '007'"),
    "no object": (_items(lambda items: items | {"0": "x"}), r"json: 0: expected an object, found 'x'"),
    "no path": (_items(lambda items: items | {"0": {"inv_path": 7}}), r"0: inv_path: expected a path, found 7"),
    "truncated": (_file("inverse", "inverse_annotation.json", '{"entities": ["a'), "the end of the file"),
    "empty": (_file("inverse", "captions_info", ""), "captions_info: expected a JSON object, found"),
    "numbers as texts": (_file("inverse", "inverse_annotation.json", '{"entities": [1]}'), "entities: expected a list"),
    "no captions": (_file("inverse", "captions_info", "{}"), "captions: expected a list of texts, found None"),
    "domains": (_file("inverse", "captions_info", '{"captions": ["a"], "domains": []}'), "domains: expected an object"),
    "a domain": (
        _file("inverse", "captions_info", '{"captions": ["a"], "domains": {"0": 1}}'),
        "domains: expected a list of texts",
    ),
    "beyond": (_file("inverse", "captions_to_keep_idx", '{"index_of_captions_tokeep": [3]}'), "numbers below 3, found"),
    "below": (_file("direct", "imgs_to_keep_idx", '{"index_of_images_tokeep": ["-1"]}'), "numbers below 2, found"),
    "no list": (_file("direct", "imgs_to_keep_idx", "{}"), "numbers below 2, found None"),
    "gaps": (_file("direct", "metadata_of_features", '{"1": {"name": "a"}}'), "objects under the keys 0 to 0"),
    "nested": (_file("direct", "metadata_of_features", "[" * 100_000), "metadata_of_features: expected a JSON object"),
    "twice": (_file("direct", "metadata_of_features", '{"0": {}, "0": {}}'), "the key '0' more than once"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_evidence_is_an_error_in_a_line(world: World, tmp_path: Path, case: str) -> None:
    """The error names the file and what is wrong, and nothing is left out silently."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    damage, says = DAMAGES[case]
    damage(evidence)
    with pytest.raises(BadFileError, match=says) as error:
        load(world, evidence, split="test", images="none")
    assert "\n" not in str(error.value)


def test_odd_texts_are_kept(world: World, tmp_path: Path) -> None:
    """Texts of strangers come out as they are, but for lone surrogates, which no file can hold."""
    evidence = write_evidence(world, tmp_path / "ccn", splits=("test",))
    text = '{"entities": ["\\ud800x", "\\u0000", "\\u202e", "<b>"]}'
    (evidence.inverse("test", 0) / "inverse_annotation.json").write_text(text)
    found = load(world, evidence, split="test", images="none")[0]["evidence"]
    assert (found["entities"], found["labels"]) == (["\ufffdx", "\0", "\u202e", "<b>"], [])
