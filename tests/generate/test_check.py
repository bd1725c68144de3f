"""`newsclippings generate --check`: what a config promises is found true, and each planted fault is named."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.generating import Corpus, make_corpus, make_kinds
from support.matching import dot, random_rule, unit
from support.sampling import sampled
from support.vectors import write as write_kinds
from support.world import World

from _newsclippings.generate import METHODS, GeneratedReport
from _newsclippings.generate.write import WORDS
from newsclippings import BadFileError, ConfigError, DataNotFoundError, Method, Recipe, Rule, generate, verify_generated

Places = dict[str, Any]


def make_places(corpus: Corpus, folder: Path) -> Places:
    """Write the inputs of `generate`, and return its arguments."""
    vectors = {
        name: corpus.write_vectors(name, folder / name, "pictures" if name in ("clip_image", "places") else "captions")
        for name in corpus.vectors
    }
    return {"corpus": corpus.table, "vectors": vectors, "entities": corpus.write_entities(folder / "entities")}


def statuses(report: GeneratedReport) -> dict[str, str]:
    return {name: found.status for name, found in report.properties.items()}


@pytest.mark.parametrize("seed", sampled(range(16), 3))
def test_random_recipes_are_sound(seed: int, tmp_path: Path) -> None:
    """Whatever `generate` made has all properties that it promises."""
    r = np.random.default_rng(100 + seed)
    corpus = make_corpus(tmp_path / "corpus", int(r.integers(40, 90)), seed)
    places = make_places(corpus, tmp_path)
    near = dot(*unit(corpus.vectors["clip_text"][:2]))
    methods = []
    for k in range(int(r.integers(1, 4))):
        query, against = (["clip_text", "clip_image"][n] for n in r.integers(2, size=2))
        uses = (1, 1, 2, None)[r.integers(4)]
        rule = random_rule(r, near)
        closed, balance = uses == 1 and bool(r.random() < 0.3), "zero-shot" if uses == 1 and r.random() < 0.2 else None
        methods.append(Method(f"m{k}", query, against, rule, uses, closed, None if closed else balance))
    shares = {"train": 0.7, "test": 0.3} if seed % 2 else {"train": 1.0}
    recipe = Recipe("mine", tuple(methods), "balanced" if seed % 3 == 0 else None, shares)
    try:
        generate(tmp_path / "out", recipe, **places)
    except ConfigError as error:
        assert re.search("is matched|there are none of some", str(error))  # noqa: PT017
        return
    report = verify_generated(tmp_path / "out", **places)
    assert report.sound, str(report)
    assert report.complete, str(report)
    assert {*statuses(report).values()} <= {"passed", "not promised"}
    assert str(report).endswith("Sound.")


@pytest.mark.parametrize("name", METHODS)
def test_all_methods_are_sound(name: str, tmp_path: Path) -> None:
    """Each of the eight methods, on a corpus that has pairs of its kind."""
    corpus = make_corpus(tmp_path / "corpus", 90, 3)
    r = np.random.default_rng(3)
    for other, like in (("sbert", "clip_text"), ("places", "clip_image"), ("faces", "clip_image")):
        noise = r.standard_normal(corpus.vectors[like].shape).astype(np.float32)
        corpus.vectors[other] = corpus.vectors[like] + noise / 3
    places = make_places(corpus, tmp_path)
    method = METHODS[name]
    if name == "look_alike":  # the authors' kind of faces has several of each picture, so its name is not for others
        method = replace(method, query="faces", against="faces", rule=replace(method.rule, floor=0.1))
    generate(tmp_path / "out", Recipe("mine", (method,), None, {"train": 1.0}), **places)
    report = verify_generated(tmp_path / "out", **places)
    assert report.sound, str(report)
    assert report.complete, str(report)


class Set:
    """A generated config whose files are changed, and its inputs.

    Args:
        folder: where both are written.
        recipe: of the config.
        out: the config, if it was generated before from such inputs: it is copied.
    """

    def __init__(self, folder: Path, recipe: Recipe, out: Path | None = None) -> None:
        self.folder, self.corpus = folder, make_corpus(folder / "corpus", 80, 5)
        self.places, self.out = make_places(self.corpus, folder), folder / "out"
        if out is None:
            generate(self.out, recipe, **self.places)
        else:
            shutil.copytree(out, self.out)
        self.rows = {split: self.read(split) for split in recipe.splits or {}}

    def file(self, split: str) -> Path:
        name = {"validation": "val"}.get(split, split)
        return self.out / f"news_clippings/data/mine/{name}.json"

    def read(self, split: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.file(split).read_bytes())["annotations"]
        return rows

    def score(self, query: str, against: str, row: dict[str, Any]) -> float:
        one, other = self.corpus.ids.index(row["id"]), self.corpus.ids.index(row["image_id"])
        return dot(unit(self.corpus.vectors[query])[one], unit(self.corpus.vectors[against])[other])

    def save(self) -> None:
        """Write the rows, and every digest and number of the manifest that is about them."""
        manifest = json.loads((self.out / "manifest.json").read_bytes())
        records = {row["id"]: row for row in self.corpus.rows}
        for split, rows in self.rows.items():
            content = json.loads(self.file(split).read_bytes()) | {"annotations": rows}
            self.file(split).write_text(json.dumps(content))
            said = manifest["splits"][split]
            said["rows"], said["sha256"] = len(rows), hashlib.sha256(self.file(split).read_bytes()).hexdigest()
            ids = sorted({row[key] for row in rows for key in ("id", "image_id")})
            used = [records[number] for number in ids if number in records]
            keys = ("id", "caption", "image_path", "outlet", "topic")
            text = json.dumps([[row[key] for row in used] for key in keys])
            said["records_sha256"] = hashlib.sha256(text.encode()).hexdigest()
            for number, name in enumerate(manifest["source_datasets"]):
                pairs = sum(row["falsified"] and row["source_dataset"] == number for row in rows)
                said["methods"][name]["pairs"] = pairs
        (self.out / "manifest.json").write_text(json.dumps(manifest))

    def check(self) -> GeneratedReport:
        return verify_generated(self.out, **self.places)


ONE = Recipe(
    "mine",
    (Method("clip_text_text", "clip_text", "clip_text", Rule(differ=("*",), same=("section",))),),
    None,
    {"train": 0.6, "test": 0.4},
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of `ONE`. Shared: nothing may change it."""
    return Set(tmp_path_factory.mktemp("generated"), ONE).out


@pytest.fixture
def made(generated: Path, tmp_path: Path) -> Set:
    return Set(tmp_path, ONE, generated)


def test_saving_the_same_changes_nothing(made: Set) -> None:
    """What plants faults plants none by itself."""
    made.save()
    assert statuses(made.check()) == {**dict.fromkeys(("P1", "P2", "P3", "P4", "P5", "P6", "P7"), "passed")} | {
        "P9": "not promised"
    }


def other_entity(made: Set) -> str:
    """Both captions of a pair get an entity in common, and the manifest the digest of the new file."""
    pair = made.rows["test"][1]
    for key in ("id", "image_id"):
        made.corpus.entities[made.corpus.ids.index(pair[key])].append(("沖縄", "GPE"))
    made.places["entities"] = made.corpus.write_entities(made.folder / "entities2")
    return f"test: caption {pair['id']} with picture {pair['image_id']} (clip_text_text): 沖縄 in common, differ *"


def other_id(made: Set) -> str:
    """Two pairs swap their pictures."""
    rows = made.rows["train"]
    first, second = rows[1], next(row for row in rows[3::2] if row["image_id"] != rows[0]["id"])
    first["image_id"], second["image_id"] = second["image_id"], first["image_id"]
    return f"train: caption {first['id']} with picture {first['image_id']} (clip_text_text): "


def other_score(made: Set) -> str:
    row = made.rows["train"][5]
    row["similarity_score"] += 2e-6
    return f"train: caption {row['id']} with picture {row['image_id']} (clip_text_text): {row['similarity_score']:.9f},"


def nearly_the_score(made: Set) -> str:
    """The seventh digit is another."""
    row = made.rows["train"][5]
    row["similarity_score"] += 1e-7
    return f"train: caption {row['id']} with picture {row['image_id']} (clip_text_text): {row['similarity_score']:.9f},"


def used_again(made: Set) -> str:
    first, second = (row for row in made.rows["train"][1:4:2])
    second["image_id"] = first["image_id"]
    second["similarity_score"] = made.score("clip_text", "clip_text", second)
    return f"train: picture {first['image_id']} (clip_text_text): 2 uses, at most 1"


def other_split(made: Set) -> str:
    row, other = made.rows["train"][1], made.rows["test"][0]
    row["image_id"] = other["id"]
    row["similarity_score"] = made.score("clip_text", "clip_text", row)
    return f"id of id {other['id']} is that of {other['id']} in train"


def copied_picture(made: Set) -> str:
    """The file of the twin's picture becomes a copy of the caption's own."""
    row = made.rows["test"][3]
    one, other = (made.corpus.rows[made.corpus.ids.index(row[key])]["image_path"] for key in ("id", "image_id"))
    made.corpus.pictures[other] = made.corpus.pictures[one]
    made.corpus.write()
    return f"test: caption {row['id']} with picture {row['image_id']}: a copy of the own one, both files have the same"


def copied_vector(made: Set) -> str:
    row = made.rows["test"][3]
    vectors = made.corpus.vectors["clip_image"]
    vectors[made.corpus.ids.index(row["image_id"])] = 3 * vectors[made.corpus.ids.index(row["id"])]
    made.places["vectors"]["clip_image"] = made.corpus.write_vectors("clip_image", made.folder / "v2", "pictures")
    return f"test: caption {row['id']} with picture {row['image_id']}: a copy of the own one, their vectors clip_image"


def flipped(made: Set) -> str:
    row = made.rows["train"][7]
    row["falsified"] = False
    return f"train: rows 6 and 7, ids {row['id']} and {row['id']}: not a pristine row and then a falsified one"


def without_a_row(made: Set) -> str:
    row = made.rows["train"].pop(9)
    return f"train: {len(made.rows['train'])} rows, an odd number, so one has no twin" if row else ""


def without_a_pair(made: Set) -> str:
    row = made.rows["train"][9]
    del made.rows["train"][8:10]
    return f"train: caption {row['id']} (clip_text_text) has no match, but picture "


def not_the_best(made: Set) -> str:
    """Two captions with pictures that score higher with each other lose them to nobody."""
    rows = made.rows["train"]
    best = max(rows[1::2], key=lambda row: row["similarity_score"])
    at = rows.index(best)
    del rows[at - 1 : at + 1]
    return f"train: caption {best['id']} (clip_text_text) has no match, but picture {best['image_id']} scores"


def unknown_id(made: Set) -> str:
    made.rows["test"][1]["image_id"] = 5
    return "test: id 5 is not in the corpus"


FAULTS: dict[str, tuple[str, Callable[[Set], str]]] = {
    fault.__name__: (name, fault)
    for name, fault in (
        ("P2", other_entity),
        ("P3", other_id),
        ("P3", other_score),
        ("P3", nearly_the_score),
        ("P4", used_again),
        ("P5", other_split),
        ("P6", copied_picture),
        ("P6", copied_vector),
        ("P1", flipped),
        ("P1", without_a_row),
        ("P7", without_a_pair),
        ("P7", not_the_best),
        ("P1", unknown_id),
    )
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_named(fault: str, made: Set) -> None:
    """Each fault is named by its property, though all digests of rows fit."""
    name, plant = FAULTS[fault]
    expected = plant(made)
    made.save()
    report = made.check()
    found = report.properties[name]
    assert found.status == "failed"
    assert any(expected in each for each in found.faults), str(report)
    assert not report.sound
    if fault == "other_score":
        assert {n for n, each in report.properties.items() if each.failed} == {"P3"}


MERGED = Recipe(
    "mine",
    (
        Method("first", "clip_text", "clip_image", Rule(differ=("*",)), uses=2),
        Method("second", "clip_text", "clip_text", closed=True),
        Method("third", "clip_image", "clip_image", balance="zero-shot"),
    ),
    "balanced",
    {"train": 1.0},
)


def shrink(made: Set) -> str:
    """A method loses a pair."""
    rows = made.rows["train"]
    at = next(k for k in range(0, len(rows), 2) if rows[k]["source_dataset"] == 0)
    del rows[at : at + 2]
    return f"train: first has {len(rows) // 6}, second has {len(rows) // 6 + 1}, third has"


def move(made: Set) -> str:
    """A caption is given to a second method, in place of one of that method's own."""
    rows = made.rows["train"]
    first = next(row for row in rows if row["source_dataset"] == 0)
    other = next(k for k in range(0, len(rows), 2) if rows[k]["source_dataset"] == 2)
    for row in rows[other : other + 2]:
        row["image_id"] = first["id"] if not row["falsified"] else row["image_id"]
        row["id"] = first["id"]
    rows.sort(key=lambda row: (row["id"], row["source_dataset"], row["falsified"]))
    return f"train: caption {first['id']} is in first and in third"


def open_up(made: Set) -> str:
    """A closed set loses a caption."""
    rows = made.rows["train"]
    at = next(k for k in range(0, len(rows), 2) if rows[k]["source_dataset"] == 1)
    gone = rows[at]["id"]
    user = next(row for row in rows if row["image_id"] == gone and row["falsified"] and row["source_dataset"] == 1)
    del rows[at : at + 2]
    return f"train: caption {user['id']} with picture {gone} (second): not in a closed set"


@pytest.mark.parametrize(("name", "plant"), [("P9", shrink), ("P9", move), ("P4", open_up)])
def test_faults_of_merged_sets_are_named(name: str, plant: Callable[[Set], str], tmp_path: Path) -> None:
    """Unequal numbers, a caption of two methods, and a set that is not closed."""
    made = Set(tmp_path, MERGED)
    sound = made.check()
    assert sound.sound, str(sound)
    assert sound.complete
    assert "second: only a part of its matches is in the file" in str(sound)
    expected = plant(made)
    made.save()
    found = made.check().properties[name]
    assert any(expected in fault for fault in found.faults), found.faults


COUNTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a reason is gone": (
        lambda facts: facts["unfilled"].popitem(),
        r"test: of \d+ captions of clip_text_text, \d+ are",
    ),
    "fewer took part": (lambda facts: facts.update(captions=3), r"test: of 3 captions of clip_text_text"),
    "more are matched": (lambda facts: facts.update(filled=facts["filled"] + 1), r"test: \d+ pairs of \d+ matched"),
    "some are forgotten": (
        lambda facts: facts.update(left_out={"no picture": 1}),
        r"\d+ captions are counted for clip",
    ),
    "none": (lambda facts: facts.clear(), "test has no counts of clip_text_text"),
    "a list": (lambda facts: facts.update(unfilled=[]), "test has no counts of clip_text_text"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts_are_compared(case: str, made: Set) -> None:
    """What the manifest counts of captions adds up, so that none is forgotten."""
    edit, message = COUNTS[case]
    manifest = json.loads((made.out / "manifest.json").read_bytes())
    edit(manifest["splits"]["test"]["methods"]["clip_text_text"])
    (made.out / "manifest.json").write_text(json.dumps(manifest))
    found = verify_generated(made.out).properties["P1"]
    assert any(re.search(f"manifest.json: {message}", fault) for fault in found.faults), found.faults


@pytest.mark.parametrize("name", ["corpus", "pictures", "entities", "recipe"])
def test_a_damaged_manifest_is_an_error(name: str, made: Set) -> None:
    """What it was made of has to be there."""
    manifest = json.loads((made.out / "manifest.json").read_bytes())
    manifest["made_of"][name] = {}
    (made.out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadFileError, match=r"manifest\.json: expected the manifest of a generated config"):
        made.check()


def test_digests_are_compared(made: Set) -> None:
    """Changed files and other inputs are named; so is a manifest that contradicts its recipe."""
    (made.out / "README.md").write_text("another")
    (made.out / "recipe.toml").write_text('config = "other"')
    made.file("test").write_bytes(made.file("test").read_bytes() + b"\n")
    made.corpus.rows[3]["topic"] += "?"
    made.corpus.write()
    found = made.check().properties["P1"]
    assert found.failed >= 5
    assert found.faults[:2] == [
        f"{name}: its SHA-256 is not that of manifest.json" for name in ("README.md", "recipe.toml")
    ]
    assert found.faults[2] == "recipe.toml is not the recipe that manifest.json has"


def test_reports_in_a_notebook(made: Set) -> None:
    """What was made and what was checked are tables with the numbers of their texts; all texts are escaped."""
    report = generate(made.out, ONE, **made.places)
    counts = report.splits["test"]["methods"]["clip_text_text"]
    page = report._repr_html_()
    assert all(f">{counts[key]}</td>" in page for key in ("captions", "filled", "pairs"))
    assert all(f"{count} {WORDS[why]}" in page for why, count in counts["unfilled"].items())
    assert "it was there already" in page
    for entities in made.corpus.entities:
        entities += [("<b>", "GPE")]
    made.places["entities"] = made.corpus.write_entities(made.folder / "entities3")
    found = made.check()
    page = found._repr_html_()
    assert "<b>Not sound: P1, P2" in page
    assert "&lt;b&gt; in common, differ *" in page
    assert page.count("<b>") == 1
    assert f">{found.properties['P2'].failed}</td>" in page


def test_what_is_not_given_is_not_passed(made: Set) -> None:
    """Without inputs the report says of each property what was not checked, and which option gives it."""
    report = verify_generated(made.out)
    assert report.sound
    assert not report.complete
    assert statuses(report) == {
        "P1": "passed", "P2": "not checked", "P3": "not checked", "P4": "passed", "P5": "passed in part",
        "P6": "not checked", "P7": "not checked", "P9": "not promised",
    }  # fmt: skip
    text = str(report)
    assert "not checked: clip_text_text: entities are not given (entities=)" in text
    assert "not checked: clip_text_text: vectors clip_text are not given (vectors='clip_text=FOLDER')" in text
    assert "not checked: clip_text_text: the corpus is not given (corpus=)" in text
    assert text.endswith("No fault was found. Not checked, or in part: P2, P3, P5, P6, P7.")
    some = verify_generated(made.out, corpus=made.corpus.table, vectors=made.places["vectors"])
    assert statuses(some)["P2"] == "passed in part"
    assert statuses(some)["P7"] == "not checked"
    text_only = {"clip_text": made.places["vectors"]["clip_text"]}  # without those by which copies were recognised
    others = {name: place for name, place in made.places.items() if name != "vectors"}
    for vectors in ({}, text_only):
        without = verify_generated(made.out, vectors=vectors, **others)
        assert without.sound, str(without)
        assert statuses(without)["P5"] == statuses(without)["P6"] == "passed in part"
        assert statuses(without)["P7"] == "not checked"
    with pytest.raises(DataNotFoundError, match="nowhere"):
        verify_generated(made.out, entities=made.folder / "nowhere")
    with pytest.raises(DataNotFoundError, match="has no generated config"):
        verify_generated(made.folder)


def test_of_visual_news(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The official splits and the authors' metadata: captions of a split are its own, and nothing more is promised."""
    world = new_world(pairs={"train": 12, "validation": 8, "test": 8})
    write_kinds(world, {kind: make_kinds(world, kind) for kind in ("clip_text", "clip_image", "sbert")})
    recipe = Recipe(
        "mine",
        (
            Method("text", "clip_text", "clip_image", Rule(differ=("*",), picture="has_person"), uses=2),
            Method("named", "sbert", "sbert", Rule(share=("PERSON",), other=("topic",))),
        ),
    )
    generate(tmp_path / "out", recipe, data_dir=world.root)
    report = verify_generated(tmp_path / "out", data_dir=world.root)
    assert report.sound, str(report)
    assert report.complete, str(report)
    assert [found.checked > 0 for found in report.properties.values()] == [True] * 7 + [False]
    alone = verify_generated(tmp_path / "out")
    assert statuses(alone)["P7"] == "not checked"
    assert "the corpus is not given (data_dir=)" in str(alone)


def test_the_command(made: Set) -> None:
    """It prints the report as text or JSON; the exit code is 1 if something is wrong."""
    places = ["--corpus", made.places["corpus"], "--entities", made.places["entities"]]
    for name, place in made.places["vectors"].items():
        places += ["--vectors", f"{name}={place}"]
    done = run("generate", "--check", made.out, *places)
    assert done.exit_code == 0
    assert done.output.rstrip().endswith("Sound.")
    other_score(made)
    made.save()
    done = run("generate", "--check", made.out, *places, "--format", "json")
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert not found["sound"]
    assert found["complete"]
    assert found["properties"]["P3"]["status"] == "failed"
    assert found["properties"]["P3"]["failed"] == 1
    done = run("generate", "--check", made.out, "--uses", "2")
    assert done.exit_code == 2
    assert "--check checks what is there, and --uses is about making it: use only one of them." in done.output


def second_best(made: Set) -> str:
    """A caption has the second of its pictures, whose score is right."""
    row = next(row for row in made.rows["train"] if row["falsified"])
    free = [other["id"] for other in made.rows["train"] if not other["falsified"]]
    best = row["image_id"]
    row["image_id"] = next(number for number in free if number not in (best, row["id"]))
    row["similarity_score"] = made.score("clip_text", "clip_image", row)
    has = f"picture {row['image_id']} with {row['similarity_score']:.6f}"
    return f"train: caption {row['id']} (any) has {has}, but picture"


def blocked(made: Set) -> str:
    """Two captions of a closed set swap their pictures, which one of them and the other's picture would rather not."""
    rows = [row for row in made.rows["train"] if row["falsified"]]
    rows.sort(key=lambda row: -row["similarity_score"])
    best, last = rows[0], rows[-1]
    best["image_id"], last["image_id"] = last["image_id"], best["image_id"]
    for row in (best, last):
        row["similarity_score"] = made.score("clip_text", "clip_image", row)
    has = f"picture {best['image_id']} with {best['similarity_score']:.6f}"
    return f"train: caption {best['id']} (any) has {has}, but picture"


@pytest.mark.parametrize(
    ("method", "plant"),
    [
        (Method("any", "clip_text", "clip_image", uses=None), second_best),
        (Method("any", "clip_text", "clip_image", closed=True), blocked),
        (Method("any", "clip_text", "clip_image", Rule(differ=("*",)), uses=2), blocked),
    ],
)
def test_only_the_best_picture_will_do(method: Method, plant: Callable[[Set], str], tmp_path: Path) -> None:
    """Pairs that obey every rule, with right scores, but are not those that were to be made."""
    made = Set(tmp_path, Recipe("mine", (method,), None, {"train": 1.0}))
    expected = plant(made)
    made.save()
    report = made.check()
    assert any(fault.startswith(expected) for fault in report.properties["P7"].faults), str(report)
    assert not {"P1", "P3", "P4", "P5"} & {name for name, found in report.properties.items() if found.failed}
