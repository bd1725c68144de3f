"""Only files that a build wrote are replaced or removed, by `download_and_prepare(output_dir=)` and `build`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command import run
from support.reading import raw
from support.sampling import crossed
from support.world import World
from sweeps.overwriting import digests

from _newsclippings.folder import BUILDING
from newsclippings import ConfigError, NewsCLIPpings

Change = Callable[[Path], None]


def builder(world: World, cache: Path, **options: object) -> NewsCLIPpings:
    fields = {"data_dir": str(world.root), "images": "none", "splits": ["test"], **options}
    return NewsCLIPpings(cache_dir=str(cache), **fields)


def put(name: str, text: str = "mine") -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return change


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


FOREIGN: dict[str, Change] = {
    "notes": put("notes.txt"),
    "a hidden file": put(".notes"),
    "a file in a folder": put("papers/notes.txt"),
    "tables by the same names": put("newsclippings-test.arrow"),
    "another dataset": put("dataset_info.json", '{"builder_name": "imagefolder"}'),
    "a link": link,
    "a file": lambda folder: put(folder.name)(folder.parent),
    "what is beside it": lambda folder: put("notes.txt")(folder.with_name("out.incomplete")),
}


@pytest.mark.parametrize(
    ("foreign", "mode"),
    crossed(sorted(FOREIGN), ["reuse_dataset_if_exists", "reuse_cache_if_exists", "force_redownload"]),
)
def test_a_folder_with_other_files_is_refused(world: World, tmp_path: Path, foreign: str, mode: str) -> None:
    """An output_dir with other files is refused; `datasets` alone would remove it."""
    out = tmp_path / "place" / "out"
    out.parent.mkdir()
    FOREIGN[foreign](out)
    before = digests(tmp_path / "place")
    with pytest.raises(ConfigError, match=r"out.* exists and was not written by `download_and_prepare\(\)`"):
        builder(world, tmp_path / "cache").download_and_prepare(str(out), download_mode=mode)
    assert digests(tmp_path / "place") == before


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_an_earlier_build_is_replaced(world: World, tmp_path: Path, form: str) -> None:
    """An empty folder and an earlier build are replaced, also if damaged, interrupted, or with caches of `map`."""
    out = tmp_path / "out"
    out.mkdir()
    for change in (
        lambda: None,
        lambda: next(out.glob("newsclippings-test*")).write_bytes(b"damaged"),
        lambda: (out / "dataset_info.json").write_text(""),
        lambda: (out / "checksums.proof").unlink(),
        lambda: (out / "cache-0123456789abcdef_00000_of_00002.arrow").write_bytes(b"it"),
        lambda: put("newsclippings-test-00000-00000-of-NNNNN.arrow")(tmp_path / "out.incomplete"),
    ):
        change()
        made = builder(world, tmp_path / "cache")
        made.download_and_prepare(str(out), file_format=form)
        if form == "arrow":
            rows = raw(made.as_dataset(split="test"))
        else:
            rows = pq.read_table(next(out.glob("*.parquet"))).to_pylist()
        assert [row["caption"] for row in rows] == [row["caption"] for row in world.rows(split="test")]
    made = builder(world, tmp_path / "cache")
    made.download_and_prepare(str(out), file_format=form, download_mode="force_redownload", num_proc=2)
    assert json.loads((out / "dataset_info.json").read_text())["splits"]["test"]["num_examples"] == 12


@pytest.mark.parametrize(
    ("scheme", "place"),
    crossed(["", "file://"], ["news_clippings", "visual_news/origin", "visual_news/origin/new", "."]),
)
def test_a_folder_of_inputs_is_refused(
    new_world: Callable[..., World], tmp_path: Path, place: str, scheme: str
) -> None:
    """An output_dir that is, contains or is inside a folder of inputs is refused."""
    world = new_world()
    before = digests(world.root)
    with pytest.raises(ConfigError, match=r"is one of the inputs|is inside a folder of inputs|contains the inputs"):
        builder(world, tmp_path / "cache").download_and_prepare(scheme + str((world.root / place).resolve()))
    with pytest.raises(ConfigError, match="is inside a folder of inputs"):
        builder(world, world.root / "visual_news" / "origin").download_and_prepare()
    assert before.items() <= digests(world.root).items()  # `datasets` creates a lock there before it calls this package


def test_removing_the_pictures_keeps_files_of_others(world: World, tmp_path: Path) -> None:
    """When the config of pictures is no longer used, only the files that `build` wrote are removed from it."""
    out = tmp_path / "out"
    more = ["--data-dir", world.root, "--split", "test", "--config", "scene_resnet_place"]
    assert run("build", out, *more, "--images", "once").exit_code == 0
    (out / "images" / ".notes").write_text("mine")
    assert run("build", out, *more).exit_code == 0
    assert [path.name for path in (out / "images").iterdir()] == [".notes"]
    assert run("verify", "--built", out).exit_code == 0
    assert run("build", out, *more, "--images", "once").exit_code == 0
    assert (out / "images" / ".notes").read_text() == "mine"
    assert run("build", out, *more).exit_code == 0
    (out / "images" / ".notes").unlink()
    assert list((out / "images").iterdir()) == []
    assert run("build", out, *more).exit_code == 0


def test_the_next_build_puts_files_of_others_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of others in a config that was being replaced when `build` was killed are put back by the next build."""
    out = tmp_path / "out"
    more = ["--data-dir", world.root, "--images", "none"]
    assert run("build", out, *more, "--split", "test").exit_code == 0
    (out / "merged_balanced" / ".notes").write_text("mine")
    real = Path.rename

    def killed(path: Path, target: str | os.PathLike[str]) -> Path:
        if path.name == ".notes":
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        run("build", out, *more, "--split", "train")
    assert (out / BUILDING / "merged_balanced-old" / ".notes").exists()
    assert run("build", out, *more, "--split", "train").exit_code == 0
    assert (out / "merged_balanced" / ".notes").read_text() == "mine"
