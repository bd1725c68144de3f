"""articles="full": the original articles, unparsed, from a folder or an uncompressed tar beside VisualNews."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.reading import load, raw_splits
from support.world import SPLITS, World

from _newsclippings.cli import main
from newsclippings import (
    BadFileError,
    BadTarError,
    DataNotFoundError,
    MissingDataError,
    NewsCLIPpings,
    UnsafePathError,
)


def expected(world: World, split: str) -> list[str]:
    """The original articles of the captions of a split."""
    articles = world.full_articles()
    paths = [world.records[row["id"]].full_article_path for row in world.rows(split=split)]
    return [articles[path.removeprefix("visual_news/")].decode() for path in paths]


def read(world: World, split: str = "test", **options: Any) -> list[str | None]:
    """Load the column `article_full` of a split, without pictures."""
    options = {"images": "none", "articles": "full", "splits": [split], **options}
    return list(load(world, **options)[split]["article_full"])


@pytest.fixture
def bare(new_world: Callable[..., World]) -> World:
    """A world without pictures and texts, with the folder of the original articles."""
    world = new_world(folder=False, tar=False)
    world.write_full_articles()
    return world


@pytest.mark.parametrize("captions", ["data.json", "metadata"])
@pytest.mark.parametrize("how", ["map", "stream", "num_proc"])
def test_the_file_that_the_metadata_name(bare: World, how: str, captions: str) -> None:
    """The column has the whole file, with pictures or without, wherever captions come from; `article` is not there."""
    if captions == "data.json":
        bare.write_folder()
    options: dict[str, Any] = {"streaming": True} if how == "stream" else {"num_proc": 2} if how == "num_proc" else {}
    images = "bytes" if captions == "data.json" else "none"
    found = load(bare, images=images, articles="full", **options)
    assert list(found["test"].features)[-1] == "article_full"
    for split, rows in raw_splits(found).items():
        assert [row.pop("article_full") for row in rows] == expected(bare, split)
        assert rows == bare.rows(split=split, images=images, captions="origin" if images == "bytes" else "metadata")


def test_metadata_and_articles_together(bare: World) -> None:
    """The article is behind the metadata, whose path names it."""
    rows = load(bare, images="none", articles="full", metadata=True, splits=["test"])["test"]
    assert list(rows.features)[-3:] == ["metadata", "image_metadata", "article_full"]
    for row in rows:
        assert json.loads(row["article_full"])["url"] == row["metadata"]["full_article_path"].partition("/")[2]


@pytest.mark.parametrize("prefix", ["", "./", "visual_news/", "./visual_news/", "without"])
@pytest.mark.parametrize("beside", [False, True], ids=["below data_dir", "beside visual_news"])
def test_an_uncompressed_tar(new_world: Callable[..., World], tmp_path: Path, prefix: str, beside: bool) -> None:
    """The tar is read in place, whichever leading folders its members have."""
    world = new_world(folder=False, tar=beside)
    options = {}
    if beside:
        (tmp_path / "elsewhere").mkdir()
        tar = world.tar.rename(tmp_path / "elsewhere" / "origin.tar")
        options = {"visual_news": str(tar)}
    place = (tmp_path / "elsewhere" if beside else world.root / "visual_news") / "articles.tar"
    place.parent.mkdir(parents=True, exist_ok=True)
    if prefix == "without":
        articles = world.full_articles()
        world.full_articles = lambda: {path.removeprefix("articles/"): text for path, text in articles.items()}  # type: ignore[method-assign]
        world.write_full_articles_tar(place)
        del world.full_articles
    else:
        world.write_full_articles_tar(place, prefix)
    assert read(world, **options) == expected(world, "test")


@pytest.mark.parametrize("name", ["articles.tar.gz", "articles.tgz"])
def test_a_compressed_tar_gets_the_command(new_world: Callable[..., World], name: str) -> None:
    """A compressed tar is an error with a command, after which the same call works."""
    world = new_world(folder=False, tar=False)
    (world.root / "visual_news").mkdir()
    tar = world.write_full_articles_tar()
    packed = tar.with_name(name)
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    tar.unlink()
    for streaming in (False, True):
        with pytest.raises(DataNotFoundError, match=rf"{name} is compressed.*gunzip --keep {packed}$"):
            load(world, images="none", articles="full", streaming=streaming)
    tar.write_bytes(gzip.decompress(packed.read_bytes()))
    assert read(world) == expected(world, "test")


def test_a_tar_that_is_compressed_in_secret(bare: World) -> None:
    """A tar whose name hides that it is compressed is an error that says so."""
    shutil.rmtree(bare.root / "visual_news" / "articles")
    tar = bare.write_full_articles_tar()
    tar.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(BadTarError, match="found gzip"):
        read(bare)


def test_nothing_is_there(new_world: Callable[..., World]) -> None:
    """Without the articles, the error lists where they were searched, and what else there is."""
    world = new_world(folder=False, tar=False)
    says = r"(?s)original articles.*not found.*visual_news/articles\n.*articles=True"
    with pytest.raises(DataNotFoundError, match=says):
        read(world)


@pytest.mark.parametrize("missing", ["error", "null", "drop_pair"])
@pytest.mark.parametrize("where", ["folder", "tar"])
def test_missing_files_follow_the_policy(bare: World, where: str, missing: str) -> None:
    """A file that is not there lacks in all rows that share it: an error that names it, nulls, or dropped pairs."""
    rows = bare.rows(split="test")
    gone = bare.records[rows[0]["id"]].full_article_path
    articles = bare.root / "visual_news" / "articles"
    (bare.root / gone).unlink()
    if where == "tar":
        left = {path: text for path, text in bare.full_articles().items() if f"visual_news/{path}" != gone}
        bare.full_articles = lambda: left  # type: ignore[method-assign]
        bare.write_full_articles_tar()
        del bare.full_articles
        shutil.rmtree(articles)
    lacking = [row["index"] for row in rows if bare.records[row["id"]].full_article_path == gone]
    assert len(lacking) < len(rows)
    if missing == "error":
        says = rf"(?s)In {len(lacking)} rows the article is not there.*{gone.partition('articles/')[2]} \(row 0\).*"
        with pytest.raises(MissingDataError, match=says + "Looked in: original articles") as caught:
            read(bare)
        assert "visual_news=" not in str(caught.value)  # which leads to pictures only
        return
    builder = NewsCLIPpings(data_dir=str(bare.root), images="none", articles="full", missing=missing, splits=["test"])
    builder.download_and_prepare()
    found = list(builder.as_dataset(split="test"))
    nulls = [row["index"] for row in found if row["article_full"] is None]
    kept = [row["index"] for row in rows if row["index"] not in lacking]
    assert nulls == (lacking if missing == "null" else [])
    assert [row["index"] for row in found if row["index"] not in nulls] == kept
    assert builder.join_reports["test"]["missing"]["article"] == {gone.split("/")[2]: len(lacking)}


def edit_metadata(world: World, row: dict[str, Any], path: object) -> None:
    file = world.metadata("test")
    plan = json.loads(file.read_bytes())
    plan[str(row["id"])]["full_article_path"] = path
    file.write_text(json.dumps(plan))


@pytest.mark.parametrize("path", [None, "", "visual_news/articles/", "visual_news/articles"])
def test_a_record_without_a_file(bare: World, path: str | None) -> None:
    """A record that names no file has no article."""
    row = bare.rows(split="test")[0]
    edit_metadata(bare, row, path)
    found = read(bare, missing="null")
    plan = expected(bare, "test")
    assert found == [None if r["id"] == row["id"] else plan[r["index"]] for r in bare.rows(split="test")]


@pytest.mark.parametrize("path", ["../../secret.json", "/etc/passwd", "visual_news/articles/../../a", "a\\b"])
def test_hostile_paths_are_refused(bare: World, path: str) -> None:
    """A path that leaves the tree is refused with file and id; as a text in the metadata it does no harm."""
    row = bare.rows(split="test")[0]
    edit_metadata(bare, row, path)
    with pytest.raises(UnsafePathError, match=rf"test\.json: record {row['id']}: full_article_path"):
        read(bare)
    found = load(bare, images="none", metadata=True, splits=["test"])["test"]
    assert found[0]["metadata"]["full_article_path"] == path


def test_a_link_out_of_the_folder_is_refused(bare: World, tmp_path: Path) -> None:
    """A link that leaves the folder `articles` is refused; the folder itself may be one."""
    (tmp_path / "secret.json").write_text("secret")
    articles = bare.root / "visual_news" / "articles"
    articles.rename(tmp_path / "moved")
    articles.symlink_to(tmp_path / "moved")
    assert read(bare) == expected(bare, "test")
    file = bare.root / bare.records[bare.rows(split="test")[0]["id"]].full_article_path
    file.unlink()
    file.symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnsafePathError, match="outside of"):
        read(bare)


def test_a_link_below_the_named_root_is_followed(bare: World, tmp_path: Path) -> None:
    """What the error of a link recommends works for original articles, too."""
    articles, store = bare.root / "visual_news" / "articles", tmp_path / "store"
    shutil.copytree(articles, store)
    for file in [file for file in articles.rglob("*") if file.is_file()]:
        file.unlink()
        file.symlink_to(store / file.relative_to(articles))
    with pytest.raises(UnsafePathError, match=f"links='follow' with links_root='{store}'"):
        read(bare)
    assert read(bare, links="follow", links_root=str(store)) == expected(bare, "test")


def test_no_text_is_named(bare: World) -> None:
    """A file that is not UTF-8 is an error that names it."""
    file = bare.root / bare.records[bare.rows(split="test")[0]["id"]].full_article_path
    file.write_bytes(b"caf\xe9")
    with pytest.raises(BadFileError, match=rf"{file.name}: expected an article in UTF-8"):
        read(bare)


def test_changed_files_give_new_rows(bare: World) -> None:
    """A file that changed in the folder gives new rows; unchanged ones are not read again."""
    assert read(bare) == expected(bare, "test")
    first = load(bare, images="none", articles="full", splits=["test"])["test"].cache_files
    assert load(bare, images="none", articles="full", splits=["test"])["test"].cache_files == first
    record = bare.records[bare.rows(split="test")[0]["id"]]
    (bare.root / record.full_article_path).write_text("new text")
    found = read(bare)
    plan = zip(bare.rows(split="test"), expected(bare, "test"), strict=True)
    shared = record.full_article_path
    assert found == ["new text" if bare.records[r["id"]].full_article_path == shared else text for r, text in plan]


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.output


def test_the_command_builds_them(bare: World, tmp_path: Path) -> None:
    """`--articles full` writes the column, with its meaning in card and Croissant; verify finds nothing wrong."""
    out = tmp_path / "built"
    code, text = run(
        "build", "--articles", "full", str(out), "--images", "none", "--data-dir", str(bare.root), "--metadata"
    )
    assert code == 0, text
    for split in SPLITS:
        table = pq.read_table(next(out.glob(f"merged_balanced/{split}-*.parquet")))
        assert table["article_full"].to_pylist() == expected(bare, split)
        assert table.column_names[-3:] == ["metadata", "image_metadata", "article_full"]
    assert "| `article_full` | string | The caption's article as it was collected" in (out / "README.md").read_text()
    for command in (["verify", "--built"], ["stats"], ["croissant"]):
        code, text = run(*command, str(out))
        assert code == 0, text
    assert "merged_balanced/article_full" in (out / "croissant.json").read_text()
    assert datasets.load_dataset(str(out), "merged_balanced", split="test")["article_full"][:] == expected(bare, "test")
    code, text = run("push", "me/it", str(out), "--dry-run")
    assert (code, "Left out: original articles of VisualNews" in text) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "column"),
    [
        (["--articles", "OUT"], "article"),
        (["OUT", "--articles"], "article"),
        (["OUT", "--articles", "--metadata"], "article"),
        (["--articles", "--", "OUT"], "article"),
        (["OUT", "--articles=full"], "article_full"),
        (["OUT", "--articles", "full", "--metadata"], "article_full"),
        (["OUT"], None),
    ],
)
def test_the_option_alone_is_a_flag(
    bare: World, tmp_path: Path, arguments: list[str], column: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--articles` never takes the next word, unless it is `full`."""
    asked: list[Any] = []

    def note(*given: Any, **options: Any) -> dict[str, Any]:
        asked.append((given, options))
        return {}

    monkeypatch.setattr("_newsclippings.folder.build_folder", note)
    code, text = run("build", *(str(tmp_path / "out") if word == "OUT" else word for word in arguments))
    assert code == 0, text
    ((given, options),) = asked
    assert given[0] == tmp_path / "out"
    assert options["articles"] == {"article": True, "article_full": "full", None: False}[column]


def test_other_values_are_refused() -> None:
    """A misspelt value is refused with the right ones."""
    code, text = run("build", "out", "--articles=fulll")
    assert (code, "'fulll' is not one of 'full', 'text'" in text) == (2, True)


def test_info_names_what_is_there(bare: World) -> None:
    """`info` shows where the original articles are, and names data/full as a file that is no config."""
    odd = bare.root / "news_clippings" / "data" / "full" / "train.json"
    code, text = run("info", "--data-dir", str(bare.root))
    assert (code, str(odd) in text) == (0, False)
    assert f"original articles   {bare.root}/visual_news/articles\n" in text
    odd.parent.mkdir()
    odd.write_text('{"annotations": []}')
    code, text = run("info", "--data-dir", str(bare.root))
    assert f"no config           {odd}: " in text
    code, text = run("info", "--data-dir", str(bare.root), "--format", "json")
    assert json.loads(text)["sources"]["no_config"] == [str(odd)]
    assert "full" not in json.loads(text)["configs"]
    code, text = run("info", "--data-dir", str(bare.root), "--config", "full")
    assert code == 2
