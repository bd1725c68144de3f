"""`newsclippings push` publishes a folder of vectors, and built folders keep their columns of vectors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.encoding import encoder, faces, read_folder
from support.folders import content
from support.own_vectors import make_vectors, write_folder, write_npy
from support.publishing import READ, REPO, Hub, checked, used
from support.world import World

from _newsclippings.folder.build import build_folder
from newsclippings import embed, verify_built


@pytest.fixture
def hub(running_hub: Hub) -> Iterator[Hub]:
    yield from used(running_hub)


@pytest.fixture
def vectors(world: World, tmp_path: Path) -> Path:
    return write_folder(make_vectors(world), tmp_path)


def update_sums(folder: Path) -> None:
    files = [file for file in sorted(folder.iterdir()) if file.name != "SHA256SUMS"]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


JOIN = """
import json
import newsclippings
options = {"split": "test", "images": "none", "data_dir": sys.argv[2]}
rows = newsclippings.load(embeddings={"vitl": "hf://datasets/" + sys.argv[1]}, **options)
print(json.dumps([[row["image_id"], row["vitl"]] for row in rows]))
"""


def test_pushed_and_joined(world: World, hub: Hub, vectors: Path) -> None:
    """Plan, parts, README and sums are uploaded, and nothing else; the repository is a location of vectors."""
    (vectors / "notes.txt").write_text("mine")
    (vectors / "part-99999.parquet").write_text("mine")
    before = content(vectors)
    told = hub.push(vectors, "--dry-run")
    assert hub.log() == []
    pushed = hub.push(vectors)
    ours = {name: digest for name, digest in before.items() if name not in ("notes.txt", "part-99999.parquet")}
    assert hub.files() == ours
    assert told["files"] == {name: (vectors / name).stat().st_size for name in ours}
    assert hub.repo()["private"] is True
    assert (pushed["tag"], hub.repo()["tags"]) == (None, {})
    assert content(vectors) == before
    planned = make_vectors(world)
    assert pushed["rows"] == {"default": {"train": len(planned)}}
    done = checked(hub.run(JOIN, REPO, str(world.root)), 0)
    expected = [[row["image_id"], planned.get(row["image_id"])] for row in world.rows(split="test")]
    assert json.loads(done.out) == [[n, None if v is None else v.tolist()] for n, v in expected]
    loaded = hub.load()["train"]
    assert {row["id"]: row["vector"] for row in loaded} == {n: v.tolist() for n, v in planned.items()}
    assert hub.push(vectors, "--public")["new"] is False
    assert hub.repo()["private"] is False


@pytest.mark.parametrize(("encode", "dtype"), [(encoder, "float32"), (faces, "float16")])
def test_what_embed_writes(world: World, hub: Hub, tmp_path: Path, encode: Callable[[], Any], dtype: str) -> None:
    """A folder of `embed` is uploaded completely, and loads by its name, also with any number of vectors per id."""
    out = tmp_path / "out"
    embed(out, encode(), data_dir=world.root, part_size=9, dtype=dtype)
    hub.push(out)
    assert hub.files() == content(out)
    assert {row["id"]: row["vector"] for row in hub.load()["train"]} == read_folder(out)


def test_other_vectors_take_their_place(world: World, hub: Hub, vectors: Path, tmp_path: Path) -> None:
    """A later push with fewer parts removes the parts that are no longer there; vectors and rows are not mixed."""
    hub.push(vectors)
    (tmp_path / "other").mkdir()
    other = write_folder(make_vectors(world), tmp_path / "other", part=1000)
    hub.push(other)
    assert hub.files() == content(other)
    build_folder(tmp_path / "built", ["merged_balanced"], images="none", data_dir=str(world.root))
    assert "found a README.md that it did not write" in hub.push(tmp_path / "built", code=1).err
    hub.push(tmp_path / "built", repo="tester/rows")
    assert "found a README.md that it did not write" in hub.push(vectors, repo="tester/rows", code=1).err
    assert hub.files() == content(other)


def _lose(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def _link(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).symlink_to((folder / name).rename(folder.parent / "moved"))

    return act


def _flip(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return act


def _picture(folder: Path) -> None:
    file = folder / "part-00001.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("image", [[b"\xff\xd8"] * len(table)]), file)
    update_sums(folder)


def _without(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
        (folder / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))

    return act


def _strange_readme(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    update_sums(folder)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    **{
        f"no {name}": (
            _lose(name),
            f"is not complete: it has no {name}. Finish it by the same `newsclippings embed` ag",
        )
        for name in ("part-00002.parquet", "SHA256SUMS", "README.md")
    },
    **{f"a link for {name}": (_link(name), "Only plain files are uploaded") for name in ("plan.json", "SHA256SUMS")},
    "a link for a part": (_link("part-00001.parquet"), "Only plain files are uploaded"),
    "another part": (_flip("part-00001.parquet"), "part-00001.parquet: "),
    "another README": (_flip("README.md"), "README.md: its content changed: expected the SHA-256"),
    "a README of somebody": (_strange_readme, "README.md: expected what `newsclippings embed` writes"),
    "a part without a sum": (_without("part-00001"), "SHA256SUMS: expected the SHA-256 of part-00001.parquet, found"),
    "pictures": (_picture, "part-00001.parquet: expected columns id and vector, of 5 numbers (float32), as its plan.j"),
    "a plan that is none": (lambda folder: (folder / "plan.json").write_text("{}"), "the plan of a folder of vectors"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_folders_that_are_refused(hub: Hub, vectors: Path, what: str) -> None:
    """A folder that is not complete, or has other content than its sums, is refused before any request."""
    change, says = REFUSED[what]
    change(vectors)
    pushed = hub.push(vectors, code=1)
    assert says in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert hub.log() == []


def test_options_without_effect(hub: Hub, vectors: Path) -> None:
    """The flags for pictures are refused, as are names that the Hub does not take, and tokens that cannot write."""
    for flag in ("--with-images", "--i-have-the-rights"):
        assert f"{flag} would change nothing here. {vectors} has vectors only" in hub.push(vectors, flag, code=1).err
    assert "'vectors': expected a repository's name" in hub.push(vectors, repo="vectors", code=1).err
    assert "expected a branch. Name another" in hub.push(vectors, "--revision", "", code=1).err
    assert hub.log() == []
    assert "may not write there (403)" in hub.push(vectors, token=READ, code=1).err
    hub.push(vectors, "--revision", "other", "--gated")
    assert hub.files("other") == content(vectors)
    assert hub.files() == {}


COMPLETE = """
import json
import newsclippings
from datasets import load_dataset
rows = newsclippings.join_images(load_dataset(sys.argv[1], split="test"), visual_news=sys.argv[2])
print(json.dumps([[row["index"], row["image"].size[0] > 0, row["vitl"], row["text"]] for row in rows], default=float))
"""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_columns_of_vectors_of_a_built_folder(world: World, hub: Hub, tmp_path: Path, dtype: str) -> None:
    """They are pushed with all pictures and in the thin form, and `join_images` keeps them."""
    text = write_npy(make_vectors(world, "id"), tmp_path, np.float16)
    own = {"vitl": str(write_folder(make_vectors(world), tmp_path)), "text": (str(text), "captions")}
    built = tmp_path / "built"
    build_folder(built, ["merged_balanced"], embeddings=own, vector_dtype=dtype, data_dir=str(world.root))
    pictures, captions = make_vectors(world), make_vectors(world, "id")

    def planned(row: dict[str, Any]) -> list[Any]:
        found = pictures.get(row["image_id"]), captions.get(row["id"])
        return [None if vector is None else vector.tolist() for vector in found]

    wanted = [planned(row) for row in world.rows(split="test")]
    for repo, flags in (("tester/full", ["--with-images", "--i-have-the-rights"]), ("tester/thin", [])):
        pushed = hub.push(built, *flags, repo=repo)
        assert pushed["left_out"] == ([] if flags else ["pictures"])
        loaded = hub.load(repo)["test"]
        assert [[row["vitl"], row["text"]] for row in loaded] == wanted
        assert ("image" in loaded[0]) == bool(flags)
    assert verify_built(built).sound
    done = checked(hub.run(COMPLETE, "tester/thin", str(world.tar)), 0)
    assert json.loads(done.out) == [[n, True, *vectors] for n, vectors in enumerate(wanted)]


def test_a_plan_beside_a_built_folder_is_not_uploaded(world: World, hub: Hub, tmp_path: Path) -> None:
    """A built folder stays one, whatever else is in it."""
    built = tmp_path / "built"
    build_folder(built, ["merged_balanced"], images="none", data_dir=str(world.root))
    (built / "plan.json").write_text("{}")
    hub.push(built)
    assert "plan.json" not in hub.files()
    assert os.path.exists(built / "plan.json")
