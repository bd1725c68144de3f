"""Scripts of transformers train on built folders, on exports and by name. Opt-in: they are not installed with it.

TRANSFORMERS_EXAMPLES names a folder with its examples/pytorch, of the installed version, and torchvision and `evaluate`
must be installed. The metric, which `evaluate` would fetch from the Hub, is a file in the working folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.command import run
from support.reading import environment
from support.world import World

import newsclippings

pytestmark = [
    pytest.mark.skipif("TRANSFORMERS_EXAMPLES" not in os.environ, reason="needs TRANSFORMERS_EXAMPLES"),
    pytest.mark.filterwarnings("ignore"),
]
PACKAGES = ("transformers", "datasets", "torch", "torchvision", "accelerate")
STEPS = ["--do_train", "--do_eval", "--max_steps", "3", "--per_device_train_batch_size", "4", "--report_to", "none"]
BY_NAME = "import runpy, sys, newsclippings; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
METRIC = """
import datasets
import evaluate

class Accuracy(evaluate.Metric):
    def _info(self):
        number = datasets.Value("int32")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"accuracy": sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and a ViT of random weights, with their processors."""
    import torch
    from transformers import AutoModel, CLIPImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

    from _newsclippings.train.tiny import byte_tokenizer, tiny_config

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    side = {"height": 32, "width": 32}
    AutoModel.from_config(tiny_config()).save_pretrained(folder / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder / "clip")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder / "clip")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(**small, image_size=32, patch_size=8)).save_pretrained(folder / "vit")
    ViTImageProcessor(size=side).save_pretrained(folder / "vit")
    return folder


def train(script: str, cwd: Path, world: World, *words: object, by_name: bool = False) -> dict[str, float]:
    """Run a script, and return what it measured."""
    path = str(Path(os.environ["TRANSFORMERS_EXAMPLES"], script))
    start = ["-c", BY_NAME, path] if by_name else [path]
    offline = {"HF_HUB_OFFLINE": "1", "DISABLE_TELEMETRY": "1", "NEWSCLIPPINGS_DATA_DIR": str(world.root)}
    (cwd / "accuracy").mkdir(exist_ok=True)
    (cwd / "accuracy/accuracy.py").write_text(METRIC)
    env = {**environment(cwd / "hf", **offline), "USE_TORCH": "1"}
    command = [sys.executable, *start, *map(str, words), *STEPS, "--output_dir", str(cwd / "run")]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    measured: dict[str, float] = json.loads((cwd / "run/all_results.json").read_text())
    sys.stdout.write(f"{script} {[f'{name} {version(name)}' for name in PACKAGES]} {measured}\n")
    return measured


def build(world: World, out: Path) -> Path:
    result = run("build", out, "--data-dir", world.root)
    assert result.exit_code == 0, result.output
    return out


CLIP = "contrastive-image-text/run_clip.py"
CLASSIFY = "image-classification/run_image_classification.py"


@pytest.mark.parametrize("by_name", [False, True], ids=["built", "name"])
def test_image_classification(world: World, models: Path, tmp_path: Path, by_name: bool) -> None:
    """From a built folder without this package, and by name, for which its process imports the package."""
    place = "newsclippings" if by_name else build(world, tmp_path / "built")
    data = ["--dataset_name", place, "--dataset_config_name", "merged_balanced"]
    columns = ["--label_column_name", "falsified", "--remove_unused_columns", "False"]
    measured = train(
        CLASSIFY, tmp_path, world, "--model_name_or_path", models / "vit", *data, *columns, by_name=by_name
    )
    assert measured["eval_accuracy"] >= 0
    assert measured["train_loss"] > 0


@pytest.mark.parametrize("source", ["export", "image_file"])
def test_clip(world: World, models: Path, tmp_path: Path, source: str) -> None:
    """Its script opens files: those of an export of a built folder, or those that the column image_file names."""
    columns = ["--image_column", "image_file", "--caption_column", "caption"]
    if source == "export":
        result = run("export", tmp_path / "out", "--as", "csv", "--built", build(world, tmp_path / "built"))
        assert result.exit_code == 0, result.output
        data, columns[1] = ["--train_file", "train.csv", "--validation_file", "validation.csv"], "image_path"
    else:
        rows = newsclippings.load(data_dir=str(world.root), images="path", image_file=True).remove_columns("image")
        for split, part in rows.items():
            part.to_parquet(tmp_path / f"out/{split}.parquet")
        data = ["--dataset_name", str(tmp_path / "out")]
    cut = ["--max_seq_length", 77, "--remove_unused_columns", "False"]
    measured = train(CLIP, tmp_path / "out", world, "--model_name_or_path", models / "clip", *data, *columns, *cut)
    assert measured["eval_loss"] > 0
    assert measured["train_loss"] > 0
