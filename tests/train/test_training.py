"""The paper's benchmark: learnable data are learned, others are not, and every row is seen once."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from datasets import load_dataset
from support.children import in_child, wait
from support.constants import change_constant
from support.forking import run_module
from support.learnable import write_world
from support.reading import PACKAGE, environment, load
from support.sampling import WAYS, crossed, sampled
from support.vectors import make_plan
from support.vectors import write as write_embeddings
from support.world import World

from _newsclippings.folder.build import build_folder
from newsclippings import ConfigError, DataNotFoundError, MissingDataError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from torch.utils.data import DataLoader  # noqa: E402
from transformers import set_seed  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, model  # noqa: E402
from _newsclippings.train.data import Control, are_whole_pairs, count_rows, load_split, read_shard_sizes  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402
from _newsclippings.train.options import Options  # noqa: E402
from _newsclippings.train.recipes import OFFICIAL  # noqa: E402
from _newsclippings.train.stream import StreamLoader, StreamRows  # noqa: E402
from _newsclippings.train.tiny import byte_tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "5"]
FAST = ["--learning_rate", "2e-3", "--backbone_learning_rate", "2e-3"]


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("learnable")
    write_world(root, learnable=True, pairs={"train": 256, "val": 4, "test": 64})
    return root


@pytest.fixture(scope="module")
def many_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pairs of test as coins are needed."""
    root = tmp_path_factory.mktemp("coins")
    write_world(root, learnable=True, pairs={"train": 256, "val": 4, "test": 256})
    return root


@pytest.fixture(autouse=True)
def quick_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, except in the test of the report."""
    if request.node.name != "test_predictions_and_report":
        monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four batches of 16 an epoch."""
    root = tmp_path_factory.mktemp("little")
    write_world(root, learnable=True, pairs={"train": 32, "val": 4, "test": 8})
    return root


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("noise")
    write_world(root, learnable=False, pairs={"train": 160, "val": 4, "test": 300})
    return root


def run(data_dir: Path, out: str, *more: object) -> dict[str, Any]:
    place = [] if "--data" in more else ["--data_dir", str(data_dir)]
    arguments = [*QUICK, *place, "--output_dir", out, *map(str, more)]
    return training.main(arguments)


def losses(out: str) -> list[float]:
    (state,) = Path(out).glob("checkpoint-*/trainer_state.json")
    return [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


def predictions(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "predictions.jsonl").read_text().splitlines()]


# Learning


@pytest.mark.parametrize("streaming", sampled(WAYS.values(), 2), ids=WAYS)
def test_what_can_be_learned_is_learned(learnable: Path, streaming: bool) -> None:
    """If falsified pictures carry a signal, rows and pairs are classified correctly."""
    found = run(learnable, "out", *FAST, "--max_steps", 40, *(["--streaming"] if streaming else []))
    assert found["rows"]["found"] == 128
    for name in ("accuracy", "auc", "pair_accuracy"):
        assert found["measures"][name]["value"] > 0.95


def test_what_cannot_be_learned_stays_at_chance(noise: Path) -> None:
    """Without a signal half of the answers are right."""
    found = run(noise, "out", *FAST, "--max_steps", 20)
    assert abs(found["measures"]["accuracy"]["value"] - 0.5) < 0.05


@pytest.mark.parametrize("ablation", sampled(["--text_only", "--image_only"], 2))
def test_ablations(learnable: Path, ablation: str) -> None:
    """The signal is in the pictures: with captions alone accuracy is at chance, and twins are equal."""
    found = run(learnable, "out", *FAST, "--max_steps", 60 if ablation == "--image_only" else 20, ablation)
    if ablation == "--image_only":
        assert found["measures"]["accuracy"]["value"] > 0.95
    else:
        assert found["measures"]["accuracy"]["value"] == 0.5
        scores = [one["score"] for one in predictions("out")]
        assert scores[0::2] == pytest.approx(scores[1::2], abs=1e-6)


@pytest.mark.parametrize(("control", "streaming"), crossed(["shuffled_labels", "own_pictures"], WAYS))
def test_controls_end_at_chance(learnable: Path, many_pairs: Path, control: str, streaming: bool) -> None:
    """With only original pictures, or with random labels, accuracy ends at chance."""
    more = ["--streaming"] if streaming else []
    rows = learnable if control == "own_pictures" else many_pairs  # equal twins have equal scores
    found = run(rows, "out", *FAST, "--max_steps", 40, "--control", control, *more)
    text = Path("out/report.md").read_text()
    assert ": as it has to be." in text
    assert json.loads(Path("out/positive/measures.json").read_text())["measures"]["accuracy"]["value"] > 0.9
    if control == "own_pictures":
        assert found["measures"]["accuracy"]["value"] == 0.5
    else:
        assert abs(found["measures"]["accuracy"]["value"] - 0.5) < 0.12  # of 256 coins: four standard deviations
        assert "This is a control (a coin decides which twin is called falsified, also in test): expected" in text
        coins = [Control(control, "2 test")({"id": k, "falsified": 0}, None)["falsified"] for k in range(1000)]
        assert 420 < sum(coins) < 580
        assert [row["label"] for row in predictions("out")] != [0, 1] * 256


def test_a_frozen_backbone_does_not_change(learnable: Path) -> None:
    """With --freeze_backbone only the head is trained."""
    options, arguments = parse([*QUICK, "--data_dir", str(learnable), "--freeze_backbone", "--max_steps", "3", *FAST])
    arguments.output_dir = "out"
    trained, _ = training.train(options, arguments)
    set_seed(arguments.seed)
    fresh, _ = model.make_classifier(options)
    assert trained.backbone is not None
    assert fresh.backbone is not None
    before, after = fresh.backbone.state_dict(), trained.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(trained.head[0].weight, fresh.head[0].weight)


def test_head_and_backbone_have_separate_learning_rates() -> None:
    """The optimizer gets the official learning rates by default, or those that are given."""
    options, arguments = parse(["--from_config", "tiny", "--use_cpu"])
    groups = model.make_classifier(options)[0].groups(arguments.learning_rate, arguments.weight_decay)
    assert [group["lr"] for group in groups] == [5e-5, 5e-5, 5e-7, 5e-7]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0, 0.01, 0.0]  # none for biases
    assert len(groups[0]["params"]) == len(groups[1]["params"]) == 3  # two hidden layers, and the last
    assert arguments.max_steps == 44_000
    assert arguments.warmup_steps == 4_000
    assert (arguments.seed, arguments.per_device_train_batch_size, arguments.adam_epsilon) == (2, 16, 1e-8)
    assert (options.hidden, options.tokens) == (OFFICIAL["hidden"], OFFICIAL["tokens"]) == (512, 77)


# Streams


@pytest.mark.sweep  # test_validation_changes_nothing_in_the_training compares them, too
def test_stream_and_map_learn_the_same(little: Path) -> None:
    """In one process and one order, a stream and a map-style dataset give the same losses and weights."""
    more = ["--max_steps", 6, "--shuffle", "false", "--logging_steps", 1, *FAST]
    run(little, "map", *more)
    run(little, "stream", *more, "--streaming")
    assert len(losses("map")) == 6
    assert losses("stream") == losses("map")
    one, other = (model.load_classifier(Path(name))[0].state_dict() for name in ("map", "stream"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.sweep  # test_validation.py interrupts a map and a stream, and compares more
@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="map"),
        pytest.param(["--streaming"], id="stream"),
        pytest.param(["--streaming", "--dataloader_num_workers", "2"], id="workers"),
    ],
)
def test_an_interrupted_run_ends_with_the_same_weights(little: Path, more: list[str]) -> None:
    """A run that is stopped in an epoch and resumed from its checkpoint ends with the weights of a single run."""
    more = [*FAST, "--lr_scheduler_type", "constant", *more]
    run(little, "whole", *more, "--max_steps", 10)
    run(little, "parts", *more, "--max_steps", 6, "--save_steps", 6)
    run(little, "parts", *more, "--max_steps", 10, "--resume_from_checkpoint", "parts/checkpoint-6")
    one, other = (model.load_classifier(Path(name))[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_epochs_of_a_stream(little: Path) -> None:
    """--num_train_epochs works for streams, because their length is known."""
    run(little, "out", *FAST, "--num_train_epochs", 2, "--streaming")
    (state,) = Path("out").glob("checkpoint-*/trainer_state.json")
    found = json.loads(state.read_text())
    assert (found["global_step"], found["epoch"]) == (8, 2.0)


def stream(world: World, **options: Any) -> StreamRows:
    rows = load(world, streaming=True, split="train").select_columns(["index", "id", "falsified", "source"])
    return StreamRows(rows, len(world.rows()), **options)


def indices(batches: Any) -> list[int]:
    return [row["index"] for batch in batches for row in batch]


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2), (4, 1), (1, 3)])
@pytest.mark.parametrize("buffer", sampled([7, 0], 2))
def test_every_row_once_an_epoch(world: World, ranks: int, workers: int, buffer: int) -> None:
    """For any ranks and workers each row is read exactly once per epoch, and all ranks have equally many batches."""
    rows = len(world.rows())  # 24: 12 pairs
    seen, lengths = [], []
    for rank in range(ranks):
        data = stream(world, ranks=ranks, rank=rank, buffer=buffer)
        loader = StreamLoader(data, batch_size=2, num_workers=workers, collate_fn=list)
        batches = list(loader)
        assert len(batches) == len(loader)
        lengths.append(len(batches))
        seen += indices(batches)
    assert len(set(lengths)) == 1
    assert set(seen) == set(range(rows))
    twice = {k: n for k, n in Counter(seen).items() if n > 1}
    parts = ranks * max(1, workers)
    assert len(seen) - rows <= 2 * parts if 12 % parts or 8 % parts else not twice


def test_the_order_is_that_of_seed_and_epoch(world: World) -> None:
    """The order depends on epoch and seed only; without a buffer it is that of the file."""
    orders = {}
    for seed in (0, 1):
        data = stream(world, seed=seed, buffer=10)
        for epoch in (0, 1):
            data.set_epoch(epoch)
            orders[seed, epoch] = [row["index"] for row in data]
            assert [row["index"] for row in data] == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(24)) for order in orders.values())
    assert [row["index"] for row in stream(world)] == list(range(24))


def test_what_does_not_fit_is_an_error(world: World) -> None:
    """Shards that the ranks cannot share, and streams of another length than stated, are errors."""
    with pytest.raises(ValueError, match=r"8 shards cannot be divided evenly between 3 ranks\. Use 1, 2, 4, 8 ranks"):
        stream(world, ranks=3)
    rows = load(world, streaming=True, split="train")
    with pytest.raises(ValueError, match=r"shard 0: expected 6 rows, found 4. Were pairs dropped\?"):
        list(StreamRows(rows, 48))


RANKS = """
import json, os, sys
from pathlib import Path
from _newsclippings.train import command as training

seen = []
collate = training.TensorCollator.__call__
def collated(self, rows):
    seen.extend(row["index"] for row in rows)
    return collate(self, rows)
training.TensorCollator.__call__ = collated
training.main(sys.argv[2:])
Path(sys.argv[1], f"rank-{os.environ['RANK']}.json").write_text(json.dumps(seen))
"""


def be_rank(rank: int, port: int, arguments: list[str]) -> None:
    """Run one of two ranks in a fork of this process, with the variables that torchrun sets."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)  # of earlier trainings in this process
    GradientState._reset_state()
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in ranks.items()}, MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = str(port)
    sys.argv[1:] = arguments
    exec(RANKS, {"__name__": "__main__"})


@pytest.mark.parametrize(
    ("launcher", "streaming"),
    [
        pytest.param("torchrun", False, marks=pytest.mark.sweep),
        pytest.param("torchrun", True, marks=pytest.mark.sweep),
        ("forks", True),
    ],
)
def test_two_ranks(little: Path, tmp_path: Path, launcher: str, streaming: bool) -> None:
    """With torchrun and two processes each row is seen once per epoch, and both end with the same model."""
    arguments = [*QUICK, *FAST, "--data_dir", str(little), "--output_dir", str(tmp_path / "out")]
    arguments += ["--num_train_epochs", "1", *(["--streaming"] if streaming else [])]
    if launcher == "forks":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        children = [in_child(partial(be_rank, rank, port, [str(tmp_path), *arguments])) for rank in (0, 1)]
        assert [wait(child) for child in children] == [0, 0]
    else:
        script = tmp_path / "ranks.py"
        script.write_text(RANKS)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
        command += [str(tmp_path), *arguments]
        env = environment(tmp_path / "hf", PYTHONPATH=os.pathsep.join([str(PACKAGE)]), OMP_NUM_THREADS="1")
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == 32
    assert sorted(first + second) == list(range(64))
    assert (tmp_path / "out" / "report.md").exists()
    (file,) = (tmp_path / "out").glob("checkpoint-*/trainer_state.json")
    validated = [entry["eval_loss"] for entry in json.loads(file.read_text())["log_history"] if "eval_loss" in entry]
    more = ["--split", "validation", "--output_dir", "validation", "--use_cpu"]
    training.main(["--eval_only", str(tmp_path / "out"), "--data_dir", str(little), *more])
    assert validated == [pytest.approx(evaluate.validate(predictions("validation"))["loss"], abs=1e-6)]


# Reports


def test_predictions_and_report(learnable: Path) -> None:
    """A run writes a prediction for every row of test, a table and plots, and the same again in a second run."""
    found = run(learnable, "out", *FAST, "--max_steps", 5)
    rows = predictions("out")
    assert [row["index"] for row in rows] == list(range(128))
    assert all(row.keys() == {"index", "id", "image_id", "label", "score", "logits", "config"} for row in rows)
    assert [row["label"] for row in rows] == [0, 1] * 64
    for row in rows[:10]:
        low, high = row["logits"]
        assert row["score"] == pytest.approx(1 / (1 + np.exp(low - high)), abs=1e-5)
    for name in ("roc", "reliability", "source_dataset"):
        with PIL.Image.open(f"out/{name}.png") as picture:
            assert picture.size == (900, 750)
    assert re.search(r"\| accuracy \| [\d.]+ \[[\d.]+, [\d.]+\] \|", Path("out/report.md").read_text())
    before = Path("out/predictions.jsonl").read_text()
    again = training.main(["--eval_only", "out", "--data_dir", str(learnable), "--use_cpu"])
    assert again == found
    assert Path("out/predictions.jsonl").read_text() == before
    (checkpoint,) = Path("out").glob("checkpoint-*")
    assert training.main(["--eval_only", str(checkpoint), "--data_dir", str(learnable), "--use_cpu"]) == found


def test_a_run_on_other_rows(world: World) -> None:
    """A run can be evaluated on another config or other outlets, into another folder."""
    run(world.root, "out", "--max_steps", 2)
    before = Path("out/predictions.jsonl").read_text()
    evaluated = ["--eval_only", "out", "--data_dir", str(world.root), "--use_cpu"]
    with pytest.raises(ValueError, match="--eval_only with --config needs --output_dir, to keep the results"):
        training.main([*evaluated, "--config", "scene_resnet_place"])
    training.main([*evaluated, "--config", "scene_resnet_place", "--output_dir", "other"])
    expected = world.rows("scene_resnet_place", "test")
    assert [(one["id"], one["image_id"]) for one in predictions("other")] == [
        (r["id"], r["image_id"]) for r in expected
    ]
    assert Path("other/report.md").read_text().startswith("# scene_resnet_place, tiny\n")
    training.main([*evaluated, "--train_outlets", "bbc", "guardian", "--output_dir", "outlets"])
    rows, others = world.rows(split="test"), {"usa_today", "washington_post"}
    apart = {row["index"] // 2 for row in rows if not {row["source"], row["image_source"]} <= others}
    kept = {row["index"] for row in rows if row["index"] // 2 not in apart}
    assert {one["index"] for one in predictions("outlets")} == kept
    assert Path("out/predictions.jsonl").read_text() == before


def test_other_outlets(learnable: Path) -> None:
    """A run trained on two outlets is tested on the other two, also when it is evaluated again."""
    found = run(learnable, "out", "--train_outlets", "guardian", "bbc", "--max_steps", 5)
    assert found["rows"]["found"] == 64
    assert training.main(["--eval_only", "out", "--data_dir", str(learnable), "--use_cpu"]) == found
    assert training.main(["--eval_only", "out", "--data_dir", str(learnable), "--use_cpu", "--streaming"]) == found
    assert "trained on pairs of bbc, guardian only, tested on those of the others" in Path("out/report.md").read_text()
    assert found["by"]["outlet"].keys() == {"usa_today", "washington_post"}
    assert found["rows"] == {"expected": 128, "found": 64, "missing": 64, "unknown": 0, "doubled": 0}
    assert "|rows:64/128|" in found["signature"]
    assert "|missing:64,left_out|" in found["signature"]
    assert "64 of 128 rows of the split are left out, and not measured." in Path("out/report.md").read_text()
    dropped = json.loads(Path("out/measures.json").read_text())["run"]["dropped_rows"]
    assert dropped["test"] == {"merged_balanced": {"used": 64, "incomplete": 0, "other_outlets": 64}}


# Vectors


@pytest.mark.parametrize("features", sampled([["clip"], ["clip", "--products"], ["all", "--products"], ["facenet"]], 2))
def test_on_the_authors_vectors(new_world: Callable[..., World], features: list[str]) -> None:
    """The head can be trained on vectors, without pictures; rows without a vector count as zeros."""
    world = new_world(tar=False)
    write_embeddings(world, make_plan(world))
    arguments = ["--features", *features, "--data_dir", str(world.root), "--output_dir", "out", "--use_cpu"]
    found = training.main([*arguments, "--max_steps", "3", "--disable_tqdm", "true"])
    assert found["rows"]["found"] == len(world.rows(split="test"))
    assert training.main(["--eval_only", "out", "--data_dir", str(world.root), "--use_cpu"]) == found


def test_vectors_of_a_row() -> None:
    """Features are normalised vectors, zeros if missing, the mean of faces, and their product and difference."""
    from _newsclippings.train.collate import make_vectors

    row = {"clip_image": [3.0] + [0.0] * 511, "clip_text": [0.0, 2.0] + [0.0] * 510}
    got = make_vectors(row, {"clip_image": 512, "clip_text": 512}, products=True)
    assert got.shape == (2048,)
    assert got.nonzero().flatten().tolist() == [0, 512 + 1, 1536, 1537]
    assert torch.equal(make_vectors({"facenet": None}, {"facenet": 512}), torch.zeros(512))
    faces = {"facenet": [[2.0] + [0.0] * 511, [0.0, 2.0] + [0.0] * 510]}
    assert make_vectors(faces, {"facenet": 512})[:2].tolist() == pytest.approx([0.5**0.5] * 2)


# Options


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--text_only", "--image_only"], "leave no features. Use only one of them"),
        (["--features", "sbrt"], "Did you mean 'sbert'? Say where your own vectors are: --embeddings sbrt=LOCATION"),
        (["--features", "sbert,"], "--features 'sbert,': expected names of columns, separated by commas"),
        (["--features", "clip,clip_text"], "--features clip,clip_text: a column is there twice. Name each once"),
        (["--embeddings", "net=net"], "--embeddings net would change nothing: --features does not name it"),
        (["--features", "sbert", "--embeddings", "sbert"], "the authors' vectors need --features sbert only"),
        (["--features", "clip", "--embeddings", "clip=net"], "another name, such as my_clip"),
        (["--features", "net", "--embeddings", "net"], "--embeddings: 'net': expected clip_image,"),
        (["--features", "net", "--embeddings", "net=a", "net=b"], "--embeddings: net is there twice"),
        (["--data", "built", "--features", "net", "--embeddings", "net=a"], "--embeddings has no effect with --data"),
        (["--features", "sbert", "--products"], "found --features sbert"),
        (["--features", "clip", "--text_only"], "without a backbone and pictures. Leave out --text_only"),
        (["--features", "clip", "--control", "own_pictures"], "Use shuffled_labels"),
        (["--train_outlets", "guardian", "bbc", "usa_today", "washington_post"], "none is left to test on"),
        (["--outlet_rule", "caption"], "--outlet_rule would change nothing without --train_outlets"),
        (["--label_smoothing_factor=0.1"], "--label_smoothing_factor would change nothing"),
        (["--eval_steps", "2", "--eval_strategy", "no"], "--eval_steps would change nothing with --eval_strategy no"),
        (["--eval_steps", "0"], "--eval_steps: expected a number of updates, 1 or more, or a part of all of them"),
        (["--eval_steps", "-1"], "such as 0.1; found -1"),
        (["--save_steps", "0"], "--save_steps: expected a number of updates, 1 or more"),
        (["--save_steps", "nan"], "such as 0.1; found nan"),
        (["--logging_steps", "0"], "--logging_steps: expected a number of updates"),
        (["--metric_for_best_model", "f1"], "--metric_for_best_model: expected loss or accuracy, found f1"),
        (["--patience", "0"], "--patience: expected 1 or more, found 0"),
        (["--patience", "3", "--load_best_model_at_end", "false"], "--patience needs the best checkpoint"),
        (["--save_strategy", "no"], "--save_strategy no keeps no checkpoint, so that the best cannot be tested"),
        (["--mislabel_pristine", "1.5"], "--mislabel_pristine: expected 0 to 1, found 1.5"),
        (["--recipe", "paper", "--features", "clip"], "--recipe would change nothing here"),
        (["--seeds", "2", "--push_to_hub"], "the runs would replace each other"),
        (["--split", "validation"], "--split has no effect without --eval_only"),
        (["--weights", "x"], "--weights has no effect without --eval_only"),
        (["--eval_only"], "--eval_only needs the folder of a run, or else --weights with a file"),
        (["--eval_only", "x", "--weights", "y"], "one of the two. Pass one"),
        (["--eval_only", "x", "--text_only"], "--text_only has no effect with --eval_only: the run has its own"),
        (["--eval_only", "x", "--hidden=9"], "--hidden has no effect with --eval_only"),
        (["--features", "clip", "--tokens", "9"], "--tokens would change nothing"),
        (["--streaming", "--data_seed", "9"], "--data_seed would change nothing"),
        (["--remove_unused_columns", "true"], "--remove_unused_columns would change nothing"),
        (["--neftune_noise_alpha", "5"], "--neftune_noise_alpha would change nothing"),
        (["--hidden", "0"], "--hidden: expected 1 or more, found 0"),
        (["--hidden_layers", "101"], "--hidden_layers: expected 100 or fewer, found 101"),
        (["--tokens", "2"], "--tokens: expected 3 or more, found 2"),
        (["--shuffle_buffer", "-3"], "--shuffle_buffer: expected 0 or more, found -3"),
        (["--no_eval_do_concat_batches"], "--eval_do_concat_batches would change nothing"),
        (["--activation_checkpointing_kwargs", "{}"], "--activation_checkpointing_kwargs would change nothing"),
        (["--report_to", "mlflow"], "--report_to mlflow: the package mlflow is not installed: pip install mlflow"),
        (["--report_to", "wandb"], "--report_to wandb: the package wandb is not installed: pip install wandb"),
        (
            ["--data", "built", "--check_images"],
            "--check_images has no effect with --data built, which",
        ),
        (["--data", "built", "--missing", "error"], "--missing has no effect with --data built"),
        (["--streaming", "--dataloader_persistent_workers", "--dataloader_num_workers=2"], "do not notice a new epoch"),
    ],
)
def test_contradictions_are_errors(arguments: list[str], says: str) -> None:
    """Contradictory options are an error with what was expected and what was found."""
    with pytest.raises(ValueError, match=re.escape(says)):
        parse([*arguments, "--use_cpu"])


def test_false_is_not_the_last_checkpoint() -> None:
    """--resume_from_checkpoint false does not resume, although `true` means the last checkpoint."""
    assert parse(["--resume_from_checkpoint", "false", "--use_cpu"])[1].resume_from_checkpoint is None


def test_what_goes_wrong_is_told_in_a_line(tmp_path: Path) -> None:
    """An error has exit code 1 and one line without a traceback."""
    with pytest.raises(ValueError, match=r"nowhere is not the folder of a run .* it needs model\.safetensors"):
        training.main(["--eval_only", "nowhere", "--use_cpu"])
    done = run_module("newsclippings", ["train", "--data_dir", "nowhere", "--from_config", "tiny"], tmp_path)
    assert done.code == 1
    assert f"\nError: --data_dir {tmp_path}/nowhere does not exist" in f"\n{done.err}"
    assert "Traceback" not in done.err


def test_rows_need_no_columns_that_no_control_asks_for(world: World) -> None:
    """Pictures and captions alone are streamed, too."""
    rows = load(world, streaming=True, split="train").select_columns(["caption"])
    assert [row["caption"] for row in StreamRows(rows, 24)] == [row["caption"] for row in world.rows()]


def test_more_ranks_than_pairs(world: World) -> None:
    """A rank without a row would wait for ever for the others: an error."""
    rows = load(world, streaming=True, split="train").select_columns(["index"])
    data = StreamRows(rows, 8, ranks=8, rank=7)
    with pytest.raises(ValueError, match="8 rows are too few for 8 ranks x workers"):
        iter(data)


def test_a_stream_travels_to_a_process_that_is_not_forked(world: World) -> None:
    """A stream with a control can be sent to a spawned worker."""
    for control in (None, "shuffled_labels"):
        data = stream(world, control=Control(control))
        assert list(pickle.loads(pickle.dumps(data))) == list(data)


def test_siglip(learnable: Path, tmp_path: Path) -> None:
    """SigLIP, which has fewer token positions than the recipe, can be trained."""
    from transformers import SiglipConfig, SiglipModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 260, "max_position_embeddings": 64, "projection_size": 32}
    vision = {**small, "image_size": 32, "patch_size": 8}
    config = SiglipConfig(text_config=text, vision_config=vision)
    SiglipModel(config).save_pretrained(tmp_path / "siglip")
    byte_tokenizer().save_pretrained(tmp_path / "siglip")
    arguments = ["--model", str(tmp_path / "siglip"), "--data_dir", str(learnable), "--output_dir", "out", "--use_cpu"]
    assert training.main([*arguments, "--max_steps", "2", "--disable_tqdm", "true"])["rows"]["found"] == 128


def test_a_folder_without_pictures(world: World, tmp_path: Path) -> None:
    """A folder without pictures is an error that names what is missing."""
    build_folder(tmp_path / "none", ["merged_balanced"], images="none", data_dir=str(world.root))
    with pytest.raises(ValueError, match="lacks the columns image, which training needs"):
        run(world.root, "out", "--data", tmp_path / "none", "--max_steps", 3)


def spoil(world: World) -> dict[str, set[int]]:
    """Empty a picture of test and truncate others; return the rows of the remaining pairs by split."""
    spoilt = set()
    for split, k, size in (("train", 5, 100), ("test", 2, 0), ("test", 9, 300)):
        spoilt.add(path := world.rows(split=split)[k]["image_path"])
        os.truncate(world.origin / path, size)
    left = {}
    for split in ("train", "test"):
        bad = {row["index"] // 2 for row in world.rows(split=split) if row["image_path"] in spoilt}
        left[split] = {k for k in range(len(world.rows(split=split))) if k // 2 not in bad}
    return left


@pytest.mark.parametrize(("built", "streaming"), crossed({"straight": False, "built": True}, WAYS))
def test_broken_pictures_do_not_end_a_run(
    new_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture, streaming: bool, built: bool
) -> None:
    """Pairs with a missing or broken picture are left out and reported, and have no prediction."""
    world = new_world(tar=False)
    left = spoil(world)
    more = ["--streaming"] if streaming else []
    if built:
        options: dict[str, Any] = {"missing": "null", "check_images": True, "data_dir": str(world.root)}
        build_folder(tmp_path / "built", ["merged_balanced"], **options)
        more += ["--data", str(tmp_path / "built")]
    else:
        more += ["--check_images", "--missing", "drop_pair"]
    found = run(world.root, "out", "--num_train_epochs", 2, *more)
    assert {one["index"] for one in predictions("out")} == left["test"]
    assert found["rows"]["found"] == len(left["test"])
    told = [record.getMessage() for record in caplog.records if "rows are left out" in record.getMessage()]
    assert any(f"{len(world.rows(split='test')) - len(left['test'])} rows are left out" in text for text in told)


def test_a_split_without_usable_rows_is_an_error(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A split without any usable row is an error, not an endless stream."""
    world = new_world(tar=False)
    options: dict[str, Any] = {"missing": "null", "check_images": True, "data_dir": str(world.root)}
    build_folder(tmp_path / "built", ["merged_balanced"], **options)
    rows = datasets.load_dataset(str(tmp_path / "built"), split="train", streaming=True)
    empty = rows.map(lambda row: {**row, "caption": None}, features=rows.features)
    with pytest.raises(ValueError, match="have no rows with caption and picture"):
        next(iter(StreamRows(empty.cast_column("image", datasets.Image(decode=False)), 24)))


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.sweep), 1])
def test_a_broken_picture_is_named_with_its_row(new_world: Callable[..., World], tmp_path: Path, workers: int) -> None:
    """Without check_images, a broken picture is one line with row, picture and what to do, also from a worker."""
    world = new_world(tar=False)
    row = world.rows()[3]
    (world.origin / row["image_path"]).write_bytes(b"<html>")
    arguments = ["train", *QUICK, "--data_dir", str(world.root), "--max_steps", "30"]
    arguments += ["--dataloader_num_workers", str(workers)]
    done = run_module("newsclippings", arguments, tmp_path)
    assert done.code == 1
    (line,) = [text for text in done.err.splitlines() if text.startswith("Error: ")]
    assert re.search(rf"row \d+, image_id {row['image_id']}: picture of 6 bytes: expected", line)
    assert line.endswith(
        "Pass --check_images --missing drop_pair, or build with check_images=True and missing='drop_pair'."
    )
    assert "Traceback" not in done.err


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_how_many_batches_a_stream_has(world: World, workers: int, drop_last: bool) -> None:
    """The length of a stream is its number of batches, with and without incomplete ones."""
    batches = StreamLoader(stream(world), batch_size=5, num_workers=workers, collate_fn=list, drop_last=drop_last)
    assert len(list(batches)) == len(batches)


def test_nan_scores_are_an_error(tmp_path: Path) -> None:
    """Scores that are not a number do not count as answers."""
    batch = {"facts": [{"index": 7, "falsified": 0}], "labels": None}
    diverged: Any = Diverged()
    with pytest.raises(ValueError, match=r"row 7: expected two numbers, found \[nan, nan\]"):
        evaluate.predict(diverged, [batch], torch.device("cpu"))


class Diverged:
    def train(self, mode: bool) -> None:
        pass

    def __call__(self) -> dict[str, Any]:
        return {"logits": torch.full((1, 2), float("nan"))}


def test_order_of_batches_is_kept_by_a_plain_loader(world: World) -> None:
    """A DataLoader over a stream in the order of the file gives that order."""
    assert indices(DataLoader(stream(world), batch_size=4, collate_fn=list)) == list(range(24))


# Incomplete pairs


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (2, 2), (4, 1)])
def test_a_built_folder_with_dropped_pairs(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, workers: int
) -> None:
    """The rows of a built folder with dropped pairs are counted from its files, and each is read once."""
    change_constant(monkeypatch, "FEWEST", 1)
    world = new_world(tar=False)
    for record in list(world.records.values())[::9]:
        (world.origin / record.image_path).unlink(missing_ok=True)
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root), missing="drop_pair")
    options = Options(data=str(tmp_path / "built"), streaming=True)
    rows = load_split(options, "train")
    sizes = read_shard_sizes(options, "train")
    assert sizes is not None
    assert len(sizes) == 8
    assert len(set(sizes)) > 1
    seen: list[int] = []
    for rank in range(ranks):
        data = StreamRows(rows, count_rows(options, rows, "train"), sizes=sizes, ranks=ranks, rank=rank)
        seen += [row["index"] for row in DataLoader(data, batch_size=None, num_workers=workers)]
    kept = [row["index"] for row in load_dataset(str(tmp_path / "built"), "merged_balanced", split="train")]
    assert 0 < len(kept) < len(world.rows())
    assert set(seen) == set(kept)
    assert len(seen) == len(kept) or ranks * max(1, workers) > 1  # parts of different size repeat rows


def test_other_data_have_no_files_to_count(world: World) -> None:
    """Rows from the builder, without files to count, are divided evenly."""
    assert read_shard_sizes(Options(data_dir=str(world.root), streaming=True), "train") is None


def test_rows_without_their_twins() -> None:
    """Rows without a twin do not count for pair accuracy, and are left out of training."""
    predictions = [
        {"index": k, "id": k // 2, "image_id": k, "label": label, "score": score, "source_dataset": 0, "source": "bbc"}
        for k, label, score in [(0, 0, 0.1), (1, 1, 0.9), (2, 0, 0.5), (5, 1, 0.3), (6, 0, 0.4)]
    ]
    assert evaluate.measure_rows(None, Options(), predictions, "x").values["pair_accuracy"] == 1
    assert evaluate.measure_rows(None, Options(), predictions[2:], "x").values["pair_accuracy"] is None
    rows = datasets.Dataset.from_dict({"index": [0, 1, 2, 5, 6], "caption": ["a"] * 5})
    assert are_whole_pairs(rows).tolist() == [True, True, False, False, False]
    rows = datasets.Dataset.from_dict({"index": [0, 1, 2, 5, 6, 7], "caption": ["a"] * 6})
    streamed = StreamRows(rows.to_iterable_dataset(), 6)
    assert [row["index"] for row, _ in zip(streamed, range(6), strict=False)] == [0, 1, 6, 7, 0, 1]


# Models and resumed runs


def test_unsuitable_models(tmp_path: Path) -> None:
    """Another model family or a missing tokenizer is an error; half-precision weights are read as float32."""
    from transformers import BertConfig, BertModel, CLIPModel

    from _newsclippings.train.tiny import byte_tokenizer, tiny_config

    BertModel(BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"bert: expected a CLIP or a SigLIP with pictures of one size, found bert"):
        model.make_classifier(Options(model=str(tmp_path / "bert")))
    CLIPModel(tiny_config()).half().save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"clip: expected a tokenizer of about 2\d\d tokens, found one of \d\."):
        model.make_classifier(Options(model=str(tmp_path / "clip")))
    byte_tokenizer().save_pretrained(tmp_path / "clip")
    classifier, _ = model.make_classifier(Options(model=str(tmp_path / "clip")))
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


def test_a_run_is_not_resumed_with_other_options(tmp_path: Path) -> None:
    """Resuming with other flags or another number of readers is refused before any file of the run changes."""
    run = tmp_path / "run"
    made = Options(from_config="tiny", hidden=64)
    two, turned = {"workers": 2, "ranks": 1}, {"workers": 1, "ranks": 2}
    model.save_notes(run, *model.make_classifier(made), readers=two)
    model.check_notes(run, Options(from_config="tiny", hidden=9), None)  # nothing was saved yet
    (run / "checkpoint-5").mkdir()
    model.check_notes(run, replace(made, data_dir="moved"), two)
    with pytest.raises(ValueError, match="its checkpoints were made with --hidden 64, not 9"):
        model.check_notes(run, replace(made, hidden=9), two)
    with pytest.raises(ValueError, match="--missing error, not drop_pair"):
        model.check_notes(run, replace(made, missing="drop_pair"), two)  # other rows, another order
    with pytest.raises(ValueError, match=r"by 2 workers x 1 ranks, found 1 x 2: .* --dataloader_num_workers 2"):
        model.check_notes(run, made, turned)
    (run / "checkpoint-5").rmdir()
    (run / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match="--hidden 64, not 9"):
        model.check_notes(run, replace(made, hidden=9), two)  # the last weights alone are a run
    with pytest.raises(ValueError, match=r"model\.safetensors: the weights are truncated or damaged"):
        model.load_classifier(run)


def test_a_checkpoint_of_another_folder(world: World) -> None:
    """A checkpoint of another folder must fit, too; truncated weights are an error of one line."""
    more = ["--max_steps", 2, "--save_steps", 2, "--streaming"]
    run(world.root, "out", *more)
    checkpoint = Path("out/checkpoint-2")
    elsewhere = ["--resume_from_checkpoint", checkpoint, *more]
    for flag in ("--hidden", "--dataloader_num_workers"):
        with pytest.raises(ValueError, match=f"out: .*{flag}"):
            run(world.root, "new", *elsewhere, flag, 2)
    assert not Path("new").exists()
    weights = checkpoint / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"out/checkpoint-2: the weights are truncated or damaged"):
        run(world.root, "new", *elsewhere)


def test_truncated_weights_of_a_model(tmp_path: Path) -> None:
    """Truncated weights of a model are an error of one line."""
    from transformers import CLIPModel

    from _newsclippings.train.tiny import tiny_config

    CLIPModel(tiny_config()).save_pretrained(tmp_path / "clip")
    os.truncate(tmp_path / "clip" / "model.safetensors", 3000)
    with pytest.raises(ValueError, match=r"clip: the weights are truncated or damaged"):
        model.make_classifier(Options(model=str(tmp_path / "clip")))


def test_the_command_line_says_where_the_data_are(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The data folder comes from the command line, never from the run; one line names what is ignored."""
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root))
    found = run(world.root, "out", "--data", tmp_path / "built", "--max_steps", 1)
    (tmp_path / "built").rename(tmp_path / "moved")
    for place in (["--data", str(tmp_path / "moved")], ["--data_dir", str(world.root)]):
        caplog.clear()
        assert training.main(["--eval_only", "out", *place, "--use_cpu"])["measures"] == found["measures"]
        assert "not used" not in caplog.text
    with pytest.raises(FileNotFoundError, match=r"data_dir='.*elsewhere' does not exist"):
        training.main(["--eval_only", "out", "--data_dir", "elsewhere", "--use_cpu"])
    (tmp_path / "moved").rename(tmp_path / "built")
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
    assert training.main(["--eval_only", "out", "--use_cpu"])["measures"] == found["measures"]
    assert (
        f"out was made with --data {tmp_path / 'built'}, which is not used: pass the location of the rows."
        in caplog.text
    )


def test_pictures_of_several_locations(
    new_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pictures come from all locations of --visual_news and through links, as in a build; the run notes them."""
    world, store = new_world(tar=False), tmp_path / "store"
    whole = run(world.root, "whole", "--max_steps", 1)
    store.mkdir()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for k, path in enumerate(world.pictures):
            file = world.origin / path
            if k % 2:
                archive.write(file, path)
                file.unlink()
            else:
                file.rename(store / str(k))
                file.symlink_to(store / str(k))
    links = ["--links", "follow", "--links_root", str(store)]
    two = ["--visual_news", str(world.origin), str(tmp_path / "x.zip"), *links]
    repeated = ["--visual_news", str(world.origin), "--visual_news", str(tmp_path / "x.zip"), *links]
    assert run(world.root, "two", *two, "--max_steps", 1) == whole
    streamed = run(world.root, "streamed", *repeated, "--max_steps", 1, "--streaming")
    assert streamed["rows"] == whole["rows"]
    assert training.main(["--eval_only", "two", "--data_dir", str(world.root), *repeated, "--use_cpu"]) == whole
    with pytest.raises(DataNotFoundError, match="data_dir="):
        training.main(["--eval_only", "two", "--use_cpu", "--output_dir", "elsewhere"])
    assert f"--visual_news {world.origin} {tmp_path / 'x.zip'} --links follow".replace(" --", ", --") in caplog.text
    with pytest.raises(ConfigError, match="belong together"):
        run(world.root, "three", "--links", "follow", "--max_steps", 1)


def test_a_built_folder_without_a_card(world: World, tmp_path: Path) -> None:
    """For a built folder without a card, rows are counted from the files."""
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root))
    card = tmp_path / "built" / "README.md"
    card.write_text(re.sub(r"(?m)^ *- ?name: (train|test|validation)\n( +num_\w+: .*\n)+", "", card.read_text()))
    options = Options(data=str(tmp_path / "built"), streaming=True)
    assert len(list(training.load_rows(options, "train", 0, 0, 1)[0])) == len(world.rows())


def test_missing_test_data_are_reported_before_training(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If test data are missing, the error comes before training."""
    world = new_world(tar=False)
    (world.origin / world.rows(split="test")[0]["image_path"]).unlink()
    monkeypatch.setattr(training, "train", lambda *args: pytest.fail("training began"))
    with pytest.raises(MissingDataError, match="merged_balanced/test: expected 12 complete rows"):
        run(world.root, "out", "--max_steps", 1)


def test_pixels_are_those_of_the_recipe() -> None:
    """Pixels are those of Pillow's convert, as in the authors' training; 16-bit grey keeps its tones."""
    from sweeps import odd_pictures as odd

    from _newsclippings.train.collate import make_pixels

    clear = np.zeros((256, 256, 4), np.uint16)
    assert make_pixels({"bytes": odd.png(clear, 8, 6), "path": None}, 224).max() == 0
    deep = np.full((256, 256, 1), 0x40FF)
    tensor = make_pixels({"bytes": odd.png(deep, 16, 0), "path": None}, 224)
    assert torch.equal(tensor, torch.full((3, 224, 224), 64 / 255))
