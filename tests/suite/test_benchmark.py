"""The benchmark suite on two worlds of vectors: in one the labels need both sides, in the other nothing tells them."""

from __future__ import annotations

import json
import pickle
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.colours import OUTLETS, write_colours
from support.command import run
from support.constants import change_constant

import newsclippings
from _newsclippings.evaluate import evaluate
from _newsclippings.suite import BASELINES, Benchmark, benchmark, networks
from _newsclippings.suite.rows import load_rows
from newsclippings import BadFileError, ConfigError, MissingDependencyError

pytest.importorskip("sklearn")
SUITE = Path(newsclippings.__file__).parent / "_newsclippings" / "suite"
ON_FEATURES = ["priors", "clip-cosine", "probe", "ccn-clip", "muse", "cross-outlet"]
# See both sides:
SOLVES = {"both sides", "cosine", "mlp", "products", "product linear", "img_txt DT", "img_txt RF", "img_txt MLP"}
BLIND = {"text only", "picture only", "picture frequency"}  # see one side
SMALL = {"train": 160, "val": 80, "test": 80}
CONTROLS = {"control: shuffled labels", "control: own pictures"}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Path, dict[str, str]]]:
    """Learnable or not -> data_dir and the locations of vectors."""
    found = {}
    for learnable in (True, False):
        root = tmp_path_factory.mktemp("world")
        found[learnable] = root, write_colours(root, learnable=learnable)
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from few samples."""
    change_constant(monkeypatch, "DRAWS", 200, of="intervals")


def run_all(world: tuple[Path, dict[str, str]], names: list[str]) -> dict[str, dict[str, Any]]:
    root, places = world
    lines: dict[str, dict[str, Any]] = {}
    for name in names:
        config = "merged_balanced" if name == "cross-outlet" else None
        result = benchmark(name, seeds=1, vectors=places, data_dir=root, out="out", config=config)
        lines |= {line["method"]: line for line in result.lines}
    return lines


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_learnable_world_is_solved_by_those_that_see_both_sides(worlds: Any, name: str) -> None:
    """A baseline that compares picture and caption solves it; one that sees one side, or adds both up, does not."""
    for method, line in run_all(worlds[True], [name]).items():
        if method in SOLVES or "rule" in method:
            assert line["value"] > 0.97, method
        elif method in BLIND | CONTROLS:
            assert abs(line["value"] - 0.5) <= 0.03, method
        elif method == "linear":
            assert line["value"] < 0.55  # adds both sides up
        else:
            assert (method, line["value"]) == ("control: ids", 1)
        if method in CONTROLS or method == "control: ids":
            assert line["verdict"] == "as it has to be"
        elif method in BLIND:
            assert line["verdict"] == "at chance"


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_unlearnable_world_is_solved_by_none(worlds: Any, name: str) -> None:
    """Everything is at 50 +- 3, except the planted label; a control says that it proves nothing."""
    for method, line in run_all(worlds[False], [name]).items():
        if method == "control: ids":
            assert (line["value"], line["verdict"]) == (1, "as it has to be")
        elif "rule" in method:  # a quarter or half of the rows
            assert abs(line["value"] - 0.5) <= 0.06, method
        else:
            assert abs(line["value"] - 0.5) <= 0.03, method
        if method in CONTROLS:
            assert line["verdict"] == "proves nothing: both sides is at chance, too"


def test_the_table_is_what_evaluate_says(worlds: Any) -> None:
    """Value, deviation, interval and signature are those of `evaluate` on the files that were written."""
    root, places = worlds[True]
    result = benchmark("probe", seeds=2, vectors=places, data_dir=root, out="out")
    line = next(each for each in result.lines if each["method"] == "linear")
    files = line["predictions"]
    assert files == ["out/probe/linear/seed-0/predictions.jsonl", "out/probe/linear/seed-1/predictions.jsonl"]
    found = evaluate(*files, data_dir=root, threshold=0.5, group=True)
    assert found.group is not None
    names = {"mean": "value", "sd": "sd", "low": "low", "high": "high"}
    assert {name: found.group["accuracy"][name] for name in names} == {n: line[own] for n, own in names.items()}
    assert line["signature"] == found.signature
    assert line["sd"] > 0
    (entry,) = yaml.safe_load(Path("out/probe/linear/.eval_results/newsclippings.yaml").read_text())
    assert entry["dataset"] == {"id": "g-luo/news-clippings", "task_id": "merged_balanced"}
    assert entry["value"] == line["value"]
    assert entry["notes"].endswith(f"accuracy, probe, mean of 2 seeds, {line['signature']}")
    assert json.loads(Path("out/probe/results.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    assert not any("all" in each["method"] for each in result.lines)
    assert "Left out: all, which is for the authors' vectors. Pass none of your own." in result.notes


def test_a_threshold_of_validation_is_chosen_by_evaluate(worlds: Any) -> None:
    """The cosine's threshold is that of `evaluate --threshold val:FILE`, and the method runs once."""
    root, places = worlds[True]
    (line,) = benchmark("clip-cosine", vectors=places, data_dir=root, out="out").lines
    (file,) = line["predictions"]
    found = evaluate(file, data_dir=root, threshold=f"val:{Path(file).with_name('validation.jsonl')}")
    assert (line["value"], line["signature"], line["seeds"]) == (found.values["accuracy"], found.signature, 1)
    assert line["low"] < line["high"] == 1  # Wilson's interval, and not 100 to 100


def test_the_same_seed_gives_the_same_predictions(tmp_path: Path) -> None:
    """Runs of one seed are equal to the byte; those of others differ. Files are replaced by the next run."""
    root, places = tmp_path, write_colours(tmp_path, learnable=True, pairs=SMALL)
    texts = []
    for _ in range(2):
        lines = benchmark("probe", seeds=2, vectors=places, data_dir=root, out="out").lines
        texts.append([Path(file).read_bytes() for line in lines for file in line["predictions"]])
    assert texts[0] == texts[1]
    assert len({*texts[0]}) == len(texts[0])
    benchmark("probe", seeds=1, vectors=places, data_dir=root, out="out")
    assert [folder.name for folder in Path("out/probe").glob("*/seed-*")] == ["seed-0"] * 3  # none of the run before


def test_the_authors_vectors_are_the_default(tmp_path: Path) -> None:
    """Without vectors the pickles are read: all five kinds by `all`, also where an id has several faces or none."""
    write_colours(tmp_path, learnable=True, pairs=SMALL, shipped=True)
    lines = {line["method"]: line for line in benchmark("probe", seeds=1, data_dir=tmp_path, out="out").lines}
    assert [*lines] == ["linear", "mlp", "products", "all"]
    assert lines["products"]["value"] > 0.9
    assert lines["all"]["published"] == 0.653
    assert lines["all"]["verdict"] == "not compared: it was published on 7,264 rows, these are 160"


def test_rows_have_their_own_vectors(tmp_path: Path) -> None:
    """The vectors of rows are the planned ones of picture and caption, of length 1; of several faces, their mean."""
    write_colours(tmp_path, learnable=True, pairs={"train": 16, "val": 16, "test": 16}, shipped=True)
    part = load_rows(["merged_balanced"], "test", ["image", "text", "facenet"], {}, str(tmp_path))
    folder = tmp_path / "news_clippings" / "embeddings"
    for name, keys, kind in (
        ("image", part.rows.image_ids, "clip_image_embeddings"),
        ("text", part.rows.ids, "clip_text_embeddings"),
        ("facenet", part.rows.image_ids, "facenet_embeddings"),
    ):
        planned = pickle.loads((folder / kind / f"{kind}_test.pkl").read_bytes())
        for key, vector in zip(keys.tolist(), part.rows.vectors(name), strict=True):
            mean = planned[key].reshape(-1, 512).sum(0)
            assert vector == pytest.approx(mean / (np.linalg.norm(mean) or 1), abs=1e-6)
    assert part.lacking == {"facenet": sum(key % 3 == 0 for key in part.rows.image_ids.tolist())}
    assert part.falsified.tolist() == [False, True] * 16


def test_evidence_gives_six_cosines(worlds: Any) -> None:
    """With evidence that tells the label, muse solves the unlearnable world; rows without evidence have zeros."""
    root, places = worlds[False]

    def evidence(config: str, split: str) -> Any:
        rows = load_rows([config], split, ["image"], places, str(root))
        own = rows.rows.vectors("image") * np.where(rows.falsified, -1, 1)[:, None]
        kept = rows.index[rows.index % 10 > 0]
        return kept, own[kept].astype(np.float32), np.zeros((len(kept), own.shape[1]), np.float32)

    result = benchmark("muse", seeds=1, vectors=places, data_dir=root, out="out", evidence=evidence)
    lines = {line["method"]: line["value"] for line in result.lines}
    assert [*lines] == ["six DT", "six RF", "six MLP"]
    assert min(lines.values()) > 0.93
    with pytest.raises(BadFileError, match="evidence_image: expected a vector for each row number"):
        benchmark(
            "muse",
            vectors=places,
            data_dir=root,
            out="out",
            evidence=lambda *_: (np.array([9999]), *[np.ones((1, 2))] * 2),
        )


def test_outlets_are_left_out_of_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only rows of other outlets train and select; the rows of all configs of the two outlets are measured."""
    configs = ("merged_balanced", "scene_resnet_place")
    places = write_colours(tmp_path, learnable=True, pairs={"train": 80, "val": 40, "test": 40}, configs=configs)
    outlets: list[Any] = []

    def fit(train: Any, labels: Any, validation: Any, truth: Any, seed: int) -> Any:
        assert (len(train), len(validation)) == (len(labels), len(truth))
        outlets.append([{*getattr(train, name).tolist()} for name in ("image_outlets", "outlets")])
        return lambda rows: np.linspace(0, 1, len(rows))

    change_constant(monkeypatch, "FIT", fit)
    monkeypatch.setitem(BASELINES, "cross-outlet", replace(BASELINES["cross-outlet"], configs=configs))
    result = benchmark("cross-outlet", seeds=1, vectors=places, data_dir=tmp_path, out="out")
    usa_today_and_washington_post = {2, 3}
    assert outlets[0][0] == outlets[1][1] == usa_today_and_washington_post  # of the picture, then of the caption
    assert outlets[0][1] > usa_today_and_washington_post  # the other side is of any outlet
    rows = {line["method"]: line["rows"] for line in result.lines}
    assert rows["bbc and guardian, picture rule"] == rows["bbc, picture rule"] + rows["guardian, picture rule"]
    tests = [load_rows([config], "test", [], {}, str(tmp_path)) for config in configs]
    assert rows["bbc, caption rule"] == sum((part.rows.outlets == 1).sum() for part in tests)
    names = [Path(file).name for file in result.lines[0]["predictions"]]
    assert names == [f"predictions-{config}.jsonl" for config in configs]
    assert "config:merged_balanced+scene_resnet_place" in result.lines[0]["signature"]


def test_outlets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rows of other outlets to train on, cross-outlet says so; rows without a record have no outlet."""
    places = write_colours(tmp_path, learnable=True, pairs=SMALL)
    records = json.loads((tmp_path / "visual_news" / "origin" / "data.json").read_text())
    used = {row["id"] for row in records[:4]}
    (tmp_path / "visual_news" / "origin" / "data.json").write_text(json.dumps(records[4:]))
    options: dict[str, Any] = {"config": "merged_balanced", "seeds": 1, "data_dir": tmp_path, "out": "out"}
    result = benchmark("cross-outlet", vectors=places, **options)
    part = load_rows(["merged_balanced"], "train", [], {}, str(tmp_path))
    unknown = np.isin(part.rows.ids, [*used])
    assert (part.rows.outlets[unknown] == -1).all()
    assert (part.rows.outlets[~unknown] >= 0).all()
    count = int(unknown.sum())
    assert f"train: {count} rows have no record of their caption, so no outlet: left out." in result.notes
    change_constant(monkeypatch, "TARGET_OUTLETS", OUTLETS)
    with pytest.raises(BadFileError, match="and of other outlets in train and validation, found none"):
        benchmark("cross-outlet", vectors=places, **options)


def test_the_command(worlds: Any) -> None:
    """The command prints the table, markdown or JSON, and `--list` names each baseline and its sources."""
    root, places = worlds[True]
    options = ["--data-dir", root, "--vectors", f"image={places['image']},text={places['text']}", "--seeds", 1]
    done = run("benchmark", "clip-cosine", *options)
    assert done.exit_code == 0, done.output
    assert "100.0 %" in done.stdout
    assert "not compared" in done.stdout
    assert Path("benchmark/clip-cosine/results.json").exists()
    sides = [word for side in ("image", "text") for word in ("--vectors", f"{side}={places[side]}")]
    assert run("benchmark", "clip-cosine", *options[:2], *sides, "--seeds", 1).stdout == done.stdout
    assert "| cosine | accuracy | 80.7 % |" in run("benchmark", "clip-cosine", *options, "--format", "markdown").stdout
    found = json.loads(run("benchmark", "clip-cosine", *options, "--format", "json").stdout)
    assert found["lines"][0]["published"] == 0.807
    listed = run("benchmark", "--list").stdout
    for baseline in BASELINES.values():
        assert f"{baseline.name}: {baseline.about}" in listed
        assert all(number.source in listed for _, number in baseline.list_published())
        assert baseline.differences
        assert all(difference in listed for difference in baseline.differences)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("prior", "name='prior' is not known"),
        ("", "Name a baseline, or pass --list"),
        ("probe --vectors picture=x", "expected image=LOCATION,text=LOCATION"),
        ("probe --vectors image=x,image=y", "expected image=LOCATION,text=LOCATION"),
        ("probe --vectors image=x --model y", "--vectors and --model both name the vectors"),
        ("probe -- --max_steps 2", "have no effect on probe"),
        ("probe --seeds 0", "0 is not in the range"),
        ("probe --vectors image={root}/nowhere", "nowhere does not exist"),
        ("clip-cosine --vectors image={image},text={text} --out {root}/news_clippings", "is inside a folder of inputs"),
        ("clip-finetune --vectors image={image},text={text}", "reads pictures and captions, and no vectors"),
    ],
)
def test_wrong_use_is_one_line(worlds: Any, arguments: str, says: str) -> None:
    """Wrong use is one line that names the flag, and nothing is written."""
    root, places = worlds[True]
    done = run("benchmark", *shlex.split(arguments.format(root=root, **places)), "--data-dir", root)
    assert done.exit_code in (1, 2)
    assert says in done.stderr
    assert not Path("benchmark").exists()


def test_errors_of_the_function(worlds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that have no effect are refused; without scikit-learn the error names the extra."""
    root, places = worlds[True]
    with pytest.raises(ConfigError, match="evidence= has no effect on probe"):
        benchmark("probe", evidence=lambda *_: (), data_dir=root)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"vectors=\['pictures'\] is not known"):
        benchmark("probe", vectors={"pictures": "x"}, data_dir=root)
    with pytest.raises(ConfigError, match="seeds=: expected a number from 1 on, found True"):
        benchmark("probe", seeds=True, data_dir=root)
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"newsclippings\[suite\]"):
        benchmark("probe", vectors=places, data_dir=root)
    assert isinstance(benchmark("clip-cosine", vectors=places, data_dir=root, out="out"), Benchmark)


def test_damaged_inputs_are_found_before_training(tmp_path: Path) -> None:
    """Matches that break a rule stop the run before anything is written."""
    places = write_colours(tmp_path, learnable=True, pairs={"train": 16, "val": 16, "test": 16})
    file = tmp_path / "news_clippings" / "data" / "merged_balanced" / "test.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["falsified"] = True
    file.write_text(json.dumps(content))
    with pytest.raises(BadFileError, match=r"merged_balanced/test"):
        benchmark("clip-cosine", vectors=places, data_dir=tmp_path, out="out")
    assert not Path("out").exists()


def test_files_of_others_are_kept(worlds: Any) -> None:
    """A file of another program in the place of predictions is not replaced."""
    root, places = worlds[True]
    file = Path("out/clip-cosine/cosine/seed-0/predictions.jsonl")
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    with pytest.raises(ConfigError, match="was not written by `newsclippings benchmark`"):
        benchmark("clip-cosine", vectors=places, data_dir=root, out="out")
    assert file.read_text() == "mine\n"


def test_each_baseline_is_short() -> None:
    """A baseline has fewer than 150 lines on shared parts; otherwise the parts are wrong."""
    for name in BASELINES:
        assert len((SUITE / f"{name.replace('-', '_')}.py").read_text().splitlines()) < 150


@pytest.mark.parametrize("name", ["clip-cosine", "ccn-clip", "muse"])
def test_vectors_of_other_widths_are_refused(worlds: Any, tmp_path: Path, name: str) -> None:
    """Vectors of two models, which cannot be multiplied, are an error and no traceback."""
    root, places = worlds[True]
    wide = np.load(places["image"])
    np.save(tmp_path / "wide.npy", np.pad(wide, ((0, 0), (0, 3))))
    np.save(tmp_path / "wide.ids.npy", np.load(places["image"].replace(".npy", ".ids.npy")))
    given = f"image={tmp_path / 'wide.npy'},text={places['text']}"
    done = run("benchmark", name, "--data-dir", root, "--vectors", given)
    assert done.exit_code == 1
    assert "--vectors: those of image have 19 numbers, those of text 16" in done.stderr


def test_results_of_others_are_found_before_training(worlds: Any) -> None:
    """A results.json of another program stops the run before it trains."""
    root, places = worlds[True]
    file = Path("out/clip-cosine/results.json")
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ConfigError, match="was not written by `newsclippings benchmark`"):
        benchmark("clip-cosine", vectors=places, data_dir=root, out="out")
    assert [*file.parent.iterdir()] == [file]
