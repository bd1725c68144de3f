"""The recipes are those that DATA.md reads out of the authors' code, and each number is a flag."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from support.learnable import write_world
from support.reading import TESTS
from support.world import World

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from transformers import CLIPModel, set_seed  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, model  # noqa: E402
from _newsclippings.train.collate import Collator, Processor, find_pixel_scale  # noqa: E402
from _newsclippings.train.data import Control  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402
from _newsclippings.train.options import Options, UsageError  # noqa: E402
from _newsclippings.train.recipes import DEFAULT_RECIPE, RECIPES, TABLE  # noqa: E402
from _newsclippings.train.tiny import byte_tokenizer, tiny_config  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true"]


@pytest.fixture(autouse=True)
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("little")
    write_world(root, learnable=True, pairs={"train": 16, "val": 4, "test": 4})
    return root


# The table in DATA.md, "The official fine-tuning recipe, as read in two places that disagree": what the released code
# does, and what its configuration seems to intend.
RELEASED: dict[str, Any] = {
    "hidden_layers": 2, "hidden": 512,  # 1024-512-ReLU-512-ReLU-2
    "learning_rate": 5e-5, "backbone_learning_rate": 5e-7, "adam_epsilon": 1e-8, "weight_decay": 0.01,
    "lr_scheduler_type": "constant", "max_steps": 22_000, "per_device_train_batch_size": 16,
    "max_grad_norm": 0.0,  # gradient clipping: off
    "metric_for_best_model": "loss", "eval_steps": 1_000,  # best by validation loss, every 1,000 updates
    "freeze_direct": True,  # CLIP's direct parameters are not in the optimizer
    "mislabel_pristine": 0.5,  # pristine rows become falsified with p = 0.5
    "normalize": False,  # no CLIP mean/std
    "tokens": 77, "seed": 2,
}  # fmt: skip
PAPER = {
    **RELEASED,
    "lr_scheduler_type": "linear", "warmup_steps": 4_000, "max_steps": 44_000,
    "freeze_direct": False,
    "mislabel_pristine": 0.0,
}  # fmt: skip
STRONG = {"products": True, "normalize": True, "mislabel_pristine": 0.0, "metric_for_best_model": "accuracy"}
NUMBERS = {"released": RELEASED, "paper": PAPER, "strong": STRONG}


@pytest.mark.parametrize("recipe", NUMBERS)
def test_numbers_of_a_recipe(recipe: str) -> None:
    """Each number is that of DATA.md, reaches options and `Trainer`, and is a flag that wins over the recipe."""
    options, arguments = parse(["--recipe", recipe, "--use_cpu"])
    both = {**arguments.to_dict(), **vars(options)}
    assert {name: both[name] for name in NUMBERS[recipe]} == NUMBERS[recipe]
    assert {name: both[name] for name in RECIPES[recipe]} == RECIPES[recipe]
    assert (arguments.load_best_model_at_end, arguments.eval_strategy, arguments.save_total_limit) == (True, "steps", 2)
    options, arguments = parse([f"--recipe={recipe}", "--hidden_layers", "1", "--weight_decay", "0.5", "--use_cpu"])
    assert (options.hidden_layers, arguments.weight_decay) == (1, 0.5)


def test_the_head_has_the_parameters_of_the_authors_head() -> None:
    """Two hidden layers on 1,024 features have 788,482 parameters (DATA.md)."""
    options = Options(features="clip", hidden_layers=2)
    config = model.make_config(options, None, {"clip_image": 512, "clip_text": 512})
    head = model.Classifier(config).head
    assert sum(parameter.numel() for parameter in head.parameters()) == 788_482


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--max_steps", "0"], "--max_steps: expected 1 or more, or -1"),
        (["--max_steps", "-3"], "--max_steps: expected 1 or more, or -1"),
        (["--weight_decay", "nan"], "--weight_decay: expected a number of 0 or more, found nan"),
        (["--learning_rate", "-1"], "--learning_rate: expected a number of 0 or more, found -1.0"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size: expected 1 or more, found 0"),
        (["--dataloader_num_workers", "-1"], "--dataloader_num_workers: expected 0 or more, found -1"),
    ],
)
def test_numbers_that_train_nothing_are_refused(flags: list[str], says: str) -> None:
    """A number with which the training would end in NaN, or be of another length, is refused before it begins."""
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(["--use_cpu", *flags])


@pytest.mark.parametrize(("recipe", "unused"), [("released", False), ("paper", True)])
def test_ranks_look_for_unused_parameters_only_if_there_are_some(
    little: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, unused: bool
) -> None:
    """In several processes torch warns of a search for parameters without gradient that finds none."""
    found: list[bool | None] = []

    def train(trainer: Any, **kwargs: Any) -> None:
        found.append(trainer.args.ddp_find_unused_parameters)
        raise InterruptedError

    monkeypatch.setattr(training.PairTrainer, "train", train)
    arguments = [*QUICK, "--recipe", recipe, "--data_dir", str(little), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(InterruptedError):
        training.main(arguments)
    assert found == [unused]


def test_the_default_is_what_the_configuration_intends() -> None:
    """Without --recipe, the recipe is `paper`; columns of vectors have numbers of their own."""
    assert DEFAULT_RECIPE == "paper"
    assert parse(["--use_cpu"])[0] == parse(["--recipe", "paper", "--use_cpu"])[0]
    on_vectors = parse(["--features", "clip", "--use_cpu"])[0]
    assert (on_vectors.recipe, on_vectors.hidden_layers) == (None, 1)


def test_the_readme_has_the_table() -> None:
    """The table of recipes in the README is the table in the code."""
    text = (TESTS.parent / "docs" / "explanation" / "recipes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    found = [row for row in rows if row[0] in {number.flag for number in TABLE}]
    assert found == [tuple(map(str, number)) for number in TABLE]


def test_pristine_rows_are_mislabelled() -> None:
    """Half of the pristine rows are called falsified, drawn again in each epoch and by the seed; others never."""
    rows = [{"id": k, "image_id": k, "falsified": False} for k in range(1_000)]

    def draw(salt: str, epoch: int) -> list[bool]:
        noise = Control(None, salt, 0.5)
        noise.epoch = epoch
        return [noise(row, None)["falsified"] for row in rows]

    first, again, later, other = draw("2 train", 0), draw("2 train", 0), draw("2 train", 1), draw("3 train", 0)
    assert first == again
    for drawn in (first, later, other):
        assert 420 < sum(drawn) < 580
    assert 400 < sum(a != b for a, b in zip(first, later, strict=True)) < 600
    assert first != other
    falsified = {"id": 1, "image_id": 2, "falsified": True}
    assert Control(None, "2 train", 1.0)(falsified, None) == falsified


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["map", "stream"])
def test_only_rows_of_train_are_mislabelled(
    little: Path, streaming: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are wrong in train only and change with the epoch, in streams and maps alike; the report says so."""
    epochs: list[list[tuple[int, int]]] = []
    collate = training.TensorCollator.__call__

    def watch(self: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
        epochs.append([(row["index"], int(row["falsified"])) for row in rows])
        return collate(self, rows)

    monkeypatch.setattr(training.TensorCollator, "__call__", watch)
    more = ["--recipe", "released", "--max_steps", "4", "--output_dir", "out", *streaming]  # two epochs of two batches
    training.main([*QUICK, "--data_dir", str(little), *more])
    labels = [dict(epochs[0] + epochs[1]), dict(epochs[2] + epochs[3])]
    for found in labels:
        assert found.keys() == set(range(32))
        assert all(found[index] for index in range(1, 32, 2))
        assert 2 <= sum(found[index] for index in range(0, 32, 2)) <= 14
    assert labels[0] != labels[1]
    rows = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [0, 1] * 4
    told = "in training, pristine rows were called falsified with probability 0.5"
    assert told in Path("out/report.md").read_text()
    training.main(["--eval_only", "out", "--data_dir", str(little), "--use_cpu", "--output_dir", "again"])
    assert told in Path("again/report.md").read_text()


def test_direct_parameters_stay(little: Path) -> None:
    """With `released`, what the authors' optimizer misses stays, and the rest of CLIP is trained."""
    options, arguments = parse([*QUICK, "--data_dir", str(little), "--recipe", "released", "--max_steps", "2"])
    arguments.output_dir = "out"
    trained, _ = training.train(options, arguments)
    set_seed(arguments.seed)
    fresh, _ = model.make_classifier(options)
    before, after = fresh.state_dict(), trained.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {f"backbone.{name}" for name in model.DIRECT} <= same
    assert "backbone.visual_projection.weight" not in same
    assert "backbone.text_model.embeddings.token_embedding.weight" not in same
    assert "head.4.weight" not in same


def test_products_and_standardised_pixels() -> None:
    """`strong` adds product and difference of the features, and standardises pixels as the model was trained."""
    options = Options(products=True, normalize=True, hidden=8)
    made = model.Classifier(model.make_config(options, tiny_config().to_dict()), CLIPModel(tiny_config()))
    assert made.head[0].in_features == 4 * 16
    plain = Collator(Options(), Processor(byte_tokenizer(), 32, 77), {})
    scaled = Collator(options, Processor(byte_tokenizer(), 32, 77, "clip"), {})
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 40), (255, 0, 0)).save(file, "PNG")
    row = {"image": {"bytes": file.getvalue(), "path": None}, "caption": "a"}
    facts = dict.fromkeys(("index", "id", "image_id", "falsified", "source_dataset", "source"), 0)
    one, two = (each([{**row, **facts}])["pixel_values"] for each in (plain, scaled))
    mean, deviation = find_pixel_scale("clip")
    assert two[0, :, 0, 0].tolist() == pytest.approx(
        [(one[0, k, 0, 0].item() - mean[k]) / deviation[k] for k in range(3)]
    )
    assert find_pixel_scale("siglip") == ([0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["map", "stream"])
def test_a_strong_run(little: Path, streaming: list[str]) -> None:
    """A run with products and standardised pixels is trained, tested, and evaluated again with the same result."""
    more = ["--data_dir", str(little), *streaming]
    found = training.main([*QUICK, "--recipe", "strong", "--max_steps", "2", "--output_dir", "out", *more])
    assert training.main(["--eval_only", "out", "--use_cpu", *more]) == found


def test_a_run_of_version_1(little: Path) -> None:
    """A run that noted no number of hidden layers has one, and is not resumed with two."""
    training.main(
        [*QUICK, "--data_dir", str(little), "--output_dir", "out", "--max_steps", "1", "--hidden_layers", "1"]
    )
    notes = json.loads(Path("out/classifier.json").read_text())
    for name in ("hidden_layers", "recipe", "freeze_direct", "normalize", "mislabel_pristine", "patience", "seeds"):
        del notes["options"][name]
    Path("out/classifier.json").write_text(json.dumps(notes, indent=1))
    assert len(model.load_classifier(Path("out"))[0].head) == 3
    with pytest.raises(ValueError, match="--hidden_layers 1, not 2"):
        training.main([*QUICK, "--data_dir", str(little), "--output_dir", "out", "--max_steps", "2"])


# Outlets


@pytest.mark.parametrize("rule", ["pair", "caption"])
def test_rules_of_outlets(new_world: Callable[..., World], rule: str) -> None:
    """A pair is of the outlet of its caption, or of that of caption and pictures; a stream has the same rows."""
    world = new_world(tar=False)
    chosen = {"guardian", "bbc"}
    more = ["--train_outlets", *sorted(chosen), *(["--outlet_rule", rule] if rule == "caption" else [])]
    for split, outlets in (("train", chosen), ("test", {"usa_today", "washington_post"})):
        rows = world.rows(split=split)
        columns = ("source",) if rule == "caption" else ("source", "image_source")
        apart = {row["index"] // 2 for row in rows if any(row[name] not in outlets for name in columns)}
        kept = [row["index"] for row in rows if row["index"] // 2 not in apart]
        assert kept
        for streaming in ([], ["--streaming", "--shuffle", "false"]):
            options = parse(["--data_dir", str(world.root), *more, *streaming, "--use_cpu"])[0]
            found = training.load_rows(options, split, 0, 0, 1)[0]
            places = range(len(found)) if not streaming else None
            read = [found[k] for k in places] if places else list(found)
            assert [row["index"] for row in read] == kept
            assert len(found) == len(kept)
