"""`newsclippings train` never overwrites its inputs or other files; the error is one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.PngImagePlugin
import pytest
from support.forking import run_module
from support.reading import PACKAGE, environment
from support.world import make_world
from sweeps.overwriting import digests

from _newsclippings.folder.build import build_folder
from newsclippings import BadFileError, ConfigError

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from _newsclippings.train import command as training
from _newsclippings.train import places

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUICK = ["--from_config", "tiny", "--hidden", "8", "--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "1"]
QUICK += ["--max_steps", "2"]
PROGRAM = [sys.executable, "-W", "ignore", "-c", "from _newsclippings.cli import main; main()", "train"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of all kinds, and a run. Shared: nothing may change it."""
    root = tmp_path_factory.mktemp("scene")
    world = make_world(root / "data")
    build_folder(root / "built", ["merged_balanced"], data_dir=str(world.root), splits=["train", "test"])
    training.main([*QUICK, "--data_dir", str(world.root), "--output_dir", str(root / "run")])
    shutil.copytree(root / "run" / "tokenizer", root / "model")
    return root


def train(scene: Path, out: Path, *more: object) -> dict[str, Any]:
    place = [] if "--data" in more else ["--data_dir", str(scene / "data")]
    return training.main([*QUICK, *place, "--output_dir", str(out), *map(str, more)])


INPUTS: dict[str, tuple[str, list[str]]] = {
    "pictures": ("data/visual_news/origin", []),
    "in the matches": ("data/news_clippings/new", []),
    "above all": (".", []),
    "the tar": ("data/visual_news/origin.tar", ["--visual_news", "data/visual_news/origin.tar"]),
    "a built folder": ("built", ["--data", "built"]),
    "in a built folder": ("built/new", ["--data", "built"]),
    "a model": ("model", ["--model", "model"]),
    "in a model": ("model/new", ["--model", "model"]),
    "a checkpoint": ("run/checkpoint-2", ["--resume_from_checkpoint", "run/checkpoint-2"]),
}


@pytest.mark.parametrize("how", ["path", "link"])
@pytest.mark.parametrize("name", sorted(INPUTS))
def test_a_run_is_no_input(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str) -> None:
    """A run folder that is an input, by path or link, is refused, and no file changes."""
    monkeypatch.chdir(scene)
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("training began"))
    place, more = INPUTS[name]
    out = scene / place
    if how == "link":
        out = tmp_path / "link"
        out.symlink_to(scene / place)
    before = digests(scene)
    with pytest.raises((ConfigError, BadFileError), match=r"is one of|is inside a folder|contains the inputs"):
        train(scene, out, *more)
    assert digests(scene) == before


@pytest.mark.parametrize("name", ["run/new", "data/visual_news/origin"])
def test_results_are_no_input(scene: Path, name: str) -> None:
    """Results of --eval_only are never written over inputs."""
    before = digests(scene)
    arguments = ["--eval_only", str(scene / "run"), "--data_dir", str(scene / "data"), "--use_cpu"]
    with pytest.raises(ConfigError, match=r"is inside a folder of inputs|is one of the inputs|contains the inputs"):
        training.main([*arguments, "--output_dir", str(scene / name)])
    assert digests(scene) == before


def of_somebody(name: str) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        (out / name).unlink(missing_ok=True)
        (out / name).write_text("mine")

    return change


def linked(name: str, hard: bool) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        mine = out.parent / "mine"
        (out / name).rename(mine)
        if hard:
            os.link(mine, out / name)
        else:
            (out / name).symlink_to(mine)

    return change


def only_notes(out: Path) -> None:
    shutil.rmtree(out)
    out.mkdir()
    (out / "notes.txt").write_text("mine")


FOREIGN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a folder of somebody else's": (only_notes, []),
    **{f"{name} of somebody else's": (of_somebody(name), []) for name in (
        "predictions.jsonl", "measures.json", "report.md", "roc.png", "classifier.json", "training_args.bin",
        "model.safetensors",
    )},
    "notes in a checkpoint that is to go": (of_somebody("checkpoint-2/notes.txt"), ["--save_total_limit", "1"]),
    **{f"{name} by a {'hard ' * hard}link": (linked(name, hard), []) for hard in (False, True) for name in (
        "model.safetensors", "checkpoint-2/model.safetensors", "tokenizer/tokenizer_config.json", "training_args.bin",
    )},
    "roc.png by a link": (linked("roc.png", False), []),
    "a checkpoint by a link": (linked("checkpoint-2", False), []),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_other_files_are_not_overwritten(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Files of other programs, and links, are not overwritten, and the error comes at once."""
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("training began"))
    out = Path(shutil.copytree(scene / "run", tmp_path / "place" / "out"))
    change, more = FOREIGN[name]
    change(out)
    before = digests(tmp_path / "place")
    with pytest.raises(
        (ConfigError, BadFileError),
        match=r"not written by `newsclippings (train|evaluate)`|a link, a folder or a device|second name|found notes",
    ):
        train(scene, out, *more)
    assert digests(tmp_path / "place") == before


def test_an_earlier_run_is_replaced(scene: Path, tmp_path: Path) -> None:
    """An earlier run is replaced; the user's notes beside it stay, and hard links to old files keep their content."""
    out = Path(shutil.copytree(scene / "run", tmp_path / "out"))
    (out / "log.txt").write_text("mine")
    os.link(out / "roc.png", tmp_path / "kept.png")
    kept = (tmp_path / "kept.png").read_bytes()
    assert b"tEXtSoftware\0newsclippings evaluate" in kept
    found = train(scene, out)
    assert train(scene, out, "--resume_from_checkpoint", "true") == found
    assert training.main(["--eval_only", str(out), "--data_dir", str(scene / "data"), "--use_cpu"]) == found
    assert (out / "log.txt").read_text() == "mine"
    assert (tmp_path / "kept.png").read_bytes() == kept
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").write_text("mine")
    for _ in range(2):
        arguments = ["--eval_only", str(out), "--data_dir", str(scene / "data"), "--use_cpu"]
        assert training.main([*arguments, "--output_dir", str(tmp_path / "empty")]) == found


def test_a_report_picture_of_an_earlier_version_goes(scene: Path, tmp_path: Path) -> None:
    """A report.png marked by an earlier version, whose numbers are no longer those of the report, is removed."""
    out = Path(shutil.copytree(scene / "run", tmp_path / "out"))
    evaluated = ["--eval_only", str(out), "--data_dir", str(scene / "data"), "--use_cpu"]
    for software in ("python -m training", "newsclippings train", "mine"):
        noted = PIL.PngImagePlugin.PngInfo()
        noted.add_text("Software", software)
        PIL.Image.new("RGB", (8, 8)).save(out / "report.png", pnginfo=noted)
        training.main(evaluated)
        assert (out / "report.png").exists() == (software == "mine")


def test_reports_of_version_1_are_replaced(tmp_path: Path) -> None:
    """Measures and a report in the form of version 1 are recognised as those of a run."""
    old = {"rows": 8, "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    (tmp_path / "measures.json").write_text(json.dumps(old, indent=1))
    (tmp_path / "report.md").write_text("# x\n\n8 rows; 95 % intervals by resampling pairs 1,000 times.\n")
    places.check_report(tmp_path, [], ["merged_balanced"])
    (tmp_path / "measures.json").write_text('{"rows": 8}')
    with pytest.raises(ConfigError, match=r"not written by `newsclippings train`"):
        places.check_report(tmp_path, [], ["merged_balanced"])


# The command


def shell(scene: Path, arguments: list[str], streams: str, tmp_path: Path, **more: Any) -> Any:
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", *PROGRAM, *arguments]
    env = environment(tmp_path / "hf", PYTHONPATH=str(PACKAGE))
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300, **more)


@pytest.mark.parametrize(
    "streams",
    [
        "> /dev/full",
        *(
            pytest.param(one, marks=pytest.mark.sweep)
            for one in (">&-", "2>&-", "2> /dev/full", "<&- >&- 2>&-", "| true")
        ),
    ],
)
def test_a_run_continues_without_an_output(scene: Path, tmp_path: Path, streams: str) -> None:
    """If the result cannot be printed, the exit code is 1, with one line why, and all files are written."""
    arguments = [*QUICK, "--logging_steps", "1", "--data_dir", str(scene / "data"), "--output_dir", "out"]
    if streams == "> /dev/full":
        forked = run_module("newsclippings", ["train", *arguments], tmp_path, stdout=Path("/dev/full"))
        code, errors = forked.code, forked.err
    elif streams == "| true":
        reading, writing = os.pipe()
        os.close(reading)
        command = [*PROGRAM, *arguments]
        env = environment(tmp_path / "hf", PYTHONPATH=str(PACKAGE))
        done: Any = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
        os.close(writing)
        code, errors = done.returncode, done.stderr
    else:
        done = shell(scene, arguments, streams, tmp_path)
        code, errors = done.returncode, done.stderr
    assert code == (0 if streams.startswith("2") else 1), errors
    said = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(said) == (streams in (">&-", "> /dev/full"))
    assert "Traceback" not in errors
    for name in ("roc.png", "report.md", "model.safetensors", "predictions.jsonl"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def close_stderr() -> None:
    """Leave a process as Python starts without stderr."""
    os.close(2)
    sys.stderr = None


MISTAKES = [(["--nope"], 2), (["--text_only", "--image_only", "--use_cpu"], 2), ([*QUICK, "--data_dir", "nowhere"], 1)]


@pytest.mark.parametrize(
    ("arguments", "code", "streams"),
    [
        ([*QUICK, "--text_only", "--image_only"], 2, "in a fork"),
        *(
            pytest.param(*mistake, streams, marks=pytest.mark.sweep)
            for streams in ("", "2>&-", "2> /dev/full")
            for mistake in MISTAKES
        ),
    ],
)
def test_exit_codes(scene: Path, tmp_path: Path, arguments: list[str], code: int, streams: str) -> None:
    """The exit code is 2 for a wrong command line and 1 for other errors, also if nothing can be printed."""
    if streams == "in a fork":
        forked = run_module("newsclippings", ["train", *arguments], tmp_path, before=close_stderr)
        found, errors = forked.code, forked.err
    else:
        done = shell(scene, arguments, streams, tmp_path)
        found, errors = done.returncode, done.stderr
    assert found == code, errors
    assert "Traceback" not in errors
    assert bool(errors) == (not streams)


def test_the_former_name_works_from_a_checkout(tmp_path: Path) -> None:
    """`python -m training` prints the new name on stderr, and otherwise works the same."""
    checkout = partial(sys.path.insert, 0, str(PACKAGE))
    done = run_module("training", ["--text_only", "--image_only"], tmp_path, before=checkout)
    assert (done.code, done.out) == (2, "")
    notice, *_, error = done.err.splitlines()
    assert notice == "`python -m training` is now `newsclippings train`"
    assert error.startswith("Error: --text_only and --image_only leave no features")


@pytest.mark.parametrize("most", [20_000, pytest.param(200_000, marks=pytest.mark.sweep)])
def test_a_file_that_becomes_too_large(scene: Path, tmp_path: Path, most: int) -> None:
    """A system error while weights are written is a sentence, for every library that writes them."""
    done = run_module(
        "newsclippings", ["train", *QUICK, "--data_dir", str(scene / "data"), "--output_dir", "out"], tmp_path,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )  # fmt: skip
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert "Errno" not in line
    assert "Traceback" not in done.err
