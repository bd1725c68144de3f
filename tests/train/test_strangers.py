"""Foreign runs, checkpoints and models: nothing is executed or asked, and nothing outside of them is read."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import pty
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.forking import run_module
from support.world import World, make_world

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import model, untrusted  # noqa: E402
from _newsclippings.train.options import Options  # noqa: E402
from _newsclippings.train.tiny import byte_tokenizer, tiny_config  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

Change = Callable[[Path], None]
touched: list[str] = []  # forbidden events that the audit hook saw
forbidden: list[str] = []  # folders that must not be read; if empty, nothing is watched


def audit(event: str, args: tuple[Any, ...]) -> None:
    if not forbidden:
        return
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"):
        touched.append(f"{event} {args}")
    if event in ("open", "os.listdir", "os.scandir") and any(str(args[0]).startswith(one) for one in forbidden):
        touched.append(f"{event} {args[0]}")


sys.addaudithook(audit)


class Evil:
    """An object that creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.canary),))


class NoInput(io.StringIO):
    """A standard input that must not be read."""

    def read(self, size: int | None = -1, /) -> str:
        raise AssertionError("stdin was read")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        raise AssertionError("stdin was read")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that must not be read; afterwards assert that it was not, and that nothing was executed or asked."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (*untrusted.TOKENS, "tokenizer_config.json", "config.json", "classifier.json", "optimizer.pt"):
        (elsewhere / name).write_text("{}")
    (elsewhere / "model.safetensors").write_text("{}")
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setattr(sys, "stdin", NoInput())
    touched.clear()
    forbidden.append(str(elsewhere))
    try:
        yield elsewhere
    finally:
        forbidden.clear()
    assert touched == []
    assert not (tmp_path / "canary").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run, as it is saved."""
    home = tmp_path_factory.mktemp("made") / "run"
    classifier, tokenizer = model.make_classifier(Options(from_config="tiny", hidden=8))
    model.save_notes(home, classifier, tokenizer)
    save_file(classifier.state_dict(), home / "model.safetensors")
    return home


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def change_json(name: str, *path: str, **values: Any) -> Change:
    """Return a change that sets values in a JSON file of a folder."""

    def change(folder: Path) -> None:
        file = folder / name
        whole = json.loads(file.read_text()) if file.exists() else {}
        inner = whole
        for key in path:
            inner = inner.setdefault(key, {})
        inner.update(values)
        file.write_text(json.dumps(whole))

    return change


def put(name: str, data: bytes | str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return change


def link(name: str) -> Change:
    """Return a change that replaces a file by a link out of the folder."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder.parent / "elsewhere" / Path(name).name)

    return change


def pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def tensors(**values: Any) -> Change:
    """Return a change that sets tensors of the weights; None removes one."""

    def change(folder: Path) -> None:
        every = load_file(folder / "model.safetensors")
        every |= {name.replace("__", "."): value for name, value in values.items()}
        save_file({k: v for k, v in every.items() if v is not None}, folder / "model.safetensors")

    return change


def evil(name: str) -> Change:
    """Write a pickle that creates a file when it is loaded, plain or as torch saves it."""

    def change(folder: Path) -> None:
        torch.save({"state": Evil(folder.parent / "canary")}, folder / name)

    return change


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(folder.parent / "canary")))


def about(*path: str, **values: Any) -> Change:
    """Return a change of what a folder says of its classifier: in the notes of a run, or else in its config.json."""

    def change(folder: Path) -> None:
        name = "classifier.json" if (folder / "classifier.json").exists() else "config.json"
        change_json(name, *path, **values)(folder)

    return change


def no_backbone(widths: Any = None, **values: Any) -> Change:
    """Return a change that makes it a run on vectors."""

    def change(folder: Path) -> None:
        about("options", **values)(folder)
        about(backbone=None, **({} if widths is None else {"widths": widths}))(folder)

    return change


HUGE = {"num_hidden_layers": 10**9, "hidden_size": 10**7, "vocab_size": 10**15, "intermediate_size": 10**7}
REFUSED: dict[str, tuple[Change, str]] = {
    "no JSON": (put("classifier.json", "{"), "classifier.json: expected JSON"),
    "a list": (put("classifier.json", "[]"), "expected a JSON object, found list"),
    "a hundred thousand brackets": (put("classifier.json", "[" * 100_000), "classifier.json: expected JSON"),
    "no UTF-8": (put("classifier.json", b"\xff\xfe"), "classifier.json: expected JSON"),
    "no options": (about(options=[]), "expected options, stream and backbone"),
    "no stream": (about(stream={"workers": "os", "ranks": 1}), "expected options, stream and backbone"),
    "units as text": (about("options", hidden="9"), "expected an option hidden"),
    "units without end": (about("options", hidden=10**12), "expected an option hidden"),
    "other units": (about("options", hidden=9), "expected weights that fit classifier.json: head.0.bias"),
    "layers without end": (about("options", hidden_layers=10**7), "--hidden_layers: expected 100 or fewer"),
    "many units": (about("options", hidden=10**7), "expected weights that fit classifier.json: head.0.bias"),
    "vectors of no width": (no_backbone(features="x"), "expected the width of the vectors x, found None"),
    "a width as text": (no_backbone({"x": "9"}, features="x"), "expected the width of the vectors x, found '9'"),
    "a width without end": (no_backbone({"x": 10**12}, features="x"), "expected the width of the vectors x"),
    "widths as a list": (no_backbone([9], features="x"), "expected the width of the vectors x, found None"),
    "another width": (no_backbone({"x": 7, "y": 2}, features="x,y"), "expected weights that fit classifier.json: "),
    "a name that is none": (no_backbone(features="x,\x1b[31m,"), "expected names of columns, separated by"),
    "vectors as a list": (about("options", features=["x"]), "expected an option features"),
    "vectors and a backbone": (about("options", features="clip"), "expected no backbone beside --features"),
    "an unknown config": (about("options", config="../x\n"), "expected an option config"),
    "an unknown outlet": (about("options", train_outlets=["cnn"]), "expected an option train_outlets"),
    "options that contradict": (about("options", text_only=True, image_only=True), "leave no features. Use only"),
    "no backbone": (about(backbone=None), "expected a CLIP or a SigLIP with pictures of one size, found None"),
    "another family": (about("backbone", model_type="bert"), "expected a CLIP or a SigLIP"),
    "a family of its own": (about("backbone", model_type="x", auto_map={"AutoModel": "m.X"}), "expected a CLIP or a"),
    "sizes as text": (about("backbone", "vision_config", image_size="32"), "expected weights that fit"),
    "heads that do not divide": (about("backbone", "text_config", num_attention_heads=5), "not a multiple of"),
    "an activation that is none": (about("backbone", "text_config", hidden_act="os.system"), "a model that can"),
    "a number that is none": (about("backbone", projection_dim=float("nan")), "expected numbers up to"),
    **{
        f"{name} without end": (about("backbone", "text_config", **{name: size}), "expected")
        for name, size in HUGE.items()
    },
    "a patch without end": (about("backbone", "vision_config", patch_size=9_999_999, image_size=9_999_999), "expected"),
    "weights that are cut": (lambda f: os.truncate(f / "model.safetensors", 3000), "weights are truncated"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it needs model.safetensors"),
    "pickled weights": (only_pickled, "it needs model.safetensors"),
    "a header without end": (put("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "weights are truncated"),
    "a header of 99 MB": (put("model.safetensors", struct.pack("<Q", 99_000_000) + b"{" * 99), "weights are truncated"),
    "a tensor less": (tensors(head__0__bias=None), "head.0.bias of shape [8], found none"),
    "a tensor more": (tensors(other=torch.zeros(3)), "other of shape none, found [3]"),
    "another shape": (tensors(head__0__bias=torch.zeros(4, 2)), "head.0.bias of shape [8], found [4, 2]"),
    "whole numbers": (tensors(head__0__bias=torch.zeros(8, dtype=torch.int64)), "expected floating point numbers"),
    "weights elsewhere": (link("model.safetensors"), "expected a plain file of its folder"),
    "notes elsewhere": (link("classifier.json"), "expected a plain file of its folder"),
    "tokens elsewhere": (link("tokenizer/tokenizer.json"), "expected a plain file of its folder"),
    "settings elsewhere": (link("tokenizer/tokenizer_config.json"), "expected a plain file of its folder"),
    "weights that are a pipe": (pipe("model.safetensors"), "expected a plain file of its folder"),
    "notes that are a pipe": (pipe("classifier.json"), "expected a plain file of its folder"),
    "tokens that are none": (put("tokenizer/tokenizer.json", '{"model": 7}'), "tokenizer: expected a tokenizer"),
    "a tokenizer of its own": (
        change_json("tokenizer/tokenizer_config.json", tokenizer_class="Evil"), "a tokenizer of CLIP or SigLIP",
    ),
    "a tokenizer that runs more": (
        change_json("tokenizer/tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"), "a tokenizer of",
    ),
    "a token too many": (
        lambda f: change_json("tokenizer/tokenizer.json", added_tokens=[
            *json.loads((f / "tokenizer/tokenizer.json").read_text())["added_tokens"],
            {"id": 260, "content": "x!", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}])(f),
        "expected a tokenizer of the model's 260 tokens, found a token of number 260",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_runs_are_refused(what: str, run: Path, watched: Path) -> None:
    """The error is one line with the file, what was expected and what was found, soon and with little memory."""
    change, says = REFUSED[what]
    change(run)
    with pytest.raises(ValueError, match=r"expected|damaged|it needs") as error:
        model.load_classifier(run)
    assert says in str(error.value)
    assert str(run) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


# What the notes of a run and config.json have in common
COMMON = [
    "units as text", "other units", "layers without end", "many units", "a width without end", "another width",
    "vectors and a backbone", "an unknown outlet", "options that contradict", "no backbone", "another family",
    "a family of its own", "sizes as text", "an activation that is none", "a number that is none",
    "a patch without end", "weights that are cut", "no weights", "a tensor more", "weights elsewhere",
    "tokens elsewhere", "tokens that are none", "a tokenizer of its own",
]  # fmt: skip


def endless_adapters(folder: Path) -> None:
    about("options", lora=10**7)(folder)
    tensors(head__lora_A__x=torch.zeros(1))(folder)


OF_CONFIG: dict[str, tuple[Change, str]] = {
    **{name: REFUSED[name] for name in COMMON},
    "another type": (change_json("config.json", model_type="bert"), "expected a model of type newsclippings"),
    "no options": (change_json("config.json", options=[]), "expected a model of type newsclippings, with its options"),
    "a place as its base": (change_json("config.json", base_model="/etc"), "expected the name of a model on the Hub"),
    "a long change": (change_json("config.json", changes={"seed": "x" * 99}), "expected changes of the recipe"),
    "another change": (change_json("config.json", changes={"data_dir": "x"}), "expected changes of the recipe"),
    "adapters without end": (endless_adapters, "weights that fit"),
    "a config elsewhere": (link("config.json"), "expected a plain file of its folder"),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_CONFIG)
def test_bad_models_are_refused(what: str, run: Path, watched: Path) -> None:
    """The same holds for a folder that has config.json only, as on the Hub, also by `AutoModel`'s way."""
    (run / "classifier.json").unlink()
    change, says = OF_CONFIG[what]
    change(run)
    with pytest.raises(ValueError, match=r"expected|damaged|it needs") as error:
        model.Classifier.from_pretrained(run)
    assert says.replace("classifier.json", "config.json") in str(error.value)
    assert str(run) in str(error.value)
    assert str(error.value).isprintable()


REMOTE = {
    "AutoModel": "evil/repo--modeling.Evil",
    "AutoConfig": "modeling.Evil",
    "AutoTokenizer": ["modeling.Evil", None],
}


def places(folder: Path) -> None:
    there = str(folder.parent / "elsewhere")
    about("options", data="evil/repo", data_dir=there, visual_news=there, visual_news_index=there, model=there)(folder)


def settings(folder: Path) -> None:
    there = folder.parent / "elsewhere"
    files = {name: str(there / "vocab.json") for name in ("vocab_file", "merges_file", "tokenizer_file", "spm_file")}
    more: dict[str, Any] = {"auto_map": REMOTE, "name_or_path": "evil/repo", "chat_template": "{{ 7 }}"}
    change_json("tokenizer/tokenizer_config.json", **files, **more, sp_model_kwargs={"model_file": str(there)})(folder)
    change_json("tokenizer/special_tokens_map.json", **files, auto_map=REMOTE)(folder)


IGNORED: dict[str, Change] = {
    "nothing": lambda folder: None,
    "places": places,
    "options of another version": about("options", later=7, __class__="x"),
    "code": about("backbone", auto_map=REMOTE),
    "code of a part": about("backbone", "text_config", auto_map=REMOTE),
    "kernels": about(
        "backbone", attn_implementation="evil/kernels", _attn_implementation="evil/kernels", use_kernels=True
    ),
    "other names": about("backbone", _name_or_path="evil/repo", name_or_path="evil/repo", base_model="evil/repo"),
    "other weights": about("backbone", transformers_weights="../elsewhere/model.safetensors"),
    "other answers": about("backbone", return_dict=False, output_attentions=True, torchscript=True),
    "quantization": about("backbone", quantization_config={"quant_method": "evil"}, dtype="evil"),
    "settings of a tokenizer": settings,
    "code beside it": put("modeling.py", "raise SystemExit('executed')"),
    "arguments": evil("training_args.bin"),
    "an optimizer": evil("optimizer.pt"),
    "weights in another format": evil("pytorch_model.bin"),
}


@pytest.mark.parametrize("only_config", [False, True], ids=["notes", "config"])
@pytest.mark.parametrize("what", IGNORED)
def test_other_content_of_a_run_is_ignored(what: str, only_config: bool, made: Path, run: Path, watched: Path) -> None:
    """Extra files and settings of a run are ignored: classifier and tokens are those of the original run."""
    if only_config:
        (run / "classifier.json").unlink()
    IGNORED[what](run)
    classifier, tokenizer = model.load_classifier(run)
    sound, tokens = model.load_classifier(made)
    assert all(torch.equal(value, sound.state_dict()[name]) for name, value in classifier.state_dict().items())
    assert tokenizer("a caption é")["input_ids"] == tokens("a caption é")["input_ids"]
    values = {"input_ids": torch.ones(1, 7, dtype=torch.int64), "pixel_values": torch.ones(1, 3, 32, 32)}
    assert torch.equal(classifier.eval()(**values)["logits"], sound.eval()(**values)["logits"])
    assert (classifier.options.data, classifier.options.data_dir, classifier.options.model) == (
        Options.data, None, Options.model,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world_of_rows(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("rows"))


def test_no_question_is_asked_on_a_terminal(run: Path, world_of_rows: World, tmp_path: Path) -> None:
    """A run that names code and a data folder is evaluated with the user's data, without a question on the terminal."""
    about("backbone", auto_map=REMOTE)(run)
    about("options", data_dir="/nowhere", data="evil/repo")(run)
    settings(run)
    ours, theirs = pty.openpty()
    arguments = ["train", "--eval_only", str(run), "--use_cpu", "--data_dir", str(world_of_rows.root)]
    try:
        done = run_module("newsclippings", arguments, tmp_path, before=lambda: os.dup2(theirs, 0))
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.code == 0, done.err[-2000:]
    assert "[y/N]" not in done.out + done.err
    assert len((run / "predictions.jsonl").read_text().splitlines()) == len(world_of_rows.rows(split="test"))


# Checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, world_of_rows: World) -> Path:
    """A run of two steps with a checkpoint."""
    home = tmp_path_factory.mktemp("trained") / "run"
    training.main([*on(world_of_rows, home), "--max_steps", "2"])
    return home


def on(world: World, out: Path) -> list[str]:
    quick = ["--from_config", "tiny", "--hidden", "8", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "1"]
    return [*quick, "--data_dir", str(world.root), "--output_dir", str(out)]


def unfolding(folder: Path) -> None:
    with zipfile.ZipFile(folder / "optimizer.pt", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data.pkl", bytes(50_000_000))


CHECKPOINTS: dict[str, tuple[Change, str]] = {
    "an optimizer that runs": (evil("optimizer.pt"), "optimizer.pt: expected numbers, as a training saves them"),
    "a schedule that runs": (evil("scheduler.pt"), "scheduler.pt: expected numbers"),
    "random numbers that run": (evil("rng_state.pth"), "rng_state.pth: expected numbers"),
    "those of another rank": (evil("rng_state_1.pth"), "rng_state_1.pth: expected numbers"),
    "a scaler that runs": (evil("scaler.pt"), "scaler.pt: expected numbers"),
    "an old pickle": (lambda f: put("optimizer.pt", pickle.dumps(Evil(f.parent / "canary")))(f), "expected numbers"),
    "an archive that unfolds": (unfolding, "found an archive that decompresses to more"),
    "an optimizer that is cut": (lambda f: os.truncate(f / "optimizer.pt", 999), "optimizer.pt: expected numbers"),
    "an optimizer elsewhere": (link("optimizer.pt"), "expected a plain file of its folder"),
    "a pipe": (pipe("scheduler.pt"), "expected a plain file of its folder"),
    "pickled weights": (only_pickled, "expected a checkpoint with model.safetensors, found none"),
    "an adapter": (put("adapter_config.json", "{}"), "expected a checkpoint of this training, found adapter_config"),
    "a model": (put("config.json", "{}"), "expected a checkpoint of this training, found config.json"),
    "a state that is none": (put("trainer_state.json", "[]"), "expected a JSON object"),
    "a state of other fields": (change_json("trainer_state.json", evil=1), "expected the state of a training"),
    "a state without end": (change_json("trainer_state.json", global_step=10**40), "expected a number of steps"),
    "a place in the state": (
        change_json("trainer_state.json", best_model_checkpoint="/etc"), "no best_model_checkpoint, found a path",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints_that_are_refused(what: str, trained: Path, tmp_path: Path, watched: Path) -> None:
    """A bad checkpoint is refused with one line before training resumes, and nothing in it is executed."""
    checkpoint = Path(shutil.copytree(trained / "checkpoint-2", tmp_path / "checkpoint-2"))
    untrusted.check_checkpoint(checkpoint, sharded=False)
    change, says = CHECKPOINTS[what]
    change(checkpoint)
    with pytest.raises(ValueError, match=r"expected|damaged|it needs") as error:
        untrusted.check_checkpoint(checkpoint, sharded=False)
    assert says in str(error.value)
    assert str(error.value).isprintable()


def other_moments(folder: Path) -> None:
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    state["state"][0]["exp_avg"] = torch.zeros(1).expand(3, 1000)
    torch.save(state, folder / "optimizer.pt")


def other_groups(folder: Path) -> None:
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (evil("optimizer.pt"), "optimizer.pt: expected numbers"),
        (other_groups, "expected the state of this optimizer, found ValueError"),
        (other_moments, "optimizer.pt: expected exp_avg of shape [8, 32], found [3, 1000]"),
        (tensors(head__0__bias=torch.zeros(9)), "head.0.bias of shape [8], found [9]"),
        (lambda f: torch.save({"python": 7}, f / "rng_state.pth"), "expected the state of random numbers"),
        (lambda f: torch.save([7], f / "scheduler.pt"), "expected the state of this optimizer"),
    ],
    ids=["runs", "groups", "moments", "weights", "random", "schedule"],
)
def test_training_does_not_resume_from_a_foreign_state(
    change: Change, says: str, trained: Path, world_of_rows: World, tmp_path: Path, watched: Path
) -> None:
    """A checkpoint whose state does not fit is an error of one line."""
    home = Path(shutil.copytree(trained, tmp_path / "run"))
    change(home / "checkpoint-2")
    with pytest.raises(ValueError, match=r"expected|damaged|it needs") as error:
        training.main([*on(world_of_rows, home), "--max_steps", "4", "--resume_from_checkpoint", "true"])
    assert says in str(error.value)
    assert str(error.value).isprintable()


# Models


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPModel

    folder = tmp_path_factory.mktemp("models") / "clip"
    CLIPModel(tiny_config()).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def in_parts(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}, "metadata": {}}))

    return change


MODELS: dict[str, tuple[Change, str]] = {
    "pickled weights": (only_pickled, "expected model.safetensors, found none; other formats can contain programs"),
    "an adapter": (put("adapter_config.json", '{"base_model_name_or_path": "evil/repo"}'), "found an adapter"),
    "parts elsewhere": (in_parts("../elsewhere/model.safetensors"), "expected a plain file of its folder"),
    "parts that are pickles": (in_parts("pytorch_model.bin"), "expected names of safetensors files"),
    "weights elsewhere": (link("model.safetensors"), "expected a plain file of its folder"),
    "a config elsewhere": (link("config.json"), "expected a plain file of its folder"),
    "a family of its own": (change_json("config.json", model_type="x", auto_map=REMOTE), "expected a CLIP or a SigLIP"),
    "units without end": (change_json("config.json", "text_config", intermediate_size=9_000_000), "weights of"),
    "another size": (change_json("config.json", "text_config", intermediate_size=63), "expected a model that transf"),
    "whole numbers": (
        lambda f: save_file({"a": torch.zeros(3, dtype=torch.int8)}, f / "model.safetensors"), "floating point",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MODELS)
def test_models_that_are_refused(what: str, clip: Path, tmp_path: Path, watched: Path) -> None:
    """A bad folder for --model is refused with one line, and nothing in it is executed."""
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    change, says = MODELS[what]
    change(folder)
    with pytest.raises(ValueError, match=r"expected|damaged|it needs") as error:
        model.make_classifier(Options(model=str(folder)))
    assert says in str(error.value)
    assert str(error.value).isprintable()


def test_a_model_with_code_of_its_own(clip: Path, tmp_path: Path, watched: Path) -> None:
    """A model is read by its class in `transformers`; its own code, kernels and files elsewhere are ignored."""
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    change_json("config.json", auto_map=REMOTE, attn_implementation="evil/kernels", transformers_weights="x.bin")(
        folder
    )
    (folder / "tokenizer").mkdir()
    put("modeling.py", "raise SystemExit('executed')")(folder)
    there = str(tmp_path / "elsewhere" / "vocab.json")
    change_json("tokenizer_config.json", auto_map=REMOTE, vocab_file=there, tokenizer_file=there)(folder)
    classifier, tokenizer = model.make_classifier(Options(model=str(folder)))
    weights, own = load_file(clip / "model.safetensors"), classifier.state_dict()
    assert all(torch.equal(value, own[f"backbone.{name}"]) for name, value in weights.items())
    assert tokenizer("ab")["input_ids"] == byte_tokenizer()("ab")["input_ids"]


def test_models_larger_than_memory(tmp_path: Path, watched: Path) -> None:
    """A model larger than memory is refused, also if it is only a config."""
    folder = tmp_path / "config"
    folder.mkdir()
    raw = tiny_config().to_dict()
    raw["text_config"] |= {"num_hidden_layers": 99, "hidden_size": 10_000, "intermediate_size": 10_000_000}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(
        ValueError, match=r"config: expected a model that [\d,]+ bytes of memory hold, found one of [\d,]+ n"
    ):
        model.make_classifier(Options(from_config=str(folder)))
