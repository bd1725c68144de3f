"""A run is a model of transformers: it is loaded, used on pairs of one's own, described in a card, and pushed."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import yaml
from support.forking import run_module
from support.learnable import write_world
from support.own_vectors import make_vectors, write_folder
from support.publishing import OTHER, Hub, python, running, used
from support.sampling import sampled
from support.world import World

import newsclippings
from newsclippings import BadFileError, ConfigError, DataNotFoundError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from transformers import AutoConfig, AutoModel, AutoProcessor  # noqa: E402

from _newsclippings.train import card, model  # noqa: E402
from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train.options import Options  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--hidden", "8", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "1"]
QUICK += ["--max_steps", "3", "--learning_rate", "1e-2", "--backbone_learning_rate", "1e-3"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, and a run on it. Shared: nothing may change it."""
    root = tmp_path_factory.mktemp("scene")
    write_world(root / "data", learnable=True, pairs={"train": 16, "val": 4, "test": 11})
    training.main([*QUICK, "--data_dir", str(root / "data"), "--output_dir", str(root / "run")])
    return root


@pytest.fixture
def run(scene: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene / "run", tmp_path / "run"))


@pytest.fixture(scope="module")
def rows(scene: Path) -> Any:
    from datasets import Image

    rows = newsclippings.load("merged_balanced", split="test", data_dir=str(scene / "data"))
    return rows.cast_column("image", Image(decode=False))


def read_scores(run: Path) -> list[float]:
    return [json.loads(line)["score"] for line in (run / "predictions.jsonl").read_text().splitlines()]


# Loading

FIRST = "import newsclippings; assert not {'torch', 'transformers'} & {*sys.modules}; "
ORDERS = {
    "config first": f"{FIRST}from transformers import AutoConfig; "
    "AutoConfig.from_pretrained(sys.argv[1]); from transformers import AutoModel",
    "transformers first": "from transformers import AutoModel; import newsclippings",
    "trainer first": f"{FIRST}from transformers import Trainer; from transformers import AutoModel",
}
SHOW = """
from transformers import AutoProcessor, PreTrainedModel
model, processor = AutoModel.from_pretrained(sys.argv[1]), AutoProcessor.from_pretrained(sys.argv[1])
assert isinstance(model, PreTrainedModel) and not model.training
print(newsclippings.predict(model, "a caption", sys.argv[2]), processor.side)
"""


@pytest.mark.parametrize("order", sampled(ORDERS, 3))
def test_auto_classes_open_a_run(scene: Path, tmp_path: Path, order: str) -> None:
    """AutoModel, AutoConfig and AutoProcessor open a run after `import newsclippings`, which imports none of them."""
    picture = tmp_path / "red.png"
    PIL.Image.new("RGB", (50, 40), "red").save(picture)
    done = python(f"{ORDERS[order]}\n{SHOW}", [str(scene / "run"), str(picture)], hub_free(), tmp_path)
    assert done.code == 0, done.err[-2000:]
    score = newsclippings.predict(scene / "run", "a caption", picture)
    assert done.out.split() == [str(score), "32"]


def hub_free() -> dict[str, str]:
    from support.reading import environment

    return environment(Path("/nonexistent"), HF_HUB_OFFLINE="1")


def test_config_and_processor(scene: Path) -> None:
    """The configuration names the labels; the processor makes what the collator of the training makes."""
    config = AutoConfig.from_pretrained(scene / "run")
    assert config.id2label == {0: "pristine", 1: "falsified"}
    assert config.options["hidden"] == 8
    picture = PIL.Image.new("RGB", (50, 40), "red")
    inputs = AutoProcessor.from_pretrained(scene / "run")(text=["a", "b"], images=[picture, picture])
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "input_ids": (2, 77), "attention_mask": (2, 77), "pixel_values": (2, 3, 32, 32),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="device_map is no argument for a run of newsclippings: expected dtype, "):
        AutoModel.from_pretrained(scene / "run", device_map="auto")


def test_a_saved_model_is_loaded_again(scene: Path, tmp_path: Path) -> None:
    """`save_pretrained` writes all that `AutoModel` and `AutoProcessor` need; no notes of the training."""
    loaded = AutoModel.from_pretrained(scene / "run")
    loaded.save_pretrained(tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved/classifier.json").exists()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert AutoModel.from_pretrained(tmp_path / "saved", dtype=torch.float16).dtype == torch.float16
    assert AutoProcessor.from_pretrained(tmp_path / "saved").tokens == 77


def test_a_run_of_an_earlier_version(run: Path, scene: Path, rows: Any) -> None:
    """A run without config.json and card still opens, is evaluated and resumed; the evaluation writes both."""
    for name in ("config.json", "README.md"):
        (run / name).unlink()
    notes = json.loads((run / "classifier.json").read_text())
    for name in ("base_model", "changes"):
        del notes[name]
    for name in ("lora", "flags"):
        del notes["options"][name]
    (run / "classifier.json").write_text(json.dumps(notes, indent=1))
    before = (run / "predictions.jsonl").read_bytes()
    assert newsclippings.predict(run, rows["caption"][:], rows["image"][:]) == read_scores(run)
    training.main(["--eval_only", str(run), "--data_dir", str(scene / "data"), "--use_cpu"])
    assert (run / "predictions.jsonl").read_bytes() == before
    assert AutoConfig.from_pretrained(run).options["hidden"] == 8
    more = [*QUICK, "--data_dir", str(scene / "data"), "--output_dir", str(run), "--max_steps", "4"]
    training.main([*more, "--resume_from_checkpoint", "true"])
    assert (run / "checkpoint-4").is_dir()


# Predictions


def test_predictions_are_those_of_the_trainer(scene: Path, rows: Any, tmp_path: Path) -> None:
    """Captions and pictures of the rows of test give the trainer's own scores, to 0.0; alone, to 1e-6."""
    expected, loaded = read_scores(scene / "run"), AutoModel.from_pretrained(scene / "run")
    captions, pictures = rows["caption"][:], [image["bytes"] for image in rows["image"]]
    assert newsclippings.predict(scene / "run", captions, pictures) == expected
    paths = [tmp_path / f"{k}.jpg" for k in range(len(pictures))]
    for path, data in zip(paths, pictures, strict=True):
        path.write_bytes(data)
    assert newsclippings.predict(loaded, captions, list(map(str, paths))) == expected
    assert newsclippings.predict(loaded, rows["caption"], rows["image"]) == expected
    images = [PIL.Image.open(io.BytesIO(data)) for data in pictures]
    assert newsclippings.predict(loaded, captions, images) == expected
    checkpoint = newsclippings.predict(scene / "run/checkpoint-3", captions, pictures)
    assert checkpoint == expected
    for k in (0, 5):
        alone = newsclippings.predict(loaded, captions[k], paths[k])
        assert isinstance(alone, float)
        assert alone == pytest.approx(expected[k], abs=1e-6)
    loaded.train()
    newsclippings.predict(loaded, captions[:1], paths[:1])
    assert loaded.training
    assert newsclippings.predict(loaded, [], []) == []


def test_pictures_are_turned_upright(scene: Path, tmp_path: Path) -> None:
    """An image of Pillow is turned as its file is."""
    picture = PIL.Image.linear_gradient("L").convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    loaded = AutoModel.from_pretrained(scene / "run")
    file = newsclippings.predict(loaded, "x", tmp_path / "turned.png")
    assert file == newsclippings.predict(loaded, "x", PIL.Image.open(tmp_path / "turned.png"))
    assert file != newsclippings.predict(loaded, "x", PIL.Image.linear_gradient("L"))


@pytest.mark.parametrize(
    ("caption", "picture", "error", "says"),
    [
        ("a", ["x", "y"], ConfigError, "One caption, but a list of 2 pictures"),
        (["a", "b"], ["x"], ConfigError, "2 captions: expected a list of as many pictures, found 1"),
        (["a"], "x", ConfigError, "1 captions: expected a list of as many pictures, found 'x'"),
        (7, "x", ConfigError, "caption 7: expected a text, or a list of texts"),
        ("a", 7, ConfigError, "picture 7: expected a path, the bytes of a file, or an image of Pillow"),
        ("a", "nowhere.jpg", DataNotFoundError, "nowhere.jpg: there is no such file"),
        ("a", b"no picture", BadFileError, "picture of 10 bytes: expected a picture that Pillow decodes"),
    ],
)
def test_pairs_that_cannot_be_predicted(
    scene: Path, caption: Any, picture: Any, error: type[Exception], says: str
) -> None:
    """The error says what was expected."""
    with pytest.raises(error, match=re.escape(says)):
        newsclippings.predict(AutoModel.from_pretrained(scene / "run"), caption, picture)


def test_models_that_cannot_predict(world: World, tmp_path: Path) -> None:
    """A run on vectors says what to do; other values and places are refused."""
    flags = ["--features", "net", "--embeddings", f"net={write_folder(make_vectors(world), tmp_path)}"]
    more = ["--data_dir", str(world.root), "--output_dir", str(tmp_path / "run"), "--use_cpu", "--max_steps", "2"]
    training.main([*flags, *more, "--disable_tqdm", "true"])
    loaded = AutoModel.from_pretrained(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"takes vectors \(net\), not captions and pictures. Make vectors of your"):
        newsclippings.predict(loaded, "a", "b.jpg")
    assert loaded(vectors=torch.ones(2, loaded.widths["net"]))["logits"].shape == (2, 2)
    text = (tmp_path / "run/README.md").read_text()
    assert "on vectors (`net`)" in text
    assert f"float32 (rows, {loaded.widths['net']})" in text
    with pytest.raises(ConfigError, match="takes vectors, and needs no processor"):
        AutoProcessor.from_pretrained(tmp_path / "run")
    with pytest.raises(ConfigError, match="model 7: expected the folder of a run"):
        newsclippings.predict(7, "a", "b.jpg")
    with pytest.raises(DataNotFoundError, match="expected the folder of a run, or its name on the Hub"):
        newsclippings.predict(tmp_path / "nowhere", "a", "b.jpg")
    with pytest.raises(ValueError, match=r"is not the folder of a run or a checkpoint: it needs model\.safetensors"):
        newsclippings.predict(tmp_path, "a", "b.jpg")


# The card

REPORT = {
    "signature": "newsclippings|v:1.1.0|config:merged_balanced|split:test|rows:22/22|thr:0.5",
    "rows": {"expected": 22, "found": 22, "missing": 0, "unknown": 0, "doubled": 0},
    "measures": {
        "accuracy": {"value": 0.75, "low": 0.5, "high": 1.0},
        "eer": {"value": 0.25, "low": 0.0, "high": 0.5},
        "brier": None,
    },
    "by": {},
    "run": {"seed": 2, "versions": {"newsclippings": "1.1.0", "torch": "2.13.0"}},
}


def read_head(text: str) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return head


def test_the_card_of_a_report() -> None:
    """Measures, signature, data revision, recipe, seed, versions and licence are in the card and its YAML."""
    from huggingface_hub import ModelCard

    options = Options(recipe="strong", from_config="tiny")
    config = model.make_config(options, {"model_type": "clip"}, base_model="openai/clip-vit-base-patch32")
    config.changes = {"max_steps": 9}
    text = card.make_card(config, options, {"merged_balanced": card.read_measured(REPORT)})
    assert "| Accuracy | 75.00% | 50.00% to 100.00% |" in text
    assert "Brier" not in text
    parts = [f"`{REPORT['signature']}`", "Recipe: `strong`, but `max_steps 9`.", "Seed: 2.", "torch 2.13.0"]
    parts += ["at revision `815fc4cd74b35788ba8a1524d65c42fb69b03fd4`", "Labels leak", "Apache-2.0", "22 rows"]
    assert [part for part in parts if part not in text] == []
    found: Any = ModelCard(text)
    (accuracy, eer) = found.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, accuracy.dataset_split) == ("accuracy", 0.75, "test")
    assert (accuracy.dataset_type, accuracy.dataset_config) == ("g-luo/news-clippings", "merged_balanced")
    assert eer.metric_value == 0.25
    assert found.data.base_model == "openai/clip-vit-base-patch32"


def test_the_result_for_the_hub() -> None:
    """The entry of .eval_results is what the Hub's client writes for the same values."""
    hub = pytest.importorskip("huggingface_hub", minversion="1.4")
    text = card.make_results(Options(), {"merged_balanced": card.read_measured(REPORT)})
    (entry,) = hub.parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("g-luo/news-clippings", "merged_balanced", 0.75)
    assert str(REPORT["signature"]) in entry.notes
    assert yaml.safe_load(text) == hub.eval_result_entries_to_yaml([entry])


def test_controls_and_other_outlets_are_no_results(scene: Path, run: Path) -> None:
    """A control, or a part of the rows, is said in the card, and not offered as a result of the test split."""
    place = run / ".eval_results/newsclippings.yaml"
    assert place.exists()
    loaded = model.load_classifier(run)[0]
    for options in (Options(control="own_pictures"), Options(train_outlets=["bbc"]), Options(split="validation")):
        card.write_card(run, loaded.config, options, {"merged_balanced": REPORT})
        assert not place.exists()
        assert "model-index" not in read_head((run / "README.md").read_text())
    assert "On the split validation" in (run / "README.md").read_text()


def test_a_card_of_somebody_else_is_kept(scene: Path, run: Path) -> None:
    """A README.md or config.json that another program wrote is not replaced."""
    for name in ("README.md", "config.json", ".eval_results/newsclippings.yaml"):
        before = (run / name).read_bytes()
        (run / name).write_text("mine")
        with pytest.raises(ConfigError, match=re.escape(name)):
            training.main([*QUICK, "--data_dir", str(scene / "data"), "--output_dir", str(run)])
        (run / name).write_bytes(before)


# The Hub


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running(tmp_path_factory.mktemp("hub"), xet=False) as hub:
        yield hub


@pytest.fixture
def hub(running_hub: Hub) -> Iterator[Hub]:
    yield from used(running_hub)


REPO = "tester/out-of-context"
WHOLE = """
import newsclippings
from _newsclippings.cli import main

def train(*arguments):
    try:
        main(["train", *arguments])
    except SystemExit as end:
        assert not end.code, end.code

repo, out, picture, data, *flags = sys.argv[1:]
push = ["--data_dir", data, "--push_to_hub", "--hub_model_id", repo]
train(*flags, *push, "--output_dir", out)
from transformers import AutoModel
loaded = AutoModel.from_pretrained(repo)
print("scores", *(newsclippings.predict(one, "a caption", picture) for one in (loaded, repo)))
train("--eval_only", out, *push, "--use_cpu")
"""
TRAIN = "import newsclippings; from _newsclippings.cli import main; main(['train', *sys.argv[1:]])"


def push(hub: Hub, run: Path, scene: Path, *more: str, token: str | None = None) -> Any:
    arguments = ["--eval_only", str(run), "--data_dir", str(scene / "data"), "--use_cpu", "--push_to_hub"]
    env = hub.environment(token) if token else hub.environment()
    return python(TRAIN, [*arguments, "--hub_model_id", REPO, *more], env, hub.folder / "work")


def test_pushed_and_loaded(hub: Hub, scene: Path, tmp_path: Path) -> None:
    """A run that is pushed as it is trained is private, names no place, and is loaded by its name; again is no harm."""
    picture = tmp_path / "red.png"
    PIL.Image.new("RGB", (50, 40), "red").save(picture)
    out = tmp_path / "run"
    arguments = [REPO, str(out), str(picture), str(scene / "data"), *QUICK]
    done = python(WHOLE, arguments, hub.environment(), tmp_path / "work")
    assert done.code == 0, done.err[-2000:]
    assert done.out.count(f"Pushed to {hub.endpoint}/{REPO}") == 2
    assert hub.repo(REPO)["private"]
    assert {*hub.files(name=REPO)} == {
        "README.md", "config.json", "model.safetensors", "predictions.jsonl", "reliability.png", "roc.png",
        "source_dataset.png",
        ".eval_results/newsclippings.yaml", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
    }  # fmt: skip
    for sha256 in hub.files(name=REPO).values():
        data = (hub.folder / "kept" / sha256).read_bytes()
        assert str(tmp_path).encode() not in data
        assert str(scene).encode() not in data
    score = newsclippings.predict(out, "a caption", picture)
    assert f"scores {score} {score}" in done.out.splitlines()
    card_text = (hub.folder / "kept" / hub.files(name=REPO)["README.md"]).read_text()
    assert f'AutoModel.from_pretrained("{REPO}")' in card_text
    assert len(hub.repo(REPO)["commits"]) >= 2


@pytest.mark.sweep
def test_what_is_not_pushed(hub: Hub, run: Path, scene: Path) -> None:
    """Repositories that are public or of another program, a missing token, and checkpoints are errors of one line."""
    hub.make(REPO, private=False)
    done = push(hub, run, scene)
    assert (done.code, "is public: pass --hub_private_repo false" in done.err) == (1, True)
    assert push(hub, run, scene, "--hub_private_repo", "false").code == 0
    done = push(hub, run / "checkpoint-3", scene)
    assert (done.code, "is a checkpoint. Push the run" in done.err) == (2, True)
    hub.ask("/_reset", {"page": 3})
    hub.make(REPO, files={"README.md": "mine"})
    done = push(hub, run, scene)
    assert (done.code, "expected a new repository, or one with a run" in done.err) == (1, True)
    done = push(hub, run, scene, token=OTHER)
    assert (done.code, "your token may not write there" in done.err) == (1, True)
    env = hub.environment(None)
    done = python(TRAIN, [*QUICK, "--push_to_hub", "--hub_model_id", REPO], env, hub.folder / "work")
    assert (done.code, "No token of the Hugging Face Hub" in done.err) == (1, True)


@pytest.mark.sweep
def test_a_name_that_is_not_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    """The error says that there is no such folder and no such model."""
    code = "import newsclippings; newsclippings.predict('tester/nothing', 'a', 'b.jpg')"
    done = python(code, [], hub.environment(), tmp_path / "work")
    assert "tester/nothing: there is no such folder here, and the Hub has no such model" in done.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--push_to_hub"], "--push_to_hub needs --hub_model_id OWNER/NAME, found none"),
        (["--push_to_hub", "--hub_model_id", "x"], "needs --hub_model_id OWNER/NAME, found x"),
        (["--hub_model_id", "a/b"], "--hub_model_id has no effect without --push_to_hub"),
        (["--push_to_hub", "--hub_model_id", "a/b", "--hub_token", "x"], "--hub_token would change nothing"),
        (["--eval_only", "x", "--push_to_hub", "--hub_model_id", "a/b", "--output_dir", "y"], "Leave out --output_dir"),
    ],
)
def test_flags_that_cannot_push(flags: list[str], says: str, tmp_path: Path) -> None:
    """The error names the flag; nothing is trained."""
    done = run_module("newsclippings", ["train", *flags], tmp_path)
    assert (done.code, says in done.err) == (2, True), done.err
