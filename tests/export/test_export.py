"""Exports are read back by the readers that they are for, and refuse what they cannot do."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.command import run
from support.reading import raw
from support.world import CONFIGS, SOURCES, SPLITS, Row, World

from _newsclippings.facts import EXPORT_FORMS

LABELS = ["pristine", "falsified"]
TEXT = ["hydrated", "llava", "messages", "csv"]


def export(world: World, out: Path, form: str, *more: object) -> dict[str, int]:
    """Run `newsclippings export`; return the rows of each split."""
    result = run("export", out, "--as", form, "--data-dir", world.root, "--format", "json", *more)
    assert result.exit_code == 0, result.output
    rows: dict[str, int] = json.loads(result.stdout)["rows"]
    return rows


def files_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def without_plan(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_of(out).items() if name not in ("export.json", "SHA256SUMS")}


def check_pictures(world: World, out: Path, rows: list[Row], names: list[str]) -> None:
    """Each row's picture is beside the text, as it was found, and there are no others."""
    for row, name in zip(rows, names, strict=True):
        assert not Path(name).is_absolute()
        assert (out / name).read_bytes() == world.pictures[row["image_path"]]


def facts_of(row: Row) -> Row:
    return {**row, "source_dataset": SOURCES[row["source_dataset"]]}


@pytest.mark.parametrize("config", CONFIGS)
def test_hydrated_is_the_official_file_with_more_keys(world: World, tmp_path: Path, config: str) -> None:
    """What the official trainer looks up is in each annotation, the rest is as in the official file."""
    out = tmp_path / "out"
    counts = export(world, out, "hydrated", "--config", config)
    for split, name in SPLITS.items():
        found = json.loads((out / "data" / config / f"{name}.json").read_text())
        official = json.loads(world.annotations(config, split).read_text())
        rows = world.rows(config, split)
        assert counts[split] == len(rows)
        annotations = found["annotations"]
        assert found["source_datasets"] == {str(k): source for k, source in enumerate(SOURCES)}
        for k, (mine, theirs) in enumerate(zip(annotations, official["annotations"], strict=True)):
            assert {key: mine[key] for key in theirs} == theirs
            assert type(mine["similarity_score"]) is type(theirs["similarity_score"])
            assert (mine["caption"], mine["index"]) == (rows[k]["caption"], k)
        check_pictures(world, out, rows, [mine["image_path"] for mine in annotations])


def test_hydrated_is_read_by_this_package(world: World, tmp_path: Path) -> None:
    """The folder is a data_dir: the rows of its matches are those of the official ones."""
    out = tmp_path / "out"
    export(world, out, "hydrated", "--images", "none")
    data = datasets.load_dataset("newsclippings", data_dir=str(out), visual_news=str(world.origin))
    assert {split: raw(data[split]) for split in SPLITS} == {split: world.rows(split=split) for split in SPLITS}
    annotations = json.loads((out / "data/merged_balanced/test.json").read_text())["annotations"]
    assert [mine["image_path"] for mine in annotations] == [row["image_path"] for row in world.rows(split="test")]
    assert not (out / "images").exists()


def test_llava(world: World, tmp_path: Path) -> None:
    """A list of samples with an id, a picture, and turns of human and gpt, the first with the token of the picture."""
    out = tmp_path / "out"
    export(world, out, "llava", "--prompt", "{caption}? {really}")
    for split in SPLITS:
        samples, rows = json.loads((out / f"{split}.json").read_text()), world.rows(split=split)
        assert len({sample["id"] for sample in samples}) == len(samples)
        assert all(list(sample) == ["id", "image", "conversations"] for sample in samples)
        assert [sample["conversations"] for sample in samples] == [
            [
                {"from": "human", "value": f"<image>\n{row['caption']}? {{really}}"},
                {"from": "gpt", "value": LABELS[row["falsified"]]},
            ]
            for row in rows
        ]
        check_pictures(world, out, rows, [sample["image"] for sample in samples])


def test_messages(world: World, tmp_path: Path) -> None:
    """The loader `json` of datasets reads chats whose user has one picture and a question with the caption."""
    out = tmp_path / "out"
    export(world, out, "messages")
    found = datasets.load_dataset("json", data_files={split: str(out / f"{split}.jsonl") for split in SPLITS})
    for split in SPLITS:
        rows = world.rows(split=split)
        check_pictures(world, out, rows, [name for (name,) in found[split]["images"]])
        for sample, row in zip(found[split], rows, strict=True):
            user, assistant = sample["messages"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            assert [part["type"] for part in user["content"]] == ["image", "text"]
            assert f'"{row["caption"]}"' in user["content"][1]["text"]
            assert assistant["content"][0]["text"] == LABELS[row["falsified"]]
            assert sample["index"] == row["index"]


def test_csv(world: World, tmp_path: Path) -> None:
    """The module csv and Polars read all facts of each row."""
    polars = pytest.importorskip("polars")
    out = tmp_path / "out"
    export(world, out, "csv")
    for split in SPLITS:
        with open(out / f"{split}.csv", newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        rows = world.rows(split=split)
        check_pictures(world, out, rows, [line["image_path"] for line in lines])
        expected = [{k: v for k, v in facts_of(row).items() if k not in ("image", "image_path")} for row in rows]
        assert [{k: line[k] for k in expected[0]} for line in lines] == [
            {k: str(v) for k, v in row.items()} for row in expected
        ]
        frame = polars.read_csv(out / f"{split}.csv").drop("image_path")
        assert frame.to_dicts() == expected


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset(world: World, tmp_path: Path) -> None:
    """The package webdataset reads pictures, captions, labels and facts, in order."""
    webdataset = pytest.importorskip("webdataset")
    out = tmp_path / "out"
    export(world, out, "webdataset")
    for split in SPLITS:
        rows = world.rows(split=split)
        tars = sorted(map(str, out.glob(f"{split}-*.tar")))
        for decoded in (False, True):
            samples = webdataset.WebDataset(tars, shardshuffle=False)
            samples = list(samples.decode("pil" if decoded else "l") if decoded else samples)
            assert [sample["__key__"] for sample in samples] == [f"{row['index']:08d}" for row in rows]
            if not decoded:
                assert [sample["jpg"] for sample in samples] == [world.pictures[row["image_path"]] for row in rows]
                continue
            assert [(s["txt"], s["cls"]) for s in samples] == [(r["caption"], r["falsified"]) for r in rows]
            facts = [{k: v for k, v in facts_of(row).items() if k != "image"} for row in rows]
            assert [sample["json"] for sample in samples] == facts
            assert all(sample["jpg"].mode == "RGB" for sample in samples)


def test_datasets_reads_the_tars(world: World, tmp_path: Path) -> None:
    """The loader `webdataset` of datasets reads them, too."""
    out = tmp_path / "out"
    export(world, out, "webdataset", "--split", "test")
    found = datasets.load_dataset("webdataset", data_files=str(out / "test-*.tar"), split="train")
    assert found["txt"][:] == [row["caption"] for row in world.rows(split="test")]


def test_tars_have_a_fixed_number_of_rows(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A tar covers 1,000 row numbers; a tar without pictures has no jpg."""
    world = new_world(pairs={"train": 520, "validation": 3, "test": 3}, tar=False, metadata=False)
    export(world, tmp_path / "out", "webdataset", "--images", "none")
    assert sorted(name for name in files_of(tmp_path / "out") if name.endswith(".tar")) == [
        *("test-00000.tar", "train-00000.tar", "train-00001.tar", "validation-00000.tar")
    ]
    done = subprocess.run(["tar", "-tf", tmp_path / "out/train-00001.tar"], capture_output=True, text=True)
    names = done.stdout.split()
    assert names[0] == "00001000.txt"
    assert len(names) == 3 * 40


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_every_source_gives_the_same_bytes(world: World, tmp_path: Path, form: str) -> None:
    """From the folder, the tar and a built folder; the checksums are those of the files."""
    export(world, tmp_path / "folder", form)
    export(world, tmp_path / "tar", form, "--visual-news", world.tar)
    assert run("build", tmp_path / "built", "--data-dir", world.root).exit_code == 0
    result = run("export", tmp_path / "from_built", "--as", form, "--built", tmp_path / "built")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'from_built'}: test: " in result.stdout
    expected = without_plan(tmp_path / "folder")
    assert without_plan(tmp_path / "tar") == without_plan(tmp_path / "from_built") == expected
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "folder")
    assert done.returncode == 0
    listed = {line[66:] for line in (tmp_path / "folder/SHA256SUMS").read_text().splitlines()}
    assert listed == {*files_of(tmp_path / "folder")} - {"SHA256SUMS"}


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_pairs_are_dropped_and_row_numbers_stay(new_world: Callable[..., World], tmp_path: Path, form: str) -> None:
    """--missing error names the picture; drop_pair leaves out both twins, and the others keep their numbers."""
    world = new_world(tar=False)
    path = world.used_once(split="test").image_path
    (world.origin / path).unlink()
    result = run("export", tmp_path / "out", "--as", form, "--data-dir", world.root)
    assert (result.exit_code, path in result.output, (tmp_path / "out").exists()) == (1, True, False)
    rows = world.rows(split="test", missing="drop_pair", pictures={*world.pictures} - {path})
    assert export(world, tmp_path / "out", form, "--missing", "drop_pair")["test"] == len(rows)
    if form == "csv":
        with open(tmp_path / "out/test.csv", newline="", encoding="utf-8") as file:
            assert [int(line["index"]) for line in csv.DictReader(file)] == [row["index"] for row in rows]


ODD = 'He said "a,b"\r\n\x00\x1b[31m{"id": 1}, <image> {caption} \u2028 \U0001f98a\r=1+1\n'


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_odd_captions_are_read_back(new_world: Callable[..., World], tmp_path: Path, form: str) -> None:
    """Quotes, line breaks, control characters and braces are data."""
    world = new_world(tar=False, metadata=False)
    for record in world.records.values():
        record.caption = ODD
    world.write_data_json()
    out = tmp_path / "out"
    count = export(world, out, form, "--split", "test")["test"]
    if form == "hydrated":
        found = [a["caption"] for a in json.loads((out / "data/merged_balanced/test.json").read_text())["annotations"]]
    elif form == "llava":
        texts = [s["conversations"][0]["value"] for s in json.loads((out / "test.json").read_text())]
        found = [text.removeprefix('<image>\nNews caption: "').partition('"\nDoes the')[0] for text in texts]
    elif form == "messages":
        lines = (out / "test.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        texts = [json.loads(line)["messages"][0]["content"][1]["text"] for line in lines]
        found = [text.removeprefix('News caption: "').partition('"\nDoes the')[0] for text in texts]
    elif form == "csv":
        with open(out / "test.csv", newline="", encoding="utf-8") as file:
            found = [line["caption"] for line in csv.DictReader(file)]
    else:
        with tarfile.open(out / "test-00000.tar") as tar:
            read = {name: tar.extractfile(name) for name in tar.getnames() if name.endswith(".txt")}
            found = [file.read().decode() for file in read.values() if file]
    assert found == [ODD] * count


def test_a_built_folder_with_nulls_is_refused(new_world: Callable[..., World], tmp_path: Path) -> None:
    """No form has a place for a row without a picture."""
    world = new_world(tar=False)
    (world.origin / world.used_once(split="test").image_path).unlink()
    built = tmp_path / "built"
    assert run("build", built, "--data-dir", world.root, "--missing", "null").exit_code == 0
    result = run("export", tmp_path / "out", "--as", "csv", "--built", built, "--split", "test")
    assert result.exit_code == 1
    assert "has no image, without which it cannot be exported. Export from a folder" in result.output


REFUSED: dict[str, tuple[list[str], str]] = {
    "a prompt without a caption": (["llava", "--prompt", "Is it?"], "has no {caption}, the place of the caption"),
    "a prompt that is no UTF-8": (["llava", "--prompt", "\udc80{caption}"], "has characters that UTF-8 cannot encode"),
    "an empty prompt": (["llava", "--prompt", ""], "has no {caption}, the place of the caption"),
    "a prompt that nothing asks": (["csv", "--prompt", "{caption}"], "--prompt would change nothing here"),
    "a form": (["lava"], "Did you mean 'llava'?"),
    "no place for nulls": (["csv", "--missing", "null"], "'null' is not one of 'error', 'drop_pair'"),
    "options of the data": (["csv", "--built", "BUILT", "--missing", "drop_pair"], "--missing would change nothing"),
    "a folder of data": (["csv", "--built", "BUILT", "--data-dir", "x"], "--data-dir would change nothing here"),
    "no such split": (["csv", "--built", "BUILT", "--split", "train"], "has no merged_balanced/train. It has"),
    "no such config": (["csv", "--built", "BUILT", "--config", "scene_resnet_place"], "has no scene_resnet_place"),
    "no pictures": (["csv", "--built", "BUILT"], "has no pictures in its rows. Pass --images none"),
    "nothing built": (["csv", "--built", "nowhere"], "nowhere"),
    "a config": (["csv", "--config", "merged"], "Did you mean 'merged_balanced'?"),
}


@pytest.fixture(scope="module")
def thin(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built folder of one split without pictures."""
    built = tmp_path_factory.mktemp("thin") / "built"
    result = run("build", built, "--data-dir", world.root, "--images", "none", "--split", "test")
    assert result.exit_code == 0, result.output
    return built


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(thin: Path, tmp_path: Path, case: str) -> None:
    """Each in one line, and nothing is written."""
    words, says = REFUSED[case]
    result = run("export", tmp_path / "out", "--as", *(str(thin) if word == "BUILT" else word for word in words))
    assert result.exit_code in (1, 2)
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures_is_exported_without(thin: Path, world: World, tmp_path: Path) -> None:
    """--images none writes the paths of VisualNews."""
    result = run("export", tmp_path / "out", "--as", "csv", "--built", thin, "--images", "none")
    assert result.exit_code == 0, result.output
    with open(tmp_path / "out/test.csv", newline="", encoding="utf-8") as file:
        assert [line["image_path"] for line in csv.DictReader(file)] == [
            row["image_path"] for row in world.rows(split="test")
        ]


@pytest.mark.parametrize("place", ["data", "data/visual_news/origin", "data/news_clippings/mine", "."])
def test_inputs_are_not_written_over(new_world: Callable[..., World], tmp_path: Path, place: str) -> None:
    """An output that is an input, is in one or has one is refused."""
    world = new_world(tar=False)
    before = files_of(tmp_path)
    result = run("export", tmp_path / place, "--as", "csv", "--data-dir", world.root)
    assert result.exit_code == 1
    assert files_of(tmp_path) == before


def test_a_built_folder_is_not_written_over(thin: Path) -> None:
    """Nor is the folder that --built names."""
    before = files_of(thin)
    for place in (thin, thin / "merged_balanced", thin.parent):
        result = run("export", place, "--as", "csv", "--built", thin, "--images", "none")
        assert (result.exit_code, "Nothing was changed" in result.output) == (1, True)
    assert files_of(thin) == before


@pytest.mark.parametrize("name", ["notes.txt", "train.csv", "images/0001/12345.jpg", "images/cat.png"])
def test_foreign_files_are_not_written_over(world: World, tmp_path: Path, name: str) -> None:
    """A folder in which anything else is, even under a name that an export has."""
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    result = run("export", out, "--as", "csv", "--data-dir", world.root)
    assert result.exit_code == 1
    assert "was not written by `newsclippings export`" in result.output
    assert files_of(out) == {name: b"mine"}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--as", "messages"], "another form"),
        (["--as", "llava", "--split", "test"], "another splits, made_of"),
        (["--as", "llava", "--prompt", "{caption}!"], "another prompt"),
        (["--as", "llava", "--config", "scene_resnet_place"], "another config"),
        (["--as", "llava", "--visual-news", "TAR"], "other rows, or an input that changed"),
    ],
)
def test_another_export_is_not_written_over(world: World, tmp_path: Path, more: list[str], what: str) -> None:
    """The error names what differs, whether the folder is complete or not."""
    out = tmp_path / "out"
    export(world, out, "llava")
    for complete in (True, False):
        if not complete:
            (out / "SHA256SUMS").unlink()
        before = files_of(out)
        result = run("export", out, *(str(world.tar) if m == "TAR" else m for m in more), "--data-dir", world.root)
        assert result.exit_code == 1
        assert f"has another export: {what}" in result.output
        assert files_of(out) == before


def test_a_complete_export_is_compared_with_its_checksums(world: World, tmp_path: Path) -> None:
    """The same command writes nothing again, and finds a file that changed or is missing."""
    out = tmp_path / "out"
    export(world, out, "csv")
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    export(world, out, "csv")
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    picture = next(out.glob("images/*/*"))
    for damage in (lambda: picture.write_bytes(b"x"), picture.unlink):
        damage()
        result = run("export", out, "--as", "csv", "--data-dir", world.root)
        assert result.exit_code == 1
        assert f"{picture}: it is missing, or its content changed. Remove the folder" in result.output


def test_a_url_is_refused(world: World, tmp_path: Path) -> None:
    """Pictures are many small files: they are written to a disk."""
    result = run("export", "s3://bucket/out", "--as", "csv", "--data-dir", world.root)
    assert result.exit_code == 2
    assert "is a URL; expected a local path" in result.output


def test_the_environment_names_the_data(world: World, tmp_path: Path, thin: Path, monkeypatch: Any) -> None:
    """NEWSCLIPPINGS_DATA_DIR is data_dir, and is no option given twice beside --built."""
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
    assert run("export", tmp_path / "a", "--as", "csv", "--split", "test").exit_code == 0
    shutil.rmtree(tmp_path / "a")
    assert run("export", tmp_path / "a", "--as", "csv", "--built", thin, "--images", "none").exit_code == 0
