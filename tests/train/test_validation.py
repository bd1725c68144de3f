"""Validation chooses the checkpoint that is tested, also in a run that was interrupted, streamed or divided."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.learnable import write_world
from support.world import World

import newsclippings

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from safetensors.torch import load_file  # noqa: E402

from _newsclippings.folder.build import build_folder  # noqa: E402
from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, untrusted  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1"]
QUICK += ["--learning_rate", "2e-3", "--backbone_learning_rate", "2e-3", "--warmup_steps", "2"]


@pytest.fixture(autouse=True)
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four batches of 16 an epoch."""
    root = tmp_path_factory.mktemp("little")
    write_world(root, learnable=True, pairs={"train": 32, "val": 8, "test": 8})
    return root


def run(data_dir: Path, out: str, *more: object) -> dict[str, Any]:
    return training.main([*QUICK, "--data_dir", str(data_dir), "--output_dir", out, *map(str, more)])


def state(out: str, step: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(out, f"checkpoint-{step}/trainer_state.json").read_text())
    return found


def steps(out: str) -> list[int]:
    return sorted(int(path.name[11:]) for path in Path(out).glob("checkpoint-*"))


def logged(out: str, step: int, name: str) -> dict[int, float]:
    return {entry["step"]: entry[name] for entry in state(out, step)["log_history"] if name in entry}


def equal(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Let the validations of each run have these losses, one after the other."""
    left = list(losses)
    monkeypatch.setattr(training, "validate", lambda _: {"loss": left.pop(0), "accuracy": 0.5})


def test_the_best_checkpoint_is_tested(little: Path) -> None:
    """In a world that is learned, the weights with the lowest loss on validation are kept, saved and tested."""
    run(little, "out", "--max_steps", 24, "--eval_steps", 6, "--lr_scheduler_type", "constant")
    losses = logged("out", steps("out")[-1], "eval_loss")
    assert sorted(losses) == [6, 12, 18, 24]
    best = min(losses, key=losses.__getitem__)
    assert losses[best] < losses[6]
    assert state("out", best)["best_global_step"] == best
    assert equal(Path("out"), Path(f"out/checkpoint-{best}"))
    evaluated = ["--eval_only", "out", "--data_dir", str(little), "--use_cpu", "--split", "validation"]
    with pytest.raises(ValueError, match="--eval_only with --split needs --output_dir"):
        training.main(evaluated)
    training.main([*evaluated, "--output_dir", "validation"])
    rows = [json.loads(line) for line in Path("validation/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    pairs = [(torch.tensor(row["logits"]), torch.tensor(row["label"])) for row in rows]
    loss = sum(torch.nn.functional.cross_entropy(logits, label).item() for logits, label in pairs) / 16
    assert loss == pytest.approx(losses[best], abs=1e-6)
    assert Path("validation/report.md").read_text().startswith("# merged_balanced, tiny, validation\n")


def test_the_best_is_kept_beside_the_last_two(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An early best checkpoint survives the limit, is found after a resume, and its path is in no file."""
    scripted(monkeypatch, [0.5, 0.2, 0.4, 0.3])
    run(little, "out", "--max_steps", 8, "--eval_steps", 2, "--save_steps", 2)
    assert steps("out") == [4, 6, 8]
    assert equal(Path("out"), Path("out/checkpoint-4"))
    assert not equal(Path("out"), Path("out/checkpoint-8"))
    found = state("out", 8)
    assert (found["best_global_step"], found["best_metric"], found["best_model_checkpoint"]) == (4, 0.2, None)
    untrusted.check_checkpoint(Path("out/checkpoint-8"), sharded=False)
    Path("out").rename("moved")
    scripted(monkeypatch, [0.6, 0.25])
    run(little, "moved", "--max_steps", 12, "--eval_steps", 2, "--save_steps", 2, "--resume_from_checkpoint", "true")
    assert steps("moved") == [4, 10, 12]
    assert equal(Path("moved"), Path("moved/checkpoint-4"))


def test_a_missing_best_checkpoint_is_reported(
    little: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the best checkpoint was removed, a resumed run warns, and tests the best of those that follow."""
    scripted(monkeypatch, [0.2, 0.4])
    run(little, "out", "--max_steps", 4, "--eval_steps", 2, "--save_steps", 2)
    Path("out/checkpoint-2").rename("elsewhere")
    scripted(monkeypatch, [0.3])
    run(little, "out", "--max_steps", 6, "--eval_steps", 2, "--resume_from_checkpoint", "out/checkpoint-4")
    assert "checkpoint-2, the best so far, is missing" in caplog.text
    assert equal(Path("out"), Path("out/checkpoint-6"))


@pytest.mark.parametrize("more", [[], ["--streaming"]], ids=["map", "stream"])
def test_an_interrupted_run_is_as_one_that_was_not(little: Path, more: list[str]) -> None:
    """Losses, validations, best checkpoint, weights and predictions of a resumed run are equal to the last bit."""
    more = [*more, "--lr_scheduler_type", "constant", "--eval_steps", "2", "--save_steps", "3"]
    run(little, "whole", *more, "--max_steps", 10)
    run(little, "parts", *more, "--max_steps", 5)  # validated after its last update, which the other does not
    run(little, "parts", *more, "--max_steps", 10, "--resume_from_checkpoint", "parts/checkpoint-5")
    assert logged("whole", 10, "loss") == logged("parts", 10, "loss")
    whole, parts = logged("whole", 10, "eval_loss"), logged("parts", 10, "eval_loss")
    assert parts.pop(5)
    assert whole == parts
    assert sorted(whole) == [2, 4, 6, 8, 10]
    assert state("whole", 10)["best_global_step"] == state("parts", 10)["best_global_step"]
    assert equal(Path("whole"), Path("parts"))
    assert Path("whole/predictions.jsonl").read_bytes() == Path("parts/predictions.jsonl").read_bytes()


def test_validation_changes_nothing_in_the_training(little: Path) -> None:
    """Losses and last weights are the same with validation, without, and streamed in the order of the file."""
    more = ["--max_steps", "6", "--shuffle", "false"]
    run(little, "without", *more, "--eval_strategy", "no")
    run(little, "with", *more, "--eval_steps", "2", "--load_best_model_at_end", "false", "--save_total_limit", "9")
    run(little, "stream", *more, "--eval_steps", "2", "--streaming", "--load_best_model_at_end", "false")
    assert logged("without", 6, "loss") == logged("with", 6, "loss") == logged("stream", 6, "loss")
    assert logged("with", 6, "eval_loss") == logged("stream", 6, "eval_loss")
    assert not logged("without", 6, "eval_loss")
    assert equal(Path("without"), Path("with"))


def test_a_checkpoint_that_was_not_saved_completely(little: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that was killed while it saved resumes from the checkpoint before, and ends with the same weights."""
    more = ["--max_steps", "6", "--eval_steps", "2", "--save_steps", "2", "--lr_scheduler_type", "constant"]
    run(little, "out", *more)
    before = Path("out/model.safetensors").read_bytes()
    Path("out/checkpoint-6/trainer_state.json").unlink()
    Path("out/checkpoint-6/optimizer.pt").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-6: expected a checkpoint with trainer_state\.json, found none"):
        run(little, "out", *more, "--resume_from_checkpoint", "out/checkpoint-6")
    run(little, "out", *more, "--resume_from_checkpoint", "true")
    assert "checkpoint-6 was not saved completely: an earlier one is used" in caplog.text
    assert Path("out/model.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="new: there is no checkpoint to resume from"):
        run(little, "new", *more, "--resume_from_checkpoint", "true")


def test_patience(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run stops after so many validations without a better one, and stays stopped when it resumes."""
    scripted(monkeypatch, [0.5, 0.2, 0.3, 0.2, 0.1])
    more = ["--eval_steps", 1, "--patience", 2, "--max_steps", 8]
    run(little, "out", *more)
    assert steps("out")[-1] == 4
    assert equal(Path("out"), Path("out/checkpoint-2"))
    before = Path("out/predictions.jsonl").read_bytes()
    scripted(monkeypatch, [0.4])
    run(little, "out", *more, "--resume_from_checkpoint", "true")
    assert Path("out/predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_divide_the_validation(little: Path, ranks: int) -> None:
    """Ranks validate equally many rows, and together all of them, from a map or a stream."""
    for streaming in ([], ["--streaming"]):
        options = parse([*QUICK, "--data_dir", str(little), *streaming])[0]
        parts = [training.load_rows(options, "validation", 0, rank, ranks)[0] for rank in range(ranks)]
        read = [[part[k]["index"] for k in range(len(part))] if not streaming else [r["index"] for r in part]
                for part in parts]  # fmt: skip
        assert len({len(indexes) for indexes in read}) == 1
        assert {index for indexes in read for index in indexes} == set(range(16))


def test_data_without_a_validation_split(world: World, tmp_path: Path) -> None:
    """Data without a split for validation are an error that says what to do; the last weights can be tested then."""
    build_folder(tmp_path / "built", ["merged_balanced"], data_dir=str(world.root), splits=["train", "test"])
    arguments = [*QUICK, "--data", str(tmp_path / "built"), "--output_dir", "out", "--max_steps", "1"]
    with pytest.raises(ValueError, match=r"no split validation, .* --eval_strategy no to test the last weights"):
        training.main(arguments)
    assert training.main([*arguments, "--eval_strategy", "no"])["rows"]["found"] == len(world.rows(split="test"))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path for a step": lambda found: found["log_history"][0].update(step="1/../../x"),
    "a text": lambda found: found["log_history"][0].update(eval_loss="low"),
    "no list": lambda found: found.update(log_history=7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_strange_validations_are_refused(little: Path, change: str) -> None:
    """The history of a checkpoint that may come from anyone has numbers only."""
    run(little, "out", "--max_steps", 1)
    place = Path("out/checkpoint-1/trainer_state.json")
    found = json.loads(place.read_text())
    CHANGES[change](found)
    place.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="expected numbers in log_history"):
        untrusted.check_checkpoint(place.parent, sharded=False)


# Seeds


def test_seeds(little: Path) -> None:
    """--seeds trains a run per seed, and reports what `evaluate --group` reports; each run is that of its seed."""
    found = run(little, "out", "--seeds", 2, "--seed", 7, "--max_steps", 3)
    run(little, "alone", "--seed", 8, "--max_steps", 3)
    assert Path("alone/predictions.jsonl").read_bytes() == Path("out/seed-8/predictions.jsonl").read_bytes()
    assert found["seeds"] == [7, 8]
    values = [json.loads(Path(f"out/seed-{k}/measures.json").read_text())["measures"]["auc"]["value"] for k in (7, 8)]
    assert [system["measures"]["auc"]["value"] for system in found["systems"]] == values
    assert [system["name"] for system in found["systems"]] == ["seed-7", "seed-8"]
    assert found["group"]["auc"]["mean"] == pytest.approx(sum(values) / 2)
    assert json.loads(Path("out/seeds.json").read_text()) == found
    assert "2 seeds" in Path("out/seeds.md").read_text()
    files = [f"out/seed-{k}/predictions.jsonl" for k in (7, 8)]
    assert newsclippings.evaluate(*files, data_dir=little, group=True).as_dict()["group"] == found["group"]
    again = run(little, "out", "--seeds", 3, "--seed", 7, "--max_steps", 3, "--resume_from_checkpoint", "true")
    assert [system["measures"]["auc"]["value"] for system in again["systems"]][:2] == values
    os.remove("out/seeds.json")
    Path("out/seeds.json").write_text("mine")
    with pytest.raises(Exception, match=r"seeds\.json"):
        run(little, "out", "--seeds", 2, "--max_steps", 3)
