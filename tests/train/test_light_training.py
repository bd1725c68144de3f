"""Training that costs less: adapters, gradient checkpointing, other optimizers; and flags from a file."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.forking import run_module
from support.learnable import write_world
from support.reading import PACKAGE, environment
from support.sampling import sampled

import newsclippings
from newsclippings import MissingDependencyError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from transformers import set_seed  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import lora, model  # noqa: E402
from _newsclippings.train.flags import parse, read_flags  # noqa: E402
from _newsclippings.train.options import Options, UsageError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--hidden", "8", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "1"]
QUICK += ["--learning_rate", "1e-2"]


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two batches of 16 an epoch."""
    root = tmp_path_factory.mktemp("little")
    write_world(root, learnable=True, pairs={"train": 16, "val": 4, "test": 8})
    return root


def run(root: Path, out: str, *more: object) -> dict[str, Any]:
    return training.main([*QUICK, "--data_dir", str(root), "--output_dir", out, *map(str, more)])


def weights(out: str) -> dict[str, Any]:
    found: dict[str, Any] = model.load_classifier(Path(out))[0].state_dict()
    return found


def losses(out: str) -> list[float]:
    (state,) = Path(out).glob("checkpoint-*/trainer_state.json")
    return [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


# Adapters


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft")


def test_lora_trains_the_attention_only(little: Path, peft: Any) -> None:
    """With --lora only matrices of attention change; a run has them merged, and needs no PEFT to be opened."""
    out = "out"
    options, arguments = parse([*QUICK, "--data_dir", str(little), "--lora", "2", "--max_steps", "3"])
    arguments.output_dir = out
    assert options.backbone_learning_rate == 1e-4
    trained, _ = training.train(options, arguments)
    set_seed(arguments.seed)
    fresh = model.make_classifier(Options(from_config="tiny", hidden=8))[0].backbone
    assert fresh is not None
    before, after = fresh.state_dict(), {k: v for k, v in weights(out).items() if k.startswith("backbone.")}
    assert {f"backbone.{name}" for name in before} == {*after}
    changed = {name for name, value in before.items() if not torch.equal(value, after[f"backbone.{name}"])}
    assert changed
    assert all(re.search(r"self_attn\.(q_proj|k_proj|v_proj|out_proj)\.weight$", name) for name in changed)
    ranks = [torch.linalg.matrix_rank(before[name] - after[f"backbone.{name}"], rtol=1e-3) for name in changed]
    assert max(map(int, ranks)) <= 2
    assert not any("lora" in name for name in trained.state_dict())


@pytest.mark.sweep
def test_a_run_with_adapters_resumes_and_is_evaluated(
    little: Path, peft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run ends with the same weights; its best checkpoint and its last weights predict the same."""
    more = ["--lora", 2, "--lr_scheduler_type", "constant"]
    run(little, "whole", *more, "--max_steps", 4)
    run(little, "parts", *more, "--max_steps", 2)
    run(little, "parts", *more, "--max_steps", 4, "--resume_from_checkpoint", "true")
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(".lora_A." in name for name in weights("whole/checkpoint-4"))
    before = Path("whole/predictions.jsonl").read_bytes()
    picture = next((little / "visual_news/origin").rglob("*.jpg"))
    alone = newsclippings.predict("whole", "x", picture)
    assert newsclippings.predict("whole/checkpoint-4", "x", picture) == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    training.main(["--eval_only", "whole", "--data_dir", str(little), "--use_cpu"])
    assert Path("whole/predictions.jsonl").read_bytes() == before
    assert "`lora 2`" in Path("whole/README.md").read_text()
    with pytest.raises((MissingDependencyError, ValueError), match=r"--lora needs peft.*newsclippings\[lora\]"):
        newsclippings.predict("whole/checkpoint-4", "x", picture)


def test_lora_without_peft(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra, before rows are read."""
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'newsclippings\[lora\]'"):
        run(Path("nowhere"), "out", "--lora", 2)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--lora", "0"], "--lora: expected 1 or more, found 0"),
        (["--lora", "2", "--freeze_backbone"], "--lora trains adapters in the backbone. Leave out --freeze_backbone"),
        (["--lora", "2", "--freeze_direct"], "--freeze_direct would change nothing with --lora"),
        (["--lora", "2", "--fsdp"], "--lora with FSDP or DeepSpeed"),
        (["--lora", "2", "--features", "clip"], "--lora would change nothing here"),
        (["--gradient_checkpointing", "--features", "clip"], "--gradient_checkpointing would change nothing here"),
        (["--activation_checkpointing", "--freeze_backbone"], "would change nothing with --freeze_backbone"),
        (["--optim_args", "x=1"], "--optim_args would change nothing"),
    ],
)
def test_contradictions(flags: list[str], says: str) -> None:
    """The error names the flag to leave out."""
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(flags)


# Checkpointing and optimizers


@pytest.mark.parametrize("flag", sampled(["--activation_checkpointing", "--gradient_checkpointing"], 2))
def test_gradient_checkpointing_changes_nothing_but_memory(little: Path, flag: str) -> None:
    """Losses and weights are equal with and without, and layers are computed again."""
    run(little, "plain", "--max_steps", 3, "--logging_steps", 1)
    seen = []
    enable = model.Classifier._set_gradient_checkpointing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model.Classifier,
            "_set_gradient_checkpointing",
            lambda self, *args, **kwargs: seen.append(enable(self, *args, **kwargs)),
        )
        run(little, "less", "--max_steps", 3, "--logging_steps", 1, flag)
    assert seen
    assert losses("less") == losses("plain")
    plain, less = weights("plain"), weights("less")
    assert all(torch.equal(plain[name], less[name]) for name in plain)


@pytest.mark.parametrize("flag", ["--activation_checkpointing", "--gradient_checkpointing"])
def test_gradient_checkpointing_has_two_names(flag: str) -> None:
    """Both names of the flag do the same, without a warning that one of them is old."""
    with warnings.catch_warnings(action="error", category=FutureWarning):
        arguments = parse([*QUICK, flag])[1]
    assert arguments.gradient_checkpointing is True
    assert getattr(arguments, "activation_checkpointing", True) is True
    assert not parse(QUICK)[1].gradient_checkpointing


@pytest.mark.parametrize("name", sampled(["sgd", "adafactor", "rmsprop", "adamw_torch"], 2))
def test_optimizers_have_two_learning_rates(little: Path, name: str) -> None:
    """--optim chooses the class; head and backbone keep their learning rates, and biases have no weight decay."""
    options, arguments = parse([*QUICK, "--optim", name, "--backbone_learning_rate", "1e-4", "--eval_strategy", "no"])
    made = model.make_classifier(options)[0]
    trainer = training.PairTrainer(model=made, args=arguments)
    optimizer = trainer.create_optimizer()
    assert type(optimizer).__name__.lower() == {"rmsprop": "rmsprop", "adamw_torch": "adamw"}.get(name, name)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-2, 1e-4, 1e-4]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0, 0.01, 0.0]


def test_another_optimizer_trains(little: Path) -> None:
    """SGD changes the weights, and the run resumes."""
    run(little, "out", "--optim", "sgd", "--max_steps", 2)
    run(little, "out", "--optim", "sgd", "--max_steps", 3, "--resume_from_checkpoint", "true")
    assert "`max_steps 3`" in Path("out/README.md").read_text()


@pytest.mark.parametrize("name", ["galore_adamw", "schedule_free_adamw", "lomo", "adamw_bnb_8bit"])
def test_optimizers_that_cannot_be_used(name: str, little: Path) -> None:
    """Optimizers that choose parameters or rates themselves, or are not installed, are refused in a line."""
    with pytest.raises(ValueError, match=f"--optim {name}: |--optim {name} chooses") as error:
        run(little, "out", "--optim", name, "--max_steps", 1)
    assert "such as adamw_torch" in str(error.value)


# Several processes

SHARDED = """
import sys
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from _newsclippings.train import command

init, prepare = PartialState.__init__, command.PairTrainer._save_checkpoint
def as_devices(self, *args, **kwargs):  # accelerate has FSDP for devices only, and torch also for CPUs
    init(self, *args, **kwargs)
    if self._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU
def show(self, *args, **kwargs):
    print("wrapped:", type(self.model_wrapped).__name__, type(next(self.model_wrapped.parameters())).__name__)
    return prepare(self, *args, **kwargs)
PartialState.__init__, command.PairTrainer._save_checkpoint = as_devices, show
command.main(sys.argv[1:])
"""


@pytest.mark.sweep
def test_the_example_of_fsdp(little: Path, tmp_path: Path) -> None:
    """By examples/fsdp.yaml two processes divide the model; the run is that of one process with their batches."""
    (tmp_path / "sharded.py").write_text(SHARDED)
    launch = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "accelerate.commands.launch",
        "--main_process_port",
        str(free_port()),
    ]
    launch += ["--config_file", str(PACKAGE / "examples/fsdp.yaml"), str(tmp_path / "sharded.py")]
    flags = [*QUICK, "--data_dir", str(little), "--max_steps", "3", "--logging_steps", "1"]
    env = environment(tmp_path / "hf", PYTHONPATH=str(PACKAGE), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*launch, *flags, "--output_dir", "sharded"], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wrapped: FSDPClassifier DTensor" in done.stderr
    run(little, "one", "--max_steps", 3, "--logging_steps", 1, "--per_device_train_batch_size", 32)
    assert losses("sharded") == pytest.approx(losses("one"), abs=1e-4)
    sharded, one = weights("sharded"), weights("one")
    assert all(torch.allclose(sharded[name], one[name], atol=1e-4) for name in one)
    training.main(["--eval_only", "sharded", "--data_dir", str(little), "--use_cpu"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


# Flags from a file

FILES = {
    "flags.yaml": "learning_rate: 5e-5\nmax_steps: 7\nstreaming: true\nshuffle: false\n"
    "train_outlets: [bbc, guardian]\n",
    "flags.json": '{"learning_rate": 5e-5, "max_steps": 7, "streaming": true, "shuffle": false, '
    '"train_outlets": ["bbc", "guardian"]}',
}


@pytest.mark.parametrize("name", FILES)
def test_flags_from_a_file(name: str) -> None:
    """Flags in a YAML or JSON file are those of the command line, which win; a list is not added to."""
    Path(name).write_text(FILES[name])
    options, arguments = parse(read_flags(["--flags", name]))
    assert (arguments.learning_rate, arguments.max_steps, options.streaming, options.shuffle) == (5e-5, 7, True, False)
    assert options.train_outlets == ["bbc", "guardian"]
    more = ["--max_steps=9", "--train_outlets", "usa_today", "--streaming", "false", "--shuffle", "true"]
    options, arguments = parse(read_flags([*more, "--flags", name]))
    assert (arguments.learning_rate, arguments.max_steps, options.streaming, options.shuffle) == (5e-5, 9, False, True)
    assert options.train_outlets == ["usa_today"]


def test_a_run_of_a_file(little: Path) -> None:
    """A run takes its flags from a file, also for several seeds."""
    flags = {"data_dir": str(little), "from_config": "tiny", "hidden": 8, "max_steps": 1, "warmup_steps": 0, "seeds": 2}
    Path("flags.json").write_text(json.dumps(flags))
    more = ["--flags", "flags.json", "--use_cpu", "--disable_tqdm", "true", "--output_dir", "out"]
    assert training.main(more)["seeds"] == [2, 3]
    assert json.loads(Path("out/seed-3/classifier.json").read_text())["options"]["flags"] is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rat: 1", "'learning_rat' is no flag of newsclippings train. Did you mean 'learning_rate'? Correct"),
        ("flags: x.yaml", "'flags' is no flag"),
        ("no_shuffle: true", "'no_shuffle' is no flag of newsclippings train. Did you mean 'shuffle'?"),
        ("- max_steps", "expected an object of flags and values, as learning_rate: 5e-5"),
        ("a: [", "expected YAML or JSON, found"),
        ("max_steps: null", "max_steps: expected a text, a number, true or false, or a list of them, found None"),
        ("max_steps: {a: 1}", "max_steps: expected a text, a number"),
        ("text_only: true\nimage_only: true", "--text_only and --image_only leave no features"),
    ],
)
def test_files_of_flags_that_are_refused(text: str, says: str, tmp_path: Path) -> None:
    """The error names the file or the flag; the exit code is that of wrong usage."""
    (tmp_path / "flags.yaml").write_text(text)
    done = run_module("newsclippings", ["train", "--flags", "flags.yaml"], tmp_path)
    assert (done.code, says in done.err) == (2, True), done.err


def test_a_file_that_is_not_there() -> None:
    """The error names it."""
    with pytest.raises(UsageError, match=r"--flags nowhere\.yaml: No such file or directory\. Pass a"):
        read_flags(["--flags", "nowhere.yaml"])
