"""A generated config is one for every command: loading, building, checking, measuring, drawing, training."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.command import run
from support.generating import METHODS, Made, Row, make_corpus, make_kinds, make_visual_news, planned_rows
from support.matching import dot, unit
from support.reading import PACKAGE
from support.vectors import FILES
from support.vectors import write as write_kinds
from support.world import World

import newsclippings
from _newsclippings.facts import ENV_DATA_DIR, EXPORT_FORMS
from _newsclippings.generate import GeneratedFolder, parse_recipe
from newsclippings import BadFileError, ConfigError, DataNotFoundError, NewsCLIPpings, Recipe, Rule, generate, verify


def raw(rows: Any) -> list[Row]:
    return [dict(row) for row in rows.cast_column("image", datasets.Image(decode=False))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_those_of_the_plan(made: Made, streaming: bool) -> None:
    """By `load_dataset` and `newsclippings.load`, built and streamed, in all splits."""
    places: dict[str, Any] = {"data_dir": str(made.out), "visual_news": str(made.corpus.table), "streaming": streaming}
    loaded = datasets.load_dataset("newsclippings", "mine", **places)
    assert [*loaded] == ["train", "validation", "test"]
    for split, rows in loaded.items():
        assert raw(rows) == made.rows(split)
        assert rows.features["source_dataset"].names == METHODS
    assert raw(newsclippings.load("mine", split="test", **places)) == made.rows("test")


def test_the_class_keeps_the_official_configs(made: Made) -> None:
    """The name belongs to the builder that loads it, and to nobody else."""
    before = [*NewsCLIPpings.builder_configs]
    builder = NewsCLIPpings(config_name="mine", data_dir=str(made.out), images="none")
    assert [*builder.builder_configs] == [*before, "mine"]
    assert builder.config.name == "mine"
    assert [*NewsCLIPpings.builder_configs] == [config.name for config in NewsCLIPpings.BUILDER_CONFIGS] == before
    assert len(before) == 5
    with pytest.raises(ConfigError, match=r"'mine' is not known.* One that you generated is in its own folder"):
        NewsCLIPpings(config_name="mine", data_dir=str(made.corpus.root))
    with pytest.raises(ConfigError, match=r"'other' is not known\. Allowed: .*'mine'"):
        newsclippings.load("other", data_dir=str(made.out))


def test_other_corpora_are_refused(made: Made, tmp_path: Path, new_world: Callable[..., World]) -> None:
    """Another caption, or another corpus with the same ids, is an error that names the config and the place."""
    other = make_corpus(tmp_path / "other")
    ds = datasets.load_dataset("newsclippings", "mine", data_dir=str(made.out), visual_news=str(other.table))
    assert raw(ds["test"]) == made.rows("test")  # the same, elsewhere
    for row in other.rows:
        row["caption"] += "。"
    other.write()
    with pytest.raises(BadFileError, match=r"mine was made from another corpus than .*記事\.csv: the captions"):
        newsclippings.load("mine", split="test", data_dir=str(made.out), visual_news=str(other.table))
    report = verify(made.out, other.table)
    assert not report.sound
    assert "was made from another corpus" in str(report)
    assert run("verify", "--data-dir", made.out, "--visual-news", other.table).exit_code == 1
    with pytest.raises(BadFileError, match="was made from another corpus"):
        newsclippings.load("mine", split="test", data_dir=str(made.out), visual_news=str(new_world().origin))
    places: list[dict[str, Any]] = [{}, {"images": "none"}, {"visual_news": str(other.root)}]
    for place in places:  # nothing, and the folder in place of its table
        with pytest.raises(DataNotFoundError, match=r"from which mine was made was not found\. Pass its table"):
            newsclippings.load("mine", split="test", data_dir=str(made.out), **place)
    with pytest.raises(ConfigError, match="embeddings='clip_text' is of VisualNews, and this corpus is another"):
        newsclippings.load("mine", data_dir=made.out, visual_news=made.corpus.table, embeddings=["clip_text"])


def test_verify(made: Made) -> None:
    """Sound as it was made; a changed row, and a changed label, are faults."""
    done = run("verify", "--data-dir", made.out, "--visual-news", made.corpus.table, "--config", "mine", "--images")
    assert done.exit_code == 0, done.output
    assert "Sound" in done.stdout
    report = verify(made.out, made.corpus.table)
    assert report.sound
    assert {split: counts["rows"] for split, counts in report.counts["mine"].items()} == {
        split: len(made.rows(split)) for split in ("train", "validation", "test")
    }
    place = made.out / "news_clippings/data/mine/val.json"
    before = place.read_text()
    try:
        place.write_text(before.replace('"falsified": true}', '"falsified": true }', 1))
        changed = verify(made.out, made.corpus.table)
        assert not changed.sound
        assert "expected the file that its manifest.json names, found another" in str(changed)
    finally:
        place.write_text(before)


def test_build_and_its_commands(made: Made, tmp_path: Path) -> None:
    """build, verify --built, stats, card, croissant and preview take the config, with the names of its methods."""
    built, places = tmp_path / "built", ["--data-dir", made.out, "--visual-news", made.corpus.table]
    done = run("build", built, "--config", "mine", *places)
    assert done.exit_code == 0, done.output
    loaded = datasets.load_dataset(str(built), "mine")
    for split in ("train", "validation", "test"):
        assert raw(loaded[split]) == made.rows(split)
        assert loaded[split].features["source_dataset"].names == METHODS
    assert newsclippings.verify_built(built).sound, str(newsclippings.verify_built(built))
    stats = run("stats", built, "--format", "json")
    assert stats.exit_code == 0, stats.output
    assert sorted(json.loads(stats.stdout)["configs"]["mine"]["scores"]) == METHODS
    assert run("card", built).exit_code == 0
    card = (built / "README.md").read_text()
    assert (
        "## Generated configs\n\n- `mine`: Generated matches in equal parts, by clip_text_image, clip_text_text."
        in card
    )
    assert "a falsified pair\nmay be true" in card
    assert run("croissant", built).exit_code == 0
    page = tmp_path / "page.html"
    done = run("preview", "--config", "mine", "--split", "test", "--html", page, *places)
    assert done.exit_code == 0, done.output
    assert '"measure":"clip_text_text"' in page.read_text()
    assert run("preview", "--config", "mine", *places, "-o", tmp_path / "pairs.png").exit_code == 0
    info = run("info", "--config", "mine", *places, "--format", "json")
    assert json.loads(info.stdout)["configs"]["mine"]["rows"]["test"] == len(made.rows("test"))
    assert run("info", "--config", "mine", *places).exit_code == 0
    once = run("build", tmp_path / "once", "--config", "mine", "--images", "once", *places)
    assert once.exit_code == 0, once.output
    assert newsclippings.verify_built(tmp_path / "once").sound


def test_export(made: Made, tmp_path: Path) -> None:
    """In all forms, from the data and from a built folder: the same rows, with the names of the methods."""
    places = ["--data-dir", made.out, "--visual-news", made.corpus.table]
    assert run("build", tmp_path / "folder", "--config", "mine", *places).exit_code == 0
    for source, where in (("data", places), ("built", ["--built", tmp_path / "folder"])):
        for form in EXPORT_FORMS:
            done = run("export", tmp_path / source / form, "--as", form, "--config", "mine", *where)
            assert done.exit_code == 0, done.output
    out = tmp_path / "data"
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        rows = made.rows(split)
        hydrated = json.loads((out / f"hydrated/data/mine/{name}.json").read_bytes())
        assert hydrated["source_datasets"] == {"0": METHODS[0], "1": METHODS[1]}
        for mine, row in zip(hydrated["annotations"], rows, strict=True):
            assert (mine["source_dataset"], mine["caption"]) == (row["source_dataset"], row["caption"])
            assert (out / "hydrated" / mine["image_path"]).read_bytes() == row["image"]["bytes"]
        with open(out / f"csv/{split}.csv", encoding="utf-8", newline="") as file:
            lines = [*csv.DictReader(file)]
        assert [line["source_dataset"] for line in lines] == [METHODS[row["source_dataset"]] for row in rows]
        assert [line["caption"] for line in lines] == [row["caption"] for row in rows]
        with tarfile.open(out / f"webdataset/{split}-00000.tar") as tar:
            read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        facts = [json.loads(read[f"{row['index']:08d}.json"])["source_dataset"] for row in rows]
        assert facts == [METHODS[row["source_dataset"]] for row in rows]
        chats = [json.loads(line) for line in (out / f"messages/{split}.jsonl").read_text().splitlines()]
        assert [chat["messages"][1]["content"][0]["text"] for chat in chats] == ["pristine", "falsified"] * (
            len(rows) // 2
        )
        samples = json.loads((out / f"llava/{split}.json").read_bytes())
        assert [sample["id"] for sample in samples] == [f"mine-{split}-{row['index']:06d}" for row in rows]
    for form in EXPORT_FORMS:
        one, other = (
            {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            for folder in (out / form, tmp_path / "built" / form)
        )
        for files in (one, other):
            del files["export.json"], files["SHA256SUMS"]
        assert one == other


def test_evaluate(made: Made, tmp_path: Path) -> None:
    """Predictions are measured against the generated labels, with a breakdown by method; also of a built folder."""
    rows = made.rows("test")
    predictions = [{"index": row["index"], "score": float(row["falsified"])} for row in rows]
    found = newsclippings.evaluate(predictions, config="mine", split="test", data_dir=made.out)
    assert found.values["accuracy"] == 1
    sources = found.systems[0].groups["source_dataset"]
    assert {name: group.rows for name, group in sources.items()} == dict.fromkeys(METHODS, len(rows) // 2)
    built = tmp_path / "built"
    places = ["--data-dir", made.out, "--visual-news", made.corpus.table]
    run("build", built, "--config", "mine", "--images", "none", *places)
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in predictions))
    for where in (["--data-dir", made.out], ["--built", built]):
        done = run("evaluate", file, "--config", "mine", *where, "--format", "json")
        assert done.exit_code == 0, done.output
        assert sorted(json.loads(done.stdout)["by"]["source_dataset"]) == METHODS


def test_train(made: Made, tmp_path: Path) -> None:
    """The trainer learns on a generated config, and its report has the accuracy by method."""
    pytest.importorskip("transformers")
    from _newsclippings.train import train

    out = tmp_path / "run"
    quick = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "1", "--max_steps", "2"]
    places = ["--config", "mine", "--data_dir", str(made.out), "--visual_news", str(made.corpus.table)]
    train([*quick, *places, "--output_dir", str(out), "--eval_steps", "1", "--save_steps", "1"])
    measures = json.loads((out / "measures.json").read_text())
    assert {*METHODS} == {*measures["by"]["source_dataset"]}
    assert measures["rows"]["found"] == len(made.rows("test"))


def test_benchmark(made: Made, tmp_path: Path) -> None:
    """A baseline runs on a generated config: the cosines of the plan's vectors are its predictions."""
    folder, corpus = made.out.parent, made.corpus
    places = ["--data-dir", made.out, "--visual-news", corpus.table, "--out", tmp_path / "runs"]
    vectors = f"image={folder / 'clip_image'},text={folder / 'clip_text'}"
    done = run("benchmark", "clip-cosine", "--config", "mine", "--vectors", vectors, *places, "--format", "json")
    assert done.exit_code == 0, done.stderr
    (line,) = json.loads(done.stdout)["lines"]
    (file,) = line["predictions"]
    scores = [json.loads(text)["score"] for text in Path(file).read_text().splitlines()]
    unit = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in corpus.vectors.items()}
    where = {number: k for k, number in enumerate(corpus.ids)}
    rows = made.rows("test")
    cosines = [unit["clip_text"][where[row["id"]]] @ unit["clip_image"][where[row["image_id"]]] for row in rows]
    assert np.corrcoef(scores, cosines)[0, 1] == pytest.approx(-1, abs=1e-6)
    assert line["published"] is None or line["verdict"].startswith("not compared")
    assert "|config:mine|" in line["signature"]


def test_embed_takes_its_ids(made: Made, tmp_path: Path) -> None:
    """`embed --ids config:mine` encodes what the config needs, of the corpus in the table."""

    def encode(batch: Any) -> Any:
        return np.array(batch, np.float32)

    lengths = newsclippings.Encoder("captions", 2, {"model": "lengths"}, lambda text: [len(text), 1.0], encode)
    report = newsclippings.embed(
        tmp_path / "v", lengths, ids="config:mine", data_dir=made.out, visual_news=made.corpus.table
    )
    assert report.ids == len({row["id"] for split in ("train", "validation", "test") for row in made.rows(split)})
    every = newsclippings.embed(tmp_path / "w", lengths, ids="all", visual_news=made.corpus.table)
    assert every.ids == len(made.corpus.rows)


def test_from_the_environment(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with data.json in VisualNews's form is a corpus, found below NEWSCLIPPINGS_DATA_DIR or visual_news=."""
    home = tmp_path / "home"
    corpus = make_visual_news(home / "visual_news" / "origin", make_corpus(tmp_path / "plan"))
    vectors = {"clip_text": corpus.write_vectors("clip_text", tmp_path / "t", "captions")}
    entities, origin = corpus.write_entities(tmp_path / "entities"), home / "visual_news" / "origin"
    out = tmp_path / "out"
    recipe = Recipe("own", (newsclippings.Method("near", "clip_text", "clip_text"),), None, {"train": 0.5, "test": 0.5})
    generate(out, recipe, corpus=origin, vectors=vectors, entities=entities)
    assert verify(out, origin).sound, str(verify(out, origin))
    expected = planned_rows(out, corpus, "test", "own")
    assert raw(newsclippings.load("own", split="test", data_dir=str(out), visual_news=str(origin))) == expected
    monkeypatch.setenv(ENV_DATA_DIR, str(home))
    assert raw(newsclippings.load("own", split="test", data_dir=str(out))) == expected
    with pytest.raises(ConfigError, match="metadata=True is of VisualNews, and this corpus is another"):
        newsclippings.load("own", split="test", data_dir=str(out), metadata=True)


def test_official_splits_and_kinds(tmp_path: Path, new_world: Callable[..., World]) -> None:
    """Of VisualNews the official splits, the authors' entities and their vectors are taken without being named."""
    world = new_world(pairs={"train": 12, "validation": 8, "test": 8})
    plan = {kind: make_kinds(world, kind) for kind in ("clip_text", "clip_image", "sbert")}
    write_kinds(world, plan)
    recipe = Recipe(
        "mine",
        (
            newsclippings.Method("text", "clip_text", "clip_image", Rule(picture="has_person"), uses=2),
            newsclippings.Method("named", "sbert", "sbert", Rule(share=("PERSON",), other=("topic",))),
        ),
        "balanced",
    )
    out = tmp_path / "out"
    report = generate(out, recipe, data_dir=world.root)
    assert report.splits["train"]["methods"]["named"]["captions"] == len(world.pools["train"])
    for split, pool in world.pools.items():
        rows = json.loads((out / f"news_clippings/data/mine/{FILES[split]}.json").read_bytes())["annotations"]
        assert rows
        for row in rows:
            assert {row["id"], row["image_id"]} <= {*pool}
            assert not row["falsified"] or row["source_dataset"] == 1 or row["image_id"] % 2 == 0  # has_person
        uses = Counter(row["image_id"] for row in rows if row["falsified"] and row["source_dataset"] == 0)
        assert max(uses.values()) <= 2
    for place in (world.origin, world.tar):
        loaded = newsclippings.load("mine", split="validation", data_dir=str(out), visual_news=str(place))
        rows = json.loads((out / "news_clippings/data/mine/val.json").read_bytes())["annotations"]
        assert loaded["id"] == [row["id"] for row in rows]
        assert loaded["caption"] == [world.records[row["id"]].caption for row in rows]
        images = loaded.cast_column("image", datasets.Image(decode=False))["image"]
        assert [image["bytes"] for image in images] == [
            world.pictures[world.records[row["image_id"]].image_path] for row in rows
        ]
    assert verify(out, world.origin).sound


def test_the_command(made: Made, tmp_path: Path) -> None:
    """The command makes what the function makes; flags change methods; the report is text or JSON."""
    folder = made.out.parent
    places = ["--corpus", made.corpus.table, "--entities", folder / "entities"]
    places += [f"--vectors=clip_text={folder / 'clip_text'}", f"--vectors=clip_image={folder / 'clip_image'}"]
    done = run("generate", tmp_path / "same", "--recipe", folder / "recipe.toml", *places)
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'same'} (mine)\n  train: {len(made.rows('train'))} rows\n    clip_text_image: " in done.stdout
    for split in FILES.values():
        name = f"news_clippings/data/mine/{split}.json"
        assert (tmp_path / "same" / name).read_bytes() == (made.out / name).read_bytes()
    flags = ["--method", "clip_text_image", "--balance", "zero-shot", "--config", "even", "--cap", "0.99"]
    done = run("generate", tmp_path / "even", *flags, *places, "--format", "json")
    assert done.exit_code == 1  # of so few captions
    assert "No caption of validation is matched (clip_text_image: " in done.stderr
    assert not (tmp_path / "even").exists()
    flags = ["--method", "clip_text_image", "--uses", "2", "--config", "even", "--cap", "0.99"]
    done = run("generate", tmp_path / "even", *flags, *places, "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["config"] == "even"
    recipe = (tmp_path / "even" / "recipe.toml").read_text()
    assert recipe.endswith('rule = {differ = ["*"]}\nuses = 2\ncap = 0.99\n')
    for wrong in ([], ["--method", "person", "--recipe", folder / "recipe.toml"], ["--method", "persn"]):
        assert run("generate", tmp_path / "no", *wrong, *places).exit_code == 2
    done = run("generate", tmp_path / "no", "--recipe", folder / "recipe.toml", "--uses", "2", *places)
    assert "--uses is for --method" in done.stderr
    done = run("generate", tmp_path / "no", "--method", "look_alike", "--corpus", made.corpus.table)
    assert done.exit_code == 1
    done = run("generate", tmp_path / "no", "--recipe", folder / "absent.toml", *places)
    assert done.exit_code == 1
    assert not (tmp_path / "no").exists()


def test_balance_by_whole_swaps(tmp_path: Path) -> None:
    """A balanced config has swaps only, and the model of its vectors is right in exactly half of its pairs."""
    corpus = make_corpus(tmp_path / "corpus", 160)
    vectors = {
        name: corpus.write_vectors(name, tmp_path / name, of)
        for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
    }
    method = newsclippings.Method("even", "clip_text", "clip_image", balance="zero-shot")
    recipe = Recipe("mine", (method,), "balanced", {"train": 1.0})
    out = tmp_path / "out"
    report = generate(out, recipe, corpus=corpus.table, vectors=vectors)
    counts = report.splits["train"]["methods"]["even"]
    assert counts["captions"] == counts["filled"] + sum(counts["unfilled"].values())
    assert counts["unfilled"]["balance"] > 0
    assert [*report.splits] == ["train"]
    pairs = {row["id"]: row["image_id"] for row in planned_rows(out, corpus, "train") if row["falsified"]}
    assert pairs
    assert all(pairs[other] == caption for caption, other in pairs.items())
    text, image = (unit(corpus.vectors[name]) for name in ("clip_text", "clip_image"))
    at = {number: k for k, number in enumerate(corpus.ids)}
    wins = [np.sign(dot(text[at[i]], image[at[j]]) - dot(text[at[i]], image[at[i]])) for i, j in pairs.items()]
    assert sum(wins) == 0
    assert [*newsclippings.load("mine", data_dir=str(out), visual_news=str(corpus.table), images="none")] == ["train"]


def test_the_folder_as_an_object(made: Made, tmp_path: Path) -> None:
    """Manifest, recipe and matches of a folder; a foreign, a newer and a damaged one are refused."""
    folder = GeneratedFolder.open(made.out)
    assert folder.manifest.source_datasets == tuple(METHODS)
    assert [method.name for method in folder.recipe.methods] == METHODS
    matches = folder.read_matches("test")
    assert matches["id"].to_pylist() == [row["id"] for row in made.rows("test")]
    assert matches["source_dataset"].to_pylist() == [row["source_dataset"] for row in made.rows("test")]
    with pytest.raises(DataNotFoundError, match="has no generated config"):
        GeneratedFolder.open(tmp_path)
    other = Path(shutil.copytree(made.out, tmp_path / "other"))
    (other / "recipe.toml").write_text((other / "recipe.toml").read_text().replace("closed = true", "uses = 2"))
    with pytest.raises(BadFileError, match=r"recipe\.toml: expected the recipe that manifest\.json has"):
        GeneratedFolder.open(other)
    text = (other / "manifest.json").read_text()
    changes = {
        '"format": 2': ('"format": 1', "newer version"),
        '"config": "merged_balanced"': ('"config": "mine"', "something else in config"),
        '"kind": "theirs"': ('"kind": "own"', "something else in corpus"),
        '"source_datasets": ["..", "x"], "y"': ('"source_datasets"', "something else in source_datasets"),
    }
    for new, (old, message) in changes.items():
        (other / "manifest.json").write_text(text.replace(old, new, 1))
        with pytest.raises(BadFileError, match=message):
            newsclippings.load("mine", data_dir=str(other))
    (other / "manifest.json").write_text(text[:-100])
    assert run("verify", "--data-dir", other, "--config", "mine").exit_code == 2
    with pytest.raises(BadFileError, match="manifest"):
        verify(other)
    (other / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="'mine' is not known"):
        newsclippings.load("mine", data_dir=str(other))


def test_the_recipe_of_the_page() -> None:
    """The recipe of docs/how-to/generate.md is one."""
    text = (PACKAGE / "docs" / "how-to" / "generate.md").read_text(encoding="utf-8")
    recipe = parse_recipe(text.split("```toml\n")[1].split("```")[0])
    assert recipe.merge == "balanced"
    assert parse_recipe(recipe.to_toml()) == recipe
