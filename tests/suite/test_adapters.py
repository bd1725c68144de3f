"""Test sets of others: the same columns for all, truth for `evaluate --on`, and no path leads out of the folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from support.command import run
from support.constants import change_constant
from support.other_sets import COLUMNS, EXPECTED, FILES, list_rows, write_other_set
from support.world import World

import newsclippings
from _newsclippings.facts import TEST_SETS
from _newsclippings.suite import LAYOUTS
from newsclippings import BadFileError, ConfigError, DataNotFoundError, UnsafePathError

NAMES = [*EXPECTED]


def predict(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def measure(*args: object) -> dict[str, Any]:
    result = run("evaluate", *args, "--format", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_all_have_the_same_columns(tmp_path: Path, name: str) -> None:
    """A test set opens as a dataset: its rows in their order, pictures decoded when they are read."""
    folder = write_other_set(name, tmp_path / "set")
    found = newsclippings.open_test_set(name, folder)
    assert found.column_names == ["index", "id", "image_id", "caption", "image", "image_path", "label", "group"]
    assert found.features["label"].names == ["pristine", "falsified"]
    rows = [tuple(row[column] for column in COLUMNS) for row in found.remove_columns("image")]
    assert rows == EXPECTED[name]
    assert all(row["image"].size[0] > 0 for row in found)


@pytest.mark.parametrize("name", NAMES)
def test_the_list_itself_may_be_passed(tmp_path: Path, name: str) -> None:
    """Another split is chosen by its list; a folder around the set is accepted where consumers have one."""
    folder = write_other_set(name, tmp_path / "set")
    file = folder / FILES[name]
    other = file.rename(file.with_name(f"other{file.suffix}"))
    found = newsclippings.open_test_set(name, other)
    assert [tuple(row[c] for c in COLUMNS) for row in found.remove_columns("image")] == EXPECTED[name]
    assert None not in found["image"]


@pytest.mark.parametrize(("name", "around"), [("verite", "VERITE"), ("dgm4", "DGM4"), ("5pils-ooc", "5pils_ooc")])
def test_a_folder_around_it_is_accepted(tmp_path: Path, name: str, around: str) -> None:
    """The folder that has the folder of the set."""
    write_other_set(name, tmp_path / "data" / around)
    assert None not in newsclippings.open_test_set(name, tmp_path / "data")["image"]


def test_absent_pictures_are_null_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lists are public where pictures are gated: the dataset opens without them, with a warning."""
    folder = write_other_set("verite", tmp_path / "set")
    (folder / "images" / "true_0.jpg").unlink()
    with caplog.at_level(logging.WARNING, "newsclippings"):
        found = newsclippings.open_test_set("verite", folder)
    assert [image is None for image in found["image"]] == [True, True, False, False, False, False]
    assert "verite: 2 of 6 pictures are not there (images/true_0.jpg, ...)" in caplog.text


def test_verite_is_measured_as_its_authors_do(tmp_path: Path) -> None:
    """Accuracy by kind, of true rows with one kind of the others, and intervals over rows, since there are no pairs."""
    folder = write_other_set("verite", tmp_path / "set")
    scores = [0.1, 0.9, 0.2, 0.7, 0.8, 0.9]  # wrong in rows 2 and 3
    file = predict(tmp_path / "p.jsonl", [{"index": k, "score": s} for k, s in enumerate(scores)])
    found = measure(file, "--on", "verite", "--data", folder)
    value = {name: one and one["value"] for name, one in found["measures"].items()}
    assert value["accuracy"] == pytest.approx(4 / 6)
    assert value["balanced_accuracy"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert value["pair_accuracy"] is None
    by = {name: {key: one["measures"]["accuracy"]["value"] for key, one in keys.items()} for name, keys in
          found["by"].items()}  # fmt: skip
    assert by == {
        "group": {"true": 0.5, "miscaptioned": 1, "out-of-context": 0.5},
        "true_vs_mc": {"true, miscaptioned": 0.75},
        "true_vs_ooc": {"true, out-of-context": 0.5},
    }
    assert found["by"]["true_vs_ooc"]["true, out-of-context"]["rows"] == 4
    assert found["signature"].startswith("newsclippings|v:1.1.0|config:verite|split:VERITE|rows:6/6|matches:")
    assert found["signature"].endswith("|thr:0.5|ci:rows,2000,seed0")
    assert newsclippings.evaluate_on("verite", folder, file).as_dict() == found


def test_three_kinds_can_be_predicted(tmp_path: Path) -> None:
    """`group_predicted` gives the accuracy of the three kinds, and labels for all other measures."""
    folder = write_other_set("verite", tmp_path / "set")
    kinds = ["true", "miscaptioned", "out-of-context", "true", "out-of-context", "true"]  # wrong in rows 4 and 5
    rows = [{"index": k, "group_predicted": kind} for k, kind in enumerate(kinds)]
    file = predict(tmp_path / "p.jsonl", rows)
    found = measure(file, "--on", "verite", "--data", folder)
    assert found["group_accuracy"]["value"] == pytest.approx(4 / 6)
    assert 0 < found["group_accuracy"]["low"] < 4 / 6 < found["group_accuracy"]["high"] <= 1
    assert found["measures"]["accuracy"]["value"] == pytest.approx(5 / 6)
    assert "group_accuracy      0.6667" in run("evaluate", file, "--on", "verite", "--data", folder).stdout
    table = run("evaluate", file, "--on", "verite", "--data", folder, "--format", "csv").stdout
    assert f"{file},,,6,group_accuracy,0.6666666666666666," in table
    missing = measure(predict(file, rows[:-2]), "--on", "verite", "--data", folder, "--partial")
    assert missing["group_accuracy"]["value"] == pytest.approx(4 / 6)
    predict(file, [*rows[:-1], {"index": 5, "group_predicted": "ooc"}])
    result = run("evaluate", file, "--on", "verite", "--data", folder)
    assert result.exit_code == 1
    assert "line 6: expected miscaptioned, out-of-context, true as group_predicted, found 'ooc'" in result.stderr


def test_kinds_have_no_meaning_for_the_official_rows(world: World, tmp_path: Path) -> None:
    """NewsCLIPpings has two labels: `group_predicted` is refused there."""
    count = len(world.rows(split="test"))
    file = predict(tmp_path / "p.jsonl", [{"index": k, "group_predicted": "true"} for k in range(count)])
    result = run("evaluate", file, "--data-dir", world.root)
    assert (result.exit_code, "group_predicted is for test sets" in result.stderr) == (1, True)


def test_pairs_are_measured_where_there_are_some(tmp_path: Path) -> None:
    """5Pils-OOC has two captions of each picture: pair accuracy, and intervals over pairs."""
    folder = write_other_set("5pils-ooc", tmp_path / "set")
    rows = [{"id": 0, "image_id": 0, "score": 0.2}, {"id": 624, "image_id": 0, "score": 0.3}]
    rows += [{"id": 1, "image_id": 1, "score": 0.9}, {"id": 625, "image_id": 1, "score": 0.8}]
    found = measure(predict(tmp_path / "p.jsonl", rows), "--on", "5pils-ooc", "--data", folder)
    assert found["measures"]["pair_accuracy"]["value"] == 0.5
    assert found["signature"].endswith("|ci:pairs,2000,seed0")


def test_breakdowns_of_the_others(tmp_path: Path) -> None:
    """DGM4 by manipulation; MMFakeBench also by folder, which shows the rows of NewsCLIPpings in it."""
    for name, by in (("dgm4", {"group"}), ("mmfakebench", {"group", "folder"})):
        folder = write_other_set(name, tmp_path / name)
        rows = [{"index": row[0], "label_predicted": 1} for row in EXPECTED[name]]
        found = measure(predict(tmp_path / "p.jsonl", rows), "--on", name, "--data", folder)
        assert found["by"].keys() == by
    assert {*found["by"]["folder"]} == {"fever_AI_val_100", "bbc_val_50", "Newsclipings_person_val_50"}


def test_a_threshold_comes_from_the_validation_split(world: World, tmp_path: Path) -> None:
    """`val:FILE` are predictions of NewsCLIPpings: nothing is chosen on the test set."""
    folder = write_other_set("verite", tmp_path / "set")
    rows = world.rows(split="validation")
    chosen = [{"index": row["index"], "score": 5 + row["falsified"]} for row in rows]
    scores = [{"index": k, "score": 5 + row[5]} for k, row in enumerate(EXPECTED["verite"])]
    file, val = predict(tmp_path / "p.jsonl", scores), predict(tmp_path / "val.jsonl", chosen)
    args = ["--on", "verite", "--data", folder, "--threshold", f"val:{val}", "--data-dir", world.root]
    found = measure(file, *args)
    assert found["measures"]["accuracy"]["value"] == 1
    assert "|thr:val," in found["signature"]


def test_two_models_are_compared(tmp_path: Path) -> None:
    """As on the official rows; without pairs there is no test of pairs."""
    folder = write_other_set("mmfakebench", tmp_path / "set")
    a = predict(tmp_path / "a.jsonl", [{"index": k, "score": 0.1 * k} for k in range(4)])
    b = predict(tmp_path / "b.jsonl", [{"index": k, "score": 1 - 0.1 * k} for k in range(4)])
    first = measure(a, b, "--on", "mmfakebench", "--data", folder)["comparisons"][0]
    assert (first["measure"], first["mcnemar_pairs_p"]) == ("accuracy", None)
    assert first["mcnemar_p"] == 1


PATHS = ["../x.jpg", "images/../../x.jpg", "//etc/passwd", "~/x", "a\\b", "a\nb", "", ".", "https://host/x.jpg"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str, path: str) -> None:
    """A path that could lead elsewhere is an error that names the row."""
    rows = list_rows(name)
    rows[1]["image" if name == "dgm4" else "image_path"] = path
    folder = write_other_set(name, tmp_path / "set", rows)
    with pytest.raises(UnsafePathError, match=r"(line \d|row 1): the path .* is refused, since it") as error:
        newsclippings.open_test_set(name, folder)
    assert "\n" not in str(error.value)


def test_a_link_that_leads_out_is_refused(world: World, tmp_path: Path) -> None:
    """As in a folder of VisualNews."""
    folder = write_other_set("verite", tmp_path / "set")
    (folder / "images" / "true_0.jpg").unlink()
    os.symlink(world.data_json, folder / "images" / "true_0.jpg")
    with pytest.raises(UnsafePathError, match="leads through a link"):
        newsclippings.open_test_set("verite", folder)


DAMAGES: dict[str, tuple[str, str, str]] = {
    "no JSON": ("dgm4", "[{", "expected a JSON list of objects"),
    "an object": ("dgm4", "{}", r"expected a JSON list of objects, found \{\}"),
    "no object": ("dgm4", "[7]", "row 0: expected an object, found 7"),
    "no rows": ("dgm4", "[]", "expected rows, found none"),
    "an id as a text": ("dgm4", '[{"id": "7"}]', "row 0: expected an integer as id, found '7'"),
    "a boolean as an id": ("dgm4", '[{"id": true}]', "row 0: expected an integer as id, found True"),
    "no text": ("dgm4", '[{"id": 7, "image": "a"}]', "row 0: expected a text as text, found None"),
    "a surrogate": ("dgm4", '[{"id": 7, "image": "a", "text": "\\ud800"}]', "row 0: expected a text as text, found"),
    "no answer": (
        "mmfakebench",
        '[{"image_path": "/a", "text": "b", "fake_cls": "c", "gt_answers": ["Real"]}]',
        "row 0: expected True or Fake as gt_answers, found 'Real'",
    ),
    "no column": ("verite", "caption,image_path\na,b\n", "expected a column label, found caption, image_path"),
    "another label": ("verite", "caption,image_path,label\na,b,false\n", "line 2: expected true, miscaptioned, out"),
    "few values": ("verite", "caption,image_path,label\na,b\n", "line 2: expected 3 values, found another number"),
    "many values": ("verite", "caption,image_path,label\na,b,true,d\n", "line 2: expected 3 values, found another"),
    "an open quote": ("verite", 'caption,image_path,label\n"a,b,true\n', "expected comma-separated values in UTF-8"),
    "empty": ("verite", "", "expected a column caption, found none"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_another_content_is_an_error_in_a_line(tmp_path: Path, case: str) -> None:
    """The error names the file, the row, and what was expected."""
    name, text, says = DAMAGES[case]
    folder = write_other_set(name, tmp_path / "set")
    (folder / FILES[name]).write_text(text)
    with pytest.raises(BadFileError, match=says) as error:
        newsclippings.open_test_set(name, folder)
    assert "\n" not in str(error.value)


def test_wrong_calls(world: World, tmp_path: Path) -> None:
    """A name that is unknown, a folder of something else, options that belong together or have no effect."""
    with pytest.raises(ConfigError, match=r"on='verit' is not known\. .*Did you mean 'verite'\?"):
        newsclippings.open_test_set("verit", tmp_path)
    with pytest.raises(DataNotFoundError, match=r"expected VERITE\.csv or VERITE/VERITE\.csv, found neither"):
        newsclippings.open_test_set("verite", tmp_path)
    with pytest.raises(ConfigError, match="No predictions were passed"):
        newsclippings.evaluate_on("verite", tmp_path)
    file = predict(tmp_path / "p.jsonl", [{"index": 0, "score": 1}])
    calls: list[tuple[list[object], str]] = [
        (["--on", "verite"], "--on and --data belong together"),
        (["--data", tmp_path], "--on and --data belong together"),
        (["--on", "verite", "--data", tmp_path, "--split", "test"], "--split has no effect with --on"),
        (["--on", "verite", "--data", tmp_path, "--config", "merged_balanced"], "--config has no effect with --on"),
        (["--on", "verit", "--data", tmp_path], "Did you mean 'verite'?"),
    ]
    for args, says in calls:
        result = run("evaluate", file, *args)
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr


def test_every_set_can_be_read() -> None:
    """The choices of `--on` are the test sets that have a layout."""
    assert [*LAYOUTS] == [*TEST_SETS] == NAMES


def test_lists_that_would_be_read_wrongly(tmp_path: Path) -> None:
    """A column twice, a URL and a list that is too large are errors, each in one sentence."""
    (tmp_path / "VERITE.csv").write_text("caption,caption,image_path,label\na,b,c.jpg,true\n")
    with pytest.raises(BadFileError, match="expected different names of columns, found one twice"):
        newsclippings.open_test_set("verite", tmp_path)
    with pytest.raises(ConfigError, match="is a URL; expected a local folder"):
        newsclippings.open_test_set("verite", "https://example.org/VERITE")


def test_a_list_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named once."""
    change_constant(monkeypatch, "MOST", 10, of="adapters")
    folder = write_other_set("5pils-ooc", tmp_path)
    says = r"^\S+test.json: expected at most 10 bytes, found [0-9,]+. Is it another file\?$"
    with pytest.raises(BadFileError, match=says):
        newsclippings.open_test_set("5pils-ooc", folder)
