"""`newsclippings stats`: the numbers match the plan, and the charts show them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.command import run
from support.constants import change_constant
from support.world import CONFIGS, SOURCES, SPLITS, Row, World

from _newsclippings import facts as schema
from _newsclippings.stats import measures as stats
from _newsclippings.stats.measures import TOP
from _newsclippings.stats.plots import draw_stats

LABELS = ("pristine", "falsified")
TWO = ("merged_balanced", "scene_resnet_place")


def build(world: World, out: Path, *configs: str, **options: str) -> Path:
    named = [f"--config={config}" for config in configs]
    result = run("build", out, "--data-dir", world.root, *named, *(f"--{k}={v}" for k, v in options.items()))
    assert result.exit_code == 0, result.output
    return out


def numbers(folder: Path) -> dict[str, Any]:
    result = run("stats", folder, "--format", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.keys() == {"version", "manifests", "configs"}
    assert found["manifests"] == {
        config: hashlib.sha256((folder / config / "manifest.json").read_bytes()).hexdigest()
        for config in found["configs"]
    }
    assert found["version"] == schema.VERSION
    configs: dict[str, Any] = found["configs"]
    return configs


def check_distribution(found: dict[str, Any], values: list[float], width: float | None) -> None:
    """Assert summary and histogram of some values; `width` of the bins, None if they grow."""
    if not values:
        assert found == {"count": 0}
        return
    cuts = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    expected = dict(zip(("p5", "p25", "median", "p75", "p95"), (cuts[k] for k in (0, 4, 9, 14, 18)), strict=True))
    expected |= {"min": min(values), "max": max(values), "mean": statistics.fmean(values), "count": len(values)}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    edges, counts = found["edges"], found["counts"]
    bins = list(pairwise(edges))
    assert counts == [sum(a <= v < b or v == b == edges[-1] for v in values) for a, b in bins]
    assert sum(counts) == len(values)
    assert counts[0] > 0
    assert [b - a for a, b in bins] == pytest.approx([width] * len(bins)) if width else edges == sorted(edges)


def by_label(rows: list[Row], column: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row[column] or "unknown", dict.fromkeys(LABELS, 0))
        counts[LABELS[row["falsified"]]] += 1
    return found


def check_config(found: dict[str, Any], rows: dict[str, list[Row]]) -> None:
    """Assert all numbers of a config, except those of its pictures."""
    everything = [row for of_split in rows.values() for row in of_split]
    assert found["rows"] == {
        split: {label: sum(row["falsified"] == k for row in some) for k, label in enumerate(LABELS)}
        for split, some in rows.items()
    }
    assert list(found["rows"]) == list(rows)
    measures = {row["source_dataset"] for row in everything}
    assert found["scores"].keys() == {SOURCES[k] for k in measures}
    for k in measures:
        scores = [row["similarity_score"] for row in everything if row["falsified"] and row["source_dataset"] == k]
        check_distribution(found["scores"][SOURCES[k]], scores, 0.02)
    for what, column in (("outlets", "source"), ("topics", "topic")):
        for owner, name in (("captions", column), ("pictures", f"image_{column}")):
            assert found[what][owner] == by_label(everything, name)
            totals = [sum(labels.values()) for labels in found[what][owner].values()]
            assert totals == sorted(totals, reverse=True)
    captions = {row["id"]: row["caption"] for row in everything}
    check_distribution(found["caption_characters"], [len(text) for text in captions.values() if text is not None], 10)
    uses = Counter(row["image_id"] for row in everything)
    assert found["reused"]["rows_per_picture"] == {str(n): c for n, c in sorted(Counter(uses.values()).items())}
    most = sorted(uses, key=lambda image_id: (-uses[image_id], image_id))[:TOP]
    assert found["reused"]["most"] == [{"image_id": image_id, "rows": uses[image_id]} for image_id in most]


def check_pictures(found: dict[str, Any], rows: list[Row]) -> None:
    stored = {row["image_id"]: row["image"]["bytes"] for row in rows if row["image"]}
    sizes = []
    for data in stored.values():
        try:
            with Image.open(io.BytesIO(data)) as picture:
                sizes.append(picture.size)
        except OSError:
            continue
    assert found["count"] == len(stored)
    assert found["missing"] == len({row["image_id"] for row in rows} - stored.keys())
    assert found["not_pictures"] == len(stored) - len(sizes)
    check_distribution(found["bytes"], [len(data) for data in stored.values()], None)
    check_distribution(found["width"], [width for width, _ in sizes], 50)
    check_distribution(found["height"], [height for _, height in sizes], 50)


def of_plan(world: World, config: str, **options: Any) -> dict[str, list[Row]]:
    return {split: world.rows(config, split, **options) for split in SPLITS}


def test_the_numbers_are_those_of_the_plan(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of every config match the plan, with any number of rows read at a time."""
    folder = build(world, tmp_path / "out", *CONFIGS)
    found = numbers(folder)
    assert list(found) == list(schema.CONFIGS)
    for config in CONFIGS:
        rows = of_plan(world, config)
        check_config(found[config], rows)
        check_pictures(found[config]["pictures"], [row for some in rows.values() for row in some])
    change_constant(monkeypatch, "ROWS", 5, of="measures")
    change_constant(monkeypatch, "ROWS_OF_PICTURES", 3, of="measures")
    assert numbers(folder) == found


def test_without_pictures(world: World, tmp_path: Path) -> None:
    """A folder without pictures has all other numbers; one with few splits has only theirs."""
    result = run("build", tmp_path / "out", "--data-dir", world.root, "--images", "none", "--split", "test")
    assert result.exit_code == 0, result.output
    found = numbers(tmp_path / "out")["merged_balanced"]
    assert found["pictures"] is None
    check_config(found, {"test": world.rows(split="test")})


def test_shared_pictures_have_their_own_numbers(world: World, tmp_path: Path) -> None:
    """With `--images once`, numbers of pictures are in the config `images`, and it has no others."""
    found = numbers(build(world, tmp_path / "out", *TWO, images="once"))
    assert list(found) == [*TWO, "images"]
    for config in TWO:
        check_config(found[config], of_plan(world, config))
    thin = [row for some in of_plan(world, TWO[1]).values() for row in some]
    check_pictures(found[TWO[0]]["pictures"], [row for some in of_plan(world, TWO[0]).values() for row in some])
    assert found[TWO[1]]["pictures"] is None
    assert found["images"].keys() == {"pictures"}
    check_pictures(found["images"]["pictures"], thin)


def test_missing_records_and_pictures_are_counted(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Rows without a record have an unknown outlet and topic; missing and damaged pictures are counted separately."""
    world = new_world(tar=False, metadata=False)
    first, second, third = list({row["image_id"]: row for row in world.rows(split="test")}.values())[:3]
    del world.records[first["image_id"]]
    world.write_data_json()
    (world.origin / second["image_path"]).unlink()
    world.pictures[third["image_path"]] = b"GIF89a"
    (world.origin / third["image_path"]).write_bytes(b"GIF89a")
    found = numbers(build(world, tmp_path / "out", "merged_balanced", missing="null"))["merged_balanced"]
    there = world.pictures.keys() - {second["image_path"]}
    rows = of_plan(world, "merged_balanced", pictures=there)
    check_config(found, rows)
    check_pictures(found["pictures"], [row for some in rows.values() for row in some])
    assert "unknown" in found["outlets"]["pictures"]
    assert found["pictures"]["missing"] == 2
    assert found["pictures"]["not_pictures"] == 1


def test_only_the_most_frequent_topics(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The twenty most frequent topics are counted, and all others together, so that every row counts."""
    world = new_world(tar=False, metadata=False)
    for k, record in enumerate(world.records.values()):
        record.topic = f"topic {k % 31:02}"
    world.write_data_json()
    found = numbers(build(world, tmp_path / "out", "merged_balanced", images="none"))["merged_balanced"]["topics"]
    rows = [row for some in of_plan(world, "merged_balanced").values() for row in some]
    for owner, column in (("captions", "topic"), ("pictures", "image_topic")):
        counts = Counter(row[column] for row in rows)
        most = sorted(counts, key=lambda name: (-counts[name], name))
        assert list(found[owner]) == most[:TOP] + [f"({len(most) - TOP} others)"] * (len(most) > TOP)
        assert sum(sum(labels.values()) for labels in found[owner].values()) == len(rows)


def test_a_table_for_people(world: World, tmp_path: Path) -> None:
    """The text output has counts of splits, sub-splits, outlets and pictures, in lines of a terminal's width."""
    result = run("stats", build(world, tmp_path / "out", *TWO, images="once"))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "merged_balanced: 46 rows (train 24, validation 10, test 12)"
    assert max(map(len, lines)) <= 100
    rows = [row for some in of_plan(world, "merged_balanced").values() for row in some]
    by_outlet = by_label(rows, "image_source")
    for outlet, labels in by_label(rows, "source").items():
        cells = [(sum(one.values()), one["falsified"] / sum(one.values())) for one in (labels, by_outlet[outlet])]
        expected = [outlet, *(cell for n, share in cells for cell in (str(n), f"{share:.1%}"))]
        assert expected in [line.split() for line in lines]
    assert [line for line in lines if not line.startswith(" ")] == [
        lines[0], "", "scene_resnet_place: {} rows ({})".format(
            sum(map(len, of_plan(world, "scene_resnet_place").values())),
            ", ".join(f"{split} {len(some)}" for split, some in of_plan(world, "scene_resnet_place").items()),
        ), "", "images:",
    ]  # fmt: skip


def test_charts(world: World, tmp_path: Path) -> None:
    """Each config has charts for its numbers, with nothing cut off at an edge, and the same bytes each time."""
    pytest.importorskip("matplotlib")
    folder = build(world, tmp_path / "out", TWO[1], images="once")
    result = run("stats", folder, "--plot", tmp_path / "new" / "charts")
    assert result.exit_code == 0, result.output
    charts = ("scores", "outlets", "topics", "caption-characters", "reused")
    names = ["stats.json", *(f"{TWO[1]}-{chart}.png" for chart in charts), "images-pictures.png"]
    files = [tmp_path / "new" / "charts" / name for name in names]
    assert result.stdout.splitlines() == list(map(str, files))
    assert sorted(files) == sorted((tmp_path / "new" / "charts").iterdir())
    assert json.loads(files[0].read_text(encoding="utf-8"))["configs"] == numbers(folder)
    for file in files[1:]:
        with Image.open(file) as chart:
            assert chart.format == "PNG"
            assert chart.width == 1200
            width, height = chart.size
            inner = Image.new("RGB", (width - 4, height - 4), "white")
            rim = chart.convert("RGB")
            rim.paste(inner, (2, 2))
            assert rim.getcolors() == [(width * height, (255, 255, 255))], file.name
    again = run("stats", folder, "--plot", tmp_path / "again", "--format", "json")
    assert json.loads(again.stdout) == {"files": [str(tmp_path / "again" / name) for name in names]}
    assert all((tmp_path / "again" / file.name).read_bytes() == file.read_bytes() for file in files)


@pytest.mark.usefixtures("small_charts")
def test_charts_in_the_card(world: World, tmp_path: Path) -> None:
    """The card shows charts in the folder's `charts` as long as they match the rows."""
    folder = build(world, tmp_path / "out", TWO[0])
    plain = (folder / "README.md").read_text(encoding="utf-8")
    drawn = run("stats", folder, "--plot", folder / "charts").stdout.splitlines()
    card = (folder / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^!\[(.*)\]\((charts/.*)\)$", card, re.M)
    assert [str(folder / place) for _, place in shown] == sorted(drawn[1:])
    assert ("merged_balanced: caption characters", "charts/merged_balanced-caption-characters.png") in shown
    checked = run("card", folder, "--check"), run("verify", "--built", folder)
    assert [result.exit_code for result in checked] == [0, 0], checked
    build(world, folder, TWO[1])
    assert "](charts/" not in (folder / "README.md").read_text(encoding="utf-8")
    checked = run("card", folder, "--check"), run("verify", "--built", folder)
    assert [result.exit_code for result in checked] == [0, 1], checked
    message = f"{folder}/charts has charts of another build. Run `newsclippings stats"
    assert message in checked[1].stdout
    shutil.rmtree(folder / TWO[1])
    assert run("card", folder).exit_code == 0
    (folder / "charts" / "stats.json").write_text('{"version": "", "manifests": {}, "configs": {}}')
    assert message in run("verify", "--built", folder).stdout
    assert run("stats", folder, "--plot", folder / "charts").exit_code == 0
    assert run("verify", "--built", folder).exit_code == 0
    shutil.rmtree(folder / "charts")
    assert run("card", folder).exit_code == 0
    assert (folder / "README.md").read_text(encoding="utf-8") == plain


@pytest.mark.usefixtures("small_charts")
def test_outdated_charts_are_removed(world: World, tmp_path: Path) -> None:
    """Charts of pictures that an earlier build had are removed from card and folder; other files are kept."""
    folder = build(world, tmp_path / "out", TWO[0])
    chart = folder / "charts" / "merged_balanced-pictures.png"
    run("stats", folder, "--plot", folder / "charts")
    assert chart.exists()
    build(world, folder, TWO[0], images="none")
    other = folder / "charts" / "merged_balanced-of-mine.png"
    other.write_bytes(b"mine")
    assert run("stats", folder, "--plot", folder / "charts").exit_code == 0
    assert not chart.exists()
    assert other.read_bytes() == b"mine"
    other.unlink()
    assert run("card", folder).exit_code == 0
    assert chart.name not in (folder / "README.md").read_text(encoding="utf-8")
    assert run("verify", "--built", folder).exit_code == 0


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_is_named(world: World, tmp_path: Path, damage: str) -> None:
    """A damaged file is an error of one line that names it and what to do."""
    folder = build(world, tmp_path / "out", TWO[0])
    shard = next((folder / TWO[0]).glob("test-*.parquet"))
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:500])
    else:
        shard.unlink()
    result = run("stats", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    says = {
        "cut": "cannot be read as Parquet that `newsclippings build` wrote",
        "gone": "there is no such file.",
    }
    assert f"Error: {shard}: {says[damage]}" in result.stderr


def test_charts_do_not_go_among_the_data(world: World, tmp_path: Path) -> None:
    """Charts are refused in the folder of a config."""
    pytest.importorskip("matplotlib")
    folder = build(world, tmp_path / "out", TWO[0])
    result = run("stats", folder, "--plot", folder / TWO[0])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"charts are expected in {folder / 'charts'}, or in a folder elsewhere" in result.stderr
    assert run("verify", "--built", folder).exit_code == 0


def test_charts_of_empty_data(tmp_path: Path) -> None:
    """Charts can be drawn without rows, without pictures, and for a single value."""
    pytest.importorskip("matplotlib")
    none: dict[str, Any] = {"count": 0}
    one = stats._distribution(np.array([0.3]), "score")
    pictures = {"count": 0, "missing": 0, "not_pictures": 0, "bytes": none, "width": none, "height": none}
    about = {
        "rows": {}, "scores": {"a": one, "b": none}, "caption_characters": none, "pictures": pictures,
        "outlets": {"captions": {}, "pictures": {}}, "topics": {"captions": {}, "pictures": {}},
        "reused": {"rows_per_picture": {}, "most": []},
    }  # fmt: skip
    assert len(draw_stats({"configs": {"x": about}}, tmp_path)) == 6


def test_numbers_need_no_matplotlib(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib, --plot is one line that names the extra, before anything is read or written."""
    folder = build(world, tmp_path / "out", "merged_balanced")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("stats", folder).exit_code == 0
    result = run("stats", folder, "--plot", tmp_path / "charts")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "pip install 'newsclippings[plot]'" in result.stderr
    assert not (tmp_path / "charts").exists()


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Another folder is an error that names it and what was expected."""
    result = run("stats", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "expected a folder that `newsclippings build` wrote" in result.stderr


def test_odd_names_and_scores(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Dollars are no formulas, long names leave space for bars, and an outlier does not create a million bins."""
    pytest.importorskip("matplotlib")
    world = new_world(tar=False)
    for k, record in enumerate(world.records.values()):
        record.topic = [r"$\frac{$", "US$ vs $_", "t" * 200, "\x1b[31m"][k % 4]
    world.write_data_json()
    matches = world.annotations("merged_balanced", "train")
    content = json.loads(matches.read_text())
    content["annotations"][1]["similarity_score"] = 1e15
    matches.write_text(json.dumps(content))
    folder = build(world, tmp_path / "out", "merged_balanced", images="none")
    for one in numbers(folder)["merged_balanced"]["scores"].values():
        assert len(one.get("counts", [])) <= stats.MAX_BINS + 2
        assert sum(one.get("counts", [])) == one["count"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("stats", folder, "--plot", tmp_path / "charts").exit_code == 0
    assert "\x1b" not in run("stats", folder).stdout


@pytest.mark.parametrize("score", [1e16, 1e307, -1e300, float("nan"), float("inf")])
def test_scores_that_cannot_be_drawn(world: World, tmp_path: Path, score: float) -> None:
    """A score that no axis can show is an error of one line, before anything is drawn."""
    pytest.importorskip("matplotlib")
    folder = build(world, tmp_path / "out", TWO[0], images="none")
    shard = next((folder / TWO[0]).glob("test-*.parquet"))
    table, manifest = pq.read_table(shard), folder / TWO[0] / "manifest.json"
    scores = pa.array([score] * len(table))
    table = table.set_column(table.schema.get_field_index("similarity_score"), "similarity_score", scores)
    size = shard.stat().st_size
    pq.write_table(table, shard)
    manifest.write_text(manifest.read_text().replace(f'"bytes": {size},', f'"bytes": {shard.stat().st_size},'))
    result = run("stats", folder, "--plot", tmp_path / "charts")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "found something else (ValueError: score: numbers from" in result.stderr


def test_a_folder_that_something_else_wrote(world: World, tmp_path: Path) -> None:
    """Other columns, or an incomplete manifest, are an error of one line."""
    folder = build(world, tmp_path / "out", TWO[0])
    shard = next((folder / TWO[0]).glob("test-*.parquet"))
    pq.write_table(pq.read_table(shard).drop_columns(["image_id"]), shard)
    manifest = folder / TWO[0] / "manifest.json"
    text = manifest.read_text()
    size = json.loads(text)["files"][shard.name]["bytes"]
    fitting = text.replace(f'"bytes": {size},', f'"bytes": {shard.stat().st_size},')
    for change, found in (
        (text, f"where its manifest says {size:,}"),
        (fitting, "it has the columns index, id, caption, "),
        (text.replace('"features"', '"other"'), "found something else (no field 'features')"),
    ):
        manifest.write_text(change)
        result = run("stats", folder)
        assert (result.exit_code, result.stdout) == (1, "")
        assert found in result.stderr
