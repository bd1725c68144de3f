"""A run is measured by `newsclippings evaluate`; controls need a run that beats chance; unions of configs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.forking import run_module
from support.learnable import write_world
from support.own_vectors import make_vectors, write_folder
from support.world import World

import newsclippings
from _newsclippings.folder.build import build_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from safetensors.torch import load_file  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, model, record  # noqa: E402
from _newsclippings.train.collate import Collator  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402
from _newsclippings.train.options import Options  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1", "--warmup_steps", "2"]
FAST = ["--learning_rate", "2e-3", "--backbone_learning_rate", "2e-3"]
UNION = "merged_balanced,scene_resnet_place"


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("learnable")
    write_world(root, learnable=True, pairs={"train": 256, "val": 4, "test": 64})
    return root


def run(data_dir: object, out: str, *more: object) -> dict[str, Any]:
    place = [] if "--data" in more else ["--data_dir", str(data_dir)]
    return training.main([*QUICK, *FAST, *place, "--output_dir", out, *map(str, more)])


def measures(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(out, "measures.json").read_text())
    return found


def by_command(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    tmp_path.mkdir(exist_ok=True)
    done = run_module("newsclippings", ["evaluate", *map(str, arguments), "--format", "json"], tmp_path)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


# Measures


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["map", "stream"])
def test_measures_are_those_of_the_command(world: World, tmp_path: Path, streaming: list[str]) -> None:
    """measures.json is what `newsclippings evaluate` says of predictions.jsonl, and beside it the facts of the run."""
    found = run(world.root, "out", "--max_steps", 2, *streaming)
    written = measures("out")
    facts = written.pop("run")
    assert written == found == by_command(tmp_path, Path("out/predictions.jsonl").resolve(), "--data-dir", world.root)
    assert {"source_dataset", "outlet", "outlet_pair", "topic", "year"} == found["by"].keys()
    assert (facts["model"], facts["recipe"], facts["seed"], facts["configs"]) == (
        "tiny",
        "paper",
        2,
        ["merged_balanced"],
    )
    assert facts["versions"].keys() == {"newsclippings", "torch", "transformers", "datasets"}
    assert facts["data"]["of"] == "newsclippings"
    assert f"|matches:{facts['data']['matches']['merged_balanced']['test']}|" in found["signature"]
    assert facts["data"]["matches"]["merged_balanced"].keys() == {"train", "validation", "test"}
    assert {"max_steps": 2, "learning_rate": 2e-3, "streaming": bool(streaming)}.items() <= facts["flags"].items()
    rows = len(world.rows(split="train"))
    used = None if streaming else rows
    assert facts["dropped_rows"]["train"]["merged_balanced"]["used"] == used
    assert facts["dropped_rows"]["test"]["merged_balanced"] == {"used": 12, "incomplete": 0, "other_outlets": 0}


def test_measures_of_a_built_folder(world: World, tmp_path: Path) -> None:
    """With a built folder, they are those of `evaluate --built`."""
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root))
    found = run(None, "out", "--data", tmp_path / "built", "--max_steps", 2)
    assert found == by_command(tmp_path, Path("out/predictions.jsonl").resolve(), "--built", tmp_path / "built")


def test_rows_that_a_published_dataset_leaves_out(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Of a dataset that is no built folder, the rows are the truth; the others of the official split are missing."""
    world = new_world(tar=False)
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root))
    (tmp_path / "built/merged_balanced/manifest.json").unlink()
    found = run(None, "out", "--data", tmp_path / "built", "--max_steps", 2)
    assert found["rows"] == {"expected": 7264, "found": 12, "missing": 7252, "unknown": 0, "doubled": 0}
    assert "|rows:12/7264|" in found["signature"]
    assert "|missing:7252,left_out|" in found["signature"]
    official = newsclippings.evaluate("out/predictions.jsonl", data_dir=world.root).as_dict()
    assert found["measures"] == official["measures"]
    assert found["by"]["outlet"] == official["by"]["outlet"]
    assert measures("out")["run"]["data"] == {"of": "a local folder", "matches": {}}


def test_rows_of_other_outlets_are_not_measured(learnable: Path) -> None:
    """The measures of an outlet in a run on other outlets are those that the command gives for it."""
    found = run(learnable, "out", "--max_steps", 2, "--train_outlets", "guardian", "bbc", "--outlet_rule", "caption")
    official = newsclippings.evaluate("out/predictions.jsonl", data_dir=learnable, partial=True).as_dict()
    for outlet in ("usa_today", "washington_post"):
        one, other = (each["by"]["outlet"][outlet]["measures"] for each in (found, official))
        assert {name: one[name] and one[name]["value"] for name in one} == {
            name: other[name] and other[name]["value"] for name in other
        }


def test_no_place_is_in_the_files(world: World, tmp_path: Path) -> None:
    """No file of a report names a folder of this machine, also not with a local model, own vectors and seeds."""
    from transformers import CLIPModel

    from _newsclippings.train.tiny import byte_tokenizer, tiny_config

    CLIPModel(tiny_config()).save_pretrained(tmp_path / "mine")
    byte_tokenizer().save_pretrained(tmp_path / "mine")
    own = write_folder(make_vectors(world), tmp_path)
    place = ["--data_dir", str(world.root), "--use_cpu", "--disable_tqdm", "true", "--max_steps", "1", "--seeds", "2"]
    for out, more in {
        "model": ["--model", str(tmp_path / "mine")],
        "vectors": ["--features", "net", "--embeddings", f"net={own}"],
    }.items():
        training.main([*place, *more, "--output_dir", str(tmp_path / out)])
        training.main(["--eval_only", str(tmp_path / out / "seed-2"), *(more[2:]), *place[:3]])
        files = [file for file in Path(tmp_path, out).rglob("*") if file.suffix in (".md", ".json", ".jsonl")]
        written = [file for file in files if file.name in ("report.md", "measures.json", "seeds.md", "seeds.json")]
        assert len(written) == 6
        for file in written:
            assert not [place for place in (tmp_path, world.root, Path.home()) if str(place) in file.read_text()]
    assert measures(str(tmp_path / "model/seed-3"))["run"]["model"] == "mine"
    facts = measures(str(tmp_path / "vectors/seed-3"))["run"]
    assert facts["encoders"] == {"net": "Vector of the picture by me/net-5."}


def test_a_run_that_is_evaluated_again_keeps_its_facts(world: World) -> None:
    """--eval_only in the folder of a run keeps what measures.json says of the training, unless it is no plain fact."""
    run(world.root, "out", "--max_steps", 1, "--seed", 7)
    before = measures("out")
    again = ["--eval_only", "out", "--data_dir", str(world.root), "--use_cpu"]
    training.main(again)
    after = measures("out")
    assert after["run"].pop("tested_with") == before["run"]["versions"]
    assert after == before
    changes: list[dict[str, Any]] = [{"seed": "<script>"}, {"versions": 3}, {"flags": [{}] * 2_000}]
    for change in changes:
        Path("out/measures.json").write_text(json.dumps({**before, "run": {**before["run"], **change}}, indent=1))
        training.main(again)
        assert measures("out")["run"]["seed"] is None
        assert measures("out")["run"]["model"] == "tiny"


# Controls


def result(value: float, width: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def values(accuracy: float, auc: float, pristine: float, falsified: float) -> dict[str, Any]:
    whole = {"accuracy": result(accuracy), "auc": result(auc), "pair_accuracy": None}
    return {**whole, "accuracy_pristine": result(pristine), "accuracy_falsified": result(falsified)}


CHANCE, LEARNED, PRISTINE = values(0.51, 0.5, 0.6, 0.4), values(0.9, 0.95, 0.9, 0.9), values(0.5, 0.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("control", "positive", "verdict", "says"),
    [
        (CHANCE, LEARNED, "as it has to be", "found 51.0%; without it, accuracy is 90.0%: as it has to be."),
        (CHANCE, values(0.5, 0.9, 1.0, 0.0), "as it has to be", "without it, auc is 90.0%: as it has to be."),
        (
            CHANCE,
            PRISTINE,
            "no evidence",
            "no evidence: this model calls everything pristine, also without the control.",
        ),
        (PRISTINE, values(0.5, 0.51, 0.0, 1.0), "no evidence", "this model calls everything falsified, also"),
        (CHANCE, CHANCE, "no evidence", "this model is at chance without the control, too (accuracy 51.0%)."),
        (CHANCE, None, "no evidence", "there is no run without the control to compare (--positive)."),
        (LEARNED, LEARNED, "not chance", "found 90.0%: NOT CHANCE: something leaks, do not trust the other numbers."),
    ],
)
def test_verdicts(control: Any, positive: Any, verdict: str, says: str) -> None:
    """A control is as it has to be only if the same training without it beats chance."""
    found, sentence = record.judge_control(control, positive)
    assert found == verdict
    assert says in sentence


def test_a_control_of_a_model_that_learns(learnable: Path) -> None:
    """The same is trained without the control, and the control is evidence; it is measured on the shuffled labels."""
    found = run(learnable, "out", "--max_steps", 24, "--control", "shuffled_labels")
    control = measures("out")["run"]["control"]
    assert control["verdict"] == "as it has to be"
    assert control["positive"]["accuracy"] == measures("out/positive")["measures"]["accuracy"]
    assert measures("out/positive")["run"]["flags"] == {**measures("out")["run"]["flags"], "control": None}
    assert "|labels:shuffled_labels|" in found["signature"]
    text = Path("out/report.md").read_text()
    assert "The labels are not those of the split: shuffled_labels." in text
    assert ": as it has to be." in text
    rows = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    right = sum((row["score"] > 0.5) == row["label"] for row in rows) / len(rows)
    assert found["measures"]["accuracy"]["value"] == pytest.approx(right)
    before = Path("out/measures.json").read_text()
    assert run_again("out", learnable) == found
    assert json.loads(before)["run"]["control"] == measures("out")["run"]["control"]
    # the run beside it can be that of another command
    run(learnable, "other", "--max_steps", 24, "--control", "own_pictures", "--positive", "out/positive")
    assert measures("other")["run"]["control"]["verdict"] == "as it has to be"
    assert not Path("other/positive").exists()
    with pytest.raises(newsclippings.ConfigError, match=r"positive was not trained with the same flags: --max_steps\."):
        run(learnable, "third", "--max_steps", 9, "--control", "own_pictures", "--positive", "out/positive")
    with pytest.raises(newsclippings.ConfigError, match=r"out was not trained with the same flags: --control\."):
        run(learnable, "third", "--max_steps", 24, "--control", "own_pictures", "--positive", "out")
    with pytest.raises(newsclippings.ConfigError, match=r"nowhere has no measures\.json that says how its run was"):
        run(learnable, "third", "--max_steps", 24, "--control", "own_pictures", "--positive", "nowhere")
    damaged = measures("out/positive")
    damaged["measures"]["accuracy"] = "high"
    Path("out/positive/measures.json").write_text(json.dumps(damaged))
    with pytest.raises(newsclippings.ConfigError, match=r"the measures in measures\.json are damaged"):
        run(learnable, "third", "--max_steps", 24, "--control", "own_pictures", "--positive", "out/positive")


def run_again(out: str, data_dir: Path) -> dict[str, Any]:
    return training.main(["--eval_only", out, "--data_dir", str(data_dir), "--use_cpu"])


def test_a_control_of_a_model_that_learns_nothing(learnable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that calls everything pristine is at chance under a control, too: that is no evidence."""
    forward = model.Classifier.forward

    @functools.wraps(forward)  # the trainer reads its signature
    def call_pristine(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = forward(self, *args, **kwargs)
        return {**found, "logits": found["logits"] * 0 + torch.tensor([1.0, -1.0])}

    monkeypatch.setattr(model.Classifier, "forward", call_pristine)
    run(learnable, "out", "--max_steps", 2, "--control", "own_pictures")
    control = measures("out")["run"]["control"]
    assert control["verdict"] == "no evidence"
    assert "no evidence: this model calls everything pristine, also without" in Path("out/report.md").read_text()


@pytest.mark.sweep
def test_an_interrupted_control_resumes(learnable: Path) -> None:
    """A control that is repeated with --resume_from_checkpoint true continues both runs where they stopped."""
    more = ["--control", "own_pictures", "--lr_scheduler_type", "constant", "--save_steps", 2, "--max_steps", 4]
    run(learnable, "whole", *more)
    run(learnable, "out/positive", *more[2:6], "--max_steps", 2)  # interrupted in the first of both
    run(learnable, "out", *more, "--resume_from_checkpoint", "true")
    for part in (".", "positive"):
        one, other = (Path(out, part, "predictions.jsonl").read_bytes() for out in ("whole", "out"))
        assert one == other


# Unions of configs


def losses(out: str) -> list[float]:
    state = json.loads(Path(out, "checkpoint-4/trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_a_union_of_configs(world: World, tmp_path: Path) -> None:
    """Configs are trained together and tested one by one; streams and resumed runs give the same numbers."""
    more = ["--config", UNION, "--shuffle", "false", "--lr_scheduler_type", "constant", "--eval_steps", "2"]
    found = run(world.root, "map", *more, "--max_steps", 4)
    assert found.keys() == {*UNION.split(",")}
    for config in UNION.split(","):
        rows = [json.loads(line) for line in Path("map", config, "predictions.jsonl").read_text().splitlines()]
        expected = world.rows(config, "test")
        assert [(row["config"], row["index"], row["id"], row["image_id"]) for row in rows] == [
            (config, k, row["id"], row["image_id"]) for k, row in enumerate(expected)
        ]
        file = Path("map", config, "predictions.jsonl").resolve()
        assert by_command(tmp_path / config, file, "--config", config, "--data-dir", world.root) == found[config]
        assert measures(f"map/{config}")["run"]["configs"] == UNION.split(",")
        assert f": trained on {UNION.replace(',', ', ')}" in Path("map", config, "report.md").read_text()
    assert not Path("map/predictions.jsonl").exists()
    assert run(world.root, "stream", *more, "--max_steps", 4, "--streaming") == found
    assert losses("stream") == losses("map")
    run(world.root, "parts", *more, "--max_steps", 2, "--save_steps", 2, "--streaming")
    resumed = ["--max_steps", 4, "--streaming", "--resume_from_checkpoint", "parts/checkpoint-2"]
    assert run(world.root, "parts", *more, *resumed) == found
    one, *others = (load_file(f"{out}/model.safetensors") for out in ("map", "stream", "parts"))
    assert all(torch.equal(one[name], other[name]) for other in others for name in one)
    again = ["--eval_only", "map", "--data_dir", str(world.root), "--use_cpu"]
    assert training.main(again) == found
    alone = training.main([*again, "--config", "scene_resnet_place", "--output_dir", "alone"])
    assert alone == found["scene_resnet_place"]


@pytest.mark.parametrize("rule", ["caption", "pair"])
def test_outlets_of_a_union(new_world: Callable[..., World], rule: str) -> None:
    """The union has the rows of its configs that are of the outlets, in their order, from a map and a stream."""
    world = new_world(tar=False)
    chosen, columns = {"guardian", "bbc"}, ("source",) if rule == "caption" else ("source", "image_source")
    kept = []
    for config in UNION.split(","):
        rows = world.rows(config, "train")
        apart = {row["index"] // 2 for row in rows if any(row[name] not in chosen for name in columns)}
        kept += [(config, row["index"]) for row in rows if row["index"] // 2 not in apart]
    more = ["--config", UNION, "--train_outlets", *chosen, "--outlet_rule", rule, "--shuffle", "false"]
    for streaming in ([], ["--streaming"]):
        options = parse(["--data_dir", str(world.root), *more, *streaming, "--use_cpu"])[0]
        found = training.load_rows(options, "train", 0, 0, 1)[0]
        read = found if streaming else [found[k] for k in range(len(found))]
        assert [(row["config"], row["index"]) for row in read] == kept
        assert len(found) == len(kept)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("merged_balanced,scene", r"--config merged_balanced,scene: expected merged_balanced, .* or all\."),
        ("scene_resnet_plac", "Did you mean 'scene_resnet_place'"),
        ("merged_balanced,merged_balanced", "a config is there twice"),
        ("", "expected merged_balanced"),
    ],
)
def test_configs_that_are_not_known(config: str, says: str) -> None:
    """Unknown and doubled configs are errors; `all` has all five."""
    with pytest.raises(ValueError, match=says):
        parse(["--config", config, "--use_cpu"])
    assert len(Options(config="all").configs()) == 5


# Ablations


def test_ablations_blank_the_input(learnable: Path) -> None:
    """The other modality's input is all zeros, as in the authors' code, and its attention mask tells no length."""
    for flag, blank, seen in (
        ("--text_only", {"pixel_values": 0}, "input_ids"),
        ("--image_only", {"input_ids": 0, "attention_mask": 1}, "pixel_values"),
    ):
        options = parse([*QUICK, "--data_dir", str(learnable), flag])[0]
        rows = training.load_rows(options, "test", 0, 0, 1)[0]
        made, _ = model.make_classifier(options)
        batch = Collator(options, made.processor, {})([rows[0], rows[1], rows[2]])
        assert all((batch[name] == value).all() for name, value in blank.items())
        assert batch["pixel_values"].shape == (3, 3, 32, 32)
        assert batch["input_ids"].shape == (3, 77)
        assert not torch.equal(batch[seen][0], batch[seen][2])
        made.eval()
        with torch.no_grad():
            part = "get_image_features" if flag == "--text_only" else "get_text_features"
            tensors = {name: batch[name] for name in blank}
            features = getattr(made.backbone, part)(**tensors)
            features = features if isinstance(features, torch.Tensor) else features.pooler_output
        assert features.abs().sum() > 0
        assert torch.equal(features[0], features[2])


def test_ablations_of_an_earlier_version_are_refused(learnable: Path) -> None:
    """A run whose features were set to zero is not evaluated as if its inputs had been blank."""
    run(learnable, "out", "--max_steps", 1, "--text_only")
    notes = json.loads(Path("out/classifier.json").read_text())
    del notes["options"]["positive"]
    Path("out/classifier.json").write_text(json.dumps(notes, indent=1))
    with pytest.raises(ValueError, match="found one of an earlier version, whose features were zero"):
        run_again("out", learnable)
