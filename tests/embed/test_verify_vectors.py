"""`embed OUT --check` finds whatever is not what `embed` wrote, and the command makes what the function makes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.encoding import bytes_of, encoder, faces, wanted
from support.reading import environment
from support.world import World

from _newsclippings.embed import check, make, verify
from newsclippings import (
    BadFileError,
    ConfigError,
    DataNotFoundError,
    Encoder,
    embed,
    read_embeddings,
    verify_vectors,
)


def made(world: World, out: Path, made_by: Encoder | None = None, **options: Any) -> Path:
    embed(out, made_by or encoder(), data_dir=world.root, part_size=5, **options)
    return out


def renew_sums(out: Path) -> None:
    """Write SHA256SUMS again, as somebody would who changed a file on purpose."""
    names = [line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()]
    sums = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names if (out / name).exists()}
    (out / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def change_vectors(part: Path, change: Callable[[Any], Any]) -> None:
    table = pq.read_table(part)
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(change(flat.copy()), pa.float32()), 12)
    changed = table.set_column(1, "vector", vectors).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, part, compression="none")


@pytest.mark.parametrize("of", ["pictures", "captions", "faces"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_embed_wrote_is_sound(world: World, tmp_path: Path, of: str, dtype: str) -> None:
    """All items of a small folder are encoded again; without --ids, whatever the ids were."""
    made_by = faces() if of == "faces" else encoder(of)
    ids = sorted(wanted(world, made_by.of))[2:15]
    out = made(world, tmp_path / "out", made_by, dtype=dtype, ids=ids)
    report = verify_vectors(out, made_by, data_dir=world.root)
    assert (report.problems, report.notes, report.ids, report.compared) == ([], [], 13, 13)
    assert report.sound
    assert str(report).endswith("Sound.")
    assert report.least_cosine is not None
    assert report.least_cosine > 0.99999


def flip(out: Path) -> None:
    data = bytearray((out / "part-00002.parquet").read_bytes())
    data[120] ^= 1
    (out / "part-00002.parquet").write_bytes(data)


def lose(out: Path) -> None:
    (out / "part-00003.parquet").unlink()


def name_another_file(out: Path) -> None:
    """A file without end."""
    with (out / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  /dev/zero\n")


def shorten_sums(out: Path) -> None:
    lines = (out / "SHA256SUMS").read_text().splitlines(keepends=True)
    (out / "SHA256SUMS").write_text("".join(lines[:-2]))


def lose_and_hide(out: Path) -> None:
    lose(out)
    renew_sums(out)


def turn(out: Path) -> None:
    change_vectors(out / "part-00001.parquet", lambda flat: flat[::-1])
    renew_sums(out)


def spoil(out: Path) -> None:
    change_vectors(out / "part-00001.parquet", lambda flat: np.where(np.arange(len(flat)) == 7, np.nan, flat))
    renew_sums(out)


def clear(out: Path) -> None:
    change_vectors(out / "part-00001.parquet", lambda flat: np.where(np.arange(len(flat)) < 12, 0, flat))
    renew_sums(out)


def swap(out: Path) -> None:
    first, second = (out / f"part-0000{k}.parquet" for k in (1, 2))
    second.write_bytes(first.read_bytes())
    renew_sums(out)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (flip, ["part-00002.parquet does not match SHA256SUMS"]),
        (lose, ["part-00003.parquet is not there"]),
        (lose_and_hide, ["SHA256SUMS does not list part-00003.parquet", "part-00003.parquet is not there, or damaged"]),
        (turn, ["5 of 38 items that were encoded again have another vector. Ids and cosines: "]),
        (spoil, ["part-00001.parquet has 1 vectors that are zero or not finite"]),
        (clear, ["part-00001.parquet has 1 vectors that are zero or not finite"]),
        (swap, ["the parts have other ids than plan.json says"]),
        (lambda out: (out / "SHA256SUMS").unlink(), ["there is no SHA256SUMS: the folder is not complete"]),
        (lambda out: (out / "README.md").write_text("x"), ["README.md does not match SHA256SUMS"]),
        (name_another_file, ["/dev/zero is not there"]),
        (shorten_sums, ["SHA256SUMS does not list part-00007.parquet"]),
        (lambda out: (out / "plan.json").write_text((out / "plan.json").read_text() + "\n"), ["of another plan"]),
    ],
)
def test_each_fault_is_named(world: World, tmp_path: Path, change: Callable[[Path], object], says: list[str]) -> None:
    """A flipped byte, a missing part, vectors that somebody changed with their checksums, ..."""
    out = made(world, tmp_path / "out")
    change(out)
    report = verify_vectors(out, encoder(), data_dir=world.root)
    assert not report.sound
    for text in says:
        assert any(text in problem for problem in report.problems), report.problems
    assert "Not sound" in str(report)


def test_what_is_missing_in_the_sums_is_made_again(world: World, tmp_path: Path) -> None:
    """Checksums that were cut between two lines are completed."""
    out = made(world, tmp_path / "out")
    whole = bytes_of(out)
    shorten_sums(out)
    made(world, out)
    assert bytes_of(out) == whole


def test_other_files_are_noted(world: World, tmp_path: Path) -> None:
    """They harm nothing, except those who read all files of the folder."""
    out = made(world, tmp_path / "out")
    (out / "part-00099.parquet").write_bytes((out / "part-00000.parquet").read_bytes())
    report = verify_vectors(out, encoder(), data_dir=world.root)
    assert report.sound
    assert report.notes == ["part-00099.parquet is not a file of plan.json"]


UNREAD = [
    "[]",
    "null",
    '{"a": 5}',
    '{"a": ["x"]}',
    '{"a": [1.5]}',
    '{"a": [1e400]}',
    "[" * 10_000,
    '{"a": [%s]}' % 10**20,
]


@pytest.mark.parametrize("unread", UNREAD, ids=lambda text: text[:12])
def test_a_part_of_a_stranger_with_odd_metadata(world: World, tmp_path: Path, unread: str) -> None:
    """It is damaged: `--check` names it, joining is an error of this package, and `embed` makes it again."""
    out = made(world, tmp_path / "out")
    part = out / "part-00001.parquet"
    whole = part.read_bytes()
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"unread": unread.encode()}), part)
    renew_sums(out)
    report = verify_vectors(out, encoder(), data_dir=world.root)
    assert report.problems == ["part-00001.parquet is not there, or damaged"]
    with pytest.raises(BadFileError, match=r"part-00001.parquet: expected ids without a vector"):
        read_embeddings(out)
    made(world, out)
    assert part.read_bytes() == whole


@pytest.mark.parametrize("column", ["id", "vector"])
def test_a_part_with_other_columns_is_made_again(world: World, tmp_path: Path, column: str) -> None:
    """Ids that are null, or vectors of another type, are no part of the plan."""
    out = made(world, tmp_path / "out")
    part = out / "part-00001.parquet"
    whole = part.read_bytes()
    table = pq.read_table(part)
    odd = [None] * len(table) if column == "id" else table["vector"].to_pylist()
    kind = pa.int64() if column == "id" else pa.list_(pa.float64(), 12)
    pq.write_table(table.set_column(column == "vector", column, pa.array(odd, kind)), part)
    renew_sums(out)
    assert not verify_vectors(out, encoder(), data_dir=world.root).sound
    made(world, out)
    assert part.read_bytes() == whole


def test_hostile_parts(world: World, tmp_path: Path) -> None:
    """Whatever byte of a part is changed, a check ends with a report."""
    out = made(world, tmp_path / "out")
    (out / "SHA256SUMS").unlink()
    part = out / "part-00001.parquet"
    whole = part.read_bytes()
    rng = np.random.default_rng(5)
    for trial in range(60):
        data = bytearray(whole)
        at = len(data) - 1 - int(rng.exponential(500)) % len(data)
        if trial % 4 == 0:
            del data[at : at + 3]
        else:
            data[at] ^= 1 << int(rng.integers(8))
        part.write_bytes(data)
        with contextlib.suppress(ConfigError):  # of a part of another plan
            assert not verify_vectors(out, encoder(), data_dir=world.root).sound


def test_another_model_or_corpus_is_noted(world: World, tmp_path: Path, new_world: Callable[..., World]) -> None:
    """The facts that differ are notes; vectors that differ are a problem."""
    out = made(world, tmp_path / "out")
    other = encoder(facts={"model": "other"}, prepare=lambda picture: encoder().prepare(picture)[::-1].copy())
    report = verify_vectors(out, other, data_dir=world.root)
    assert report.notes == ["model was 'plain', and is 'other' now"]
    assert "38 of 38 items" in report.problems[0] or "items that were encoded again" in report.problems[0]
    changed = new_world(tar=False)
    captions = made(world, tmp_path / "captions", encoder("captions"))
    number = next(iter(wanted(world, "captions")))
    changed.records[number] = dataclasses.replace(changed.records[number], caption="Another one.")
    changed.write_data_json()
    report = verify_vectors(captions, encoder("captions"), data_dir=changed.root)
    assert report.notes == ["the inputs have other captions than those that the vectors were made of"]


def test_a_sample_of_a_large_folder(world: World, tmp_path: Path) -> None:
    """At most 64 items are encoded again, evenly spaced."""
    ids = sorted(world.records)
    assert len(ids) > check.AGAIN
    out = made(world, tmp_path / "out", ids="all")
    seen: list[int] = []

    def count(batch: list[Any]) -> Any:
        seen.append(len(batch))
        return encoder().encode(batch)

    assert verify_vectors(out, encoder(encode=count), data_dir=world.root).compared == check.AGAIN
    assert sum(seen) == check.AGAIN


def test_a_plan_is_needed(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"plan\.json"):
        verify_vectors(tmp_path, encoder(), data_dir=world.root)
    out = made(world, tmp_path / "out", encoder(facts={}))
    with pytest.raises(ConfigError, match="names no model"):
        verify_vectors(out, data_dir=world.root)


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Open the plain encoder, whatever model is named; the list has what was asked for."""
    asked: list[tuple[Any, ...]] = []

    def open_plain(model: Any, of: str, augment: str | None, device: str | None = None) -> Encoder:
        asked.append((model, of, augment, device))
        return encoder(of, facts={"model": model, "augment": augment})

    for module in (make, verify):
        monkeypatch.setattr(module, "make_encoder", open_plain)
    return asked


def test_the_command(world: World, tmp_path: Path, by_name: list[tuple[Any, ...]]) -> None:
    """Make, make again, check, as text and as JSON; exit code 1 if the folder is not sound."""
    out, data = tmp_path / "out", ["--data-dir", world.root]
    command = ["embed", out, "--model", "m", "--of", "pictures", "--part-size", 5, "--device", "cpu", *data]
    first = run(*command, "--augment", "a:b")
    assert first.exit_code == 0, first.output
    assert first.stdout == f"{out} (38 pictures, 12 numbers each)\n"
    again = run(*command, "--augment", "a:b", "--format", "json")
    assert json.loads(again.stdout)["made"] == 0
    assert by_name == [("m", "pictures", "a:b", "cpu")] * 2
    other = run(*command)
    assert other.exit_code == 1
    assert 'augment "a:b" there, null now' in other.output
    assert "--augment" not in other.output
    assert "plan.json has a:b. Pass the same --augment" in run("embed", out, "--check", *data).output
    same = ["--check", "--augment", "a:b", *data]
    checked = run("embed", out, *same)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.endswith("Sound.\n")
    assert by_name[-1] == ("m", "pictures", "a:b", None)
    flip(out)
    report = run("embed", out, *same, "--format", "json")
    assert report.exit_code == 1
    assert json.loads(report.stdout)["problems"][0] == "part-00002.parquet does not match SHA256SUMS"


OWN = """
import numpy

def colours(pictures):
    return numpy.stack([numpy.asarray(picture.resize((1, 1)), "float32").ravel() + 1 for picture in pictures])

def mirror(picture):
    return picture.transpose(0)
"""


def test_a_function_of_the_user(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`py:module:function` and `--augment`, made and checked in processes that know only the command line."""
    monkeypatch.chdir(tmp_path)
    Path("my_colours.py").write_text(OWN)
    command = ["--model", "py:my_colours:colours", "--of", "pictures", "--augment", "my_colours:mirror"]
    of_plan = [*command[:2], *command[4:]]
    for arguments in (["out", *command], ["out", "--check", *of_plan]):
        done = run("embed", *arguments, "--data-dir", world.root)
        assert done.exit_code == 0, done.output
    assert done.stdout == "out: 38 ids. 38 encoded again, cosine 1.000000 or more.\nSound.\n"
    refused = run("embed", "out", "--check", "--augment", "my_colours:mirror", "--data-dir", world.root)
    assert "names the model 'py:my_colours:colours', which is of the machine" in refused.output
    facts = json.loads(Path("out/plan.json").read_bytes())["encoder"]
    assert (facts["model"], facts["augment"]) == ("py:my_colours:colours", "my_colours:mirror")


def test_wrong_use_of_the_command(world: World, tmp_path: Path) -> None:
    """Exit code 2, and what to do."""
    for arguments, says in (
        (["--of", "pictures"], "Missing option '--model'"),
        (["--model", "m"], "Missing option '--of'"),
        (["--check", "--dtype", "float16"], "--dtype is about making it"),
        (["--model", "m", "--of", "picture"], "Did you mean 'pictures'"),
    ):
        result = run("embed", tmp_path / "out", *arguments, "--data-dir", world.root)
        assert result.exit_code == 2
        assert says in result.output
    assert "is a URL; expected a local path" in run("embed", "s3://bucket/x", "--check").output


def test_embed_is_quiet_when_piped(world: World, tmp_path: Path) -> None:
    """No progress bar, no log."""
    code = "import sys; from support.encoding import encoder; import newsclippings"
    code += "; print(newsclippings.embed(sys.argv[1], encoder(), data_dir=sys.argv[2]).made)"
    command = [sys.executable, "-c", code, str(tmp_path / "out"), str(world.root)]
    env = {name: value for name, value in environment(tmp_path / "hf").items() if name != "TQDM_DISABLE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert len(bytes_of(tmp_path / "out")) == 4
