"""`newsclippings train` as a program: JSON, quiet, help without slow imports, and one run at a time in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from support.command import run
from support.learnable import write_world
from support.reading import environment

from _newsclippings.folder import lock_folder
from _newsclippings.train.options import Options

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from _newsclippings.train.flags import Parser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("little")
    write_world(root, learnable=True, pairs={"train": 16, "val": 4, "test": 8})
    return root


def train(root: Path, out: str, *more: object) -> list[object]:
    arguments = ["train", "--data_dir", root, "--output_dir", out, "--from_config", "tiny", "--use_cpu"]
    return [*arguments, "--max_steps", 2, "--logging_steps", 1, *more]


# Output


def test_the_result_is_json(little: Path) -> None:
    """Standard output is one object: what `evaluate` says, and where the files are; logs go to standard error."""
    done = run(*train(little, "out", "--format", "json"))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "'loss'" in done.stderr
    files = {Path(file).name for file in found.pop("files")}
    assert {"predictions.jsonl", "measures.json", "report.md", "roc.png"} <= files
    assert found.pop("folder") == "out"
    said = json.loads(run("evaluate", "out/predictions.jsonl", "--data-dir", little, "--format", "json").stdout)
    assert found.keys() == said.keys()
    assert (found["measures"], found["signature"]) == (said["measures"], said["signature"])
    again = run("train", "--eval_only", "out", "--data_dir", little, "--use_cpu", "--format=json")
    assert json.loads(again.stdout)["files"] == json.loads(done.stdout)["files"]


def test_several_configs_and_seeds_are_json(little: Path) -> None:
    """Several seeds have the files of their summary."""
    done = run(*train(little, "out", "--seeds", 2, "--format", "json"))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["seeds"] == [2, 3]
    assert found["files"] == ["out/seeds.json", "out/seeds.md"]


def test_quiet_and_verbose(little: Path) -> None:
    """After -q there is the report and nothing else; -v reaches the log of the training."""
    done = run(*train(little, "out", "-q"))
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert done.stdout == Path("out/report.md").read_text() + "\n"
    assert run(*train(little, "again", "-v")).stderr.count("has the best loss on validation") == 1


@pytest.mark.parametrize(
    ("flags", "code", "name", "says"),
    [
        (["--data_dir", "nowhere"], 1, "DataNotFoundError", "nowhere does not exist. Expected"),
        (["--eval_only", "nowhere"], 1, "ValueError", "nowhere is not the folder of a run"),
        (["--max_steps", "0"], 2, "UsageError", "--max_steps: expected 1 or more, or -1"),
        (
            ["--max_steps", "x"],
            2,
            "UsageError",
            "Argument --max_steps/--max-steps: invalid int value: 'x'. See newsclippings",
        ),
        (["--max_stepz", "1"], 2, "UsageError", "--max_stepz is no flag. Did you mean 'max_steps'? See newsclippings"),
    ],
)
def test_errors(flags: list[str], code: int, name: str, says: str) -> None:
    """An error is one line, or JSON if that is asked for; wrong usage has the exit code 2."""
    plain, done = run("train", *flags, "--use_cpu"), run("train", *flags, "--use_cpu", "--format", "json")
    assert (plain.exit_code, plain.stdout, done.exit_code, done.stdout) == (code, "", code, "")
    assert plain.stderr.startswith("Usage: main train " if code == 2 else "Error: ")
    assert says in plain.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (error["class"], error["exit_code"]) == (name, code)
    assert says in error["message"]


def test_the_advice_can_be_followed(little: Path) -> None:
    """Without pictures the error advises what this command has, and no option of another one."""
    done = run("train", "--use_cpu", "--from_config", "tiny", "--config", "merged_balanced")
    assert done.exit_code == 1
    assert "The pictures of VisualNews were not found" in done.stderr
    assert "--images" not in done.stderr
    assert "Without pictures: --features clip trains on the authors' vectors." in done.stderr
    assert "Without pictures: --images none builds every other column." in run("build", "out").stderr
    assert "Without pictures" not in run("embed", "out", "--model", "x", "--of", "pictures").stderr


# Help


def test_help_needs_no_slow_library(tmp_path: Path) -> None:
    """`--help` imports neither torch nor transformers, and shows every flag of ours."""
    code = """
import sys
from _newsclippings.cli import main
try:
    main(["train", "--help"])
finally:
    print("#", {"torch", "transformers", "datasets", "pyarrow.parquet"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), check=True)
    assert done.stdout.endswith("# set()\n")
    for option in fields(Options):
        assert f"\n  --{option.name}" in done.stdout


def test_help_names_flags_that_exist() -> None:
    """The flags in the help are those of the parser, with their defaults."""
    shown = run("train", "--help").stdout
    assert "--max_steps                    22000 (released), 44000 (paper, strong)" in shown
    assert "python -m pydoc transformers.TrainingArguments" in shown
    words = {word for word in shown.partition("\\nFlags:")[2].split() if word.startswith("--")}
    assert words <= {*Parser()._option_string_actions}


# One run at a time


def test_two_runs_in_one_folder_are_stopped(little: Path) -> None:
    """While another process writes to the folder, a run and an evaluation are refused; nothing changes."""
    assert run(*train(little, "out")).exit_code == 0
    before = {file: file.read_bytes() for file in Path("out").iterdir() if file.is_file()}
    with lock_folder(Path("out")):
        for arguments in (train(little, "out"), ["train", "--eval_only", "out", "--data_dir", little, "--use_cpu"]):
            done = run(*arguments)
            assert (done.exit_code, done.stdout) == (1, "")
            assert "out: another process writes to it now. Nothing was changed." in done.stderr
    assert {file: file.read_bytes() for file in Path("out").iterdir() if file.is_file()} == before
    with lock_folder(Path("seeds")):
        assert "seeds: another process" in run(*train(little, "seeds", "--seeds", 2)).stderr
    assert not [*Path("seeds").iterdir()]
    assert run(*train(little, "out")).exit_code == 0


def test_a_refused_run_leaves_no_folder(little: Path) -> None:
    """If nothing was written, the new folder of the run is removed again."""
    done = run(*train(little, "new", "--resume_from_checkpoint", "true"))
    assert "there is no checkpoint to resume from" in done.stderr
    assert not Path("new").exists()
