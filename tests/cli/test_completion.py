"""Completion in a shell: commands, their options, and names that an option knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from support.reading import environment

from _newsclippings.cli.commands import main
from _newsclippings.facts import CONFIGS
from _newsclippings.generated import MADE_BY, OWN

COMMANDS = sorted(name for name, command in main.commands.items() if not command.hidden)


def complete(*words: str) -> list[str]:
    """Return what a shell offers in the place of the last word."""
    *before, last = words
    return [item.value for item in ShellComplete(main, {}, "newsclippings", "").get_completions(before, last)]


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_the_lines_of_the_documentation_work(tmp_path: Path) -> None:
    """bash reads the script that the variable prints, and completes the name of a config with it."""
    page = Path(__file__).parents[2] / "docs/how-to/command-line.md"
    (line,) = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("eval ")]
    script = tmp_path / "newsclippings"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m newsclippings "$@"\n')
    script.chmod(0o755)
    asked = f"""
{line}
COMP_WORDS=(newsclippings build out --config person_)
COMP_CWORD=4
_newsclippings_completion newsclippings
echo "${{COMPREPLY[@]}}"
"""
    env = environment(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", asked], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["person_sbert_text_text"], done.stderr


def test_commands_are_completed() -> None:
    """All commands but those with an old name are offered."""
    assert complete("") == COMMANDS
    assert complete("ev") == ["evaluate", "evidence"]


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_every_command_are_completed(command: str) -> None:
    """Each command offers all of its options."""
    own = {option.opts[-1] for option in main.commands[command].params if option.param_type_name == "option"}
    assert own | {"--help"} <= {*complete(command, "--")}


def test_names_are_completed(tmp_path: Path) -> None:
    """Names of configs, also of generated ones in the folder, and other words that an option knows."""
    assert complete("info", "--config", "") == [*CONFIGS]
    assert complete("build", "out", "--config", "") == [*CONFIGS, "all"]
    split = {"rows": 2, "sha256": "0" * 64, "records_sha256": "0" * 64}
    about = {"config": "mine", "description": "", "source_datasets": ["x"], "corpus": {"kind": OWN}}
    manifest = {"made_by": MADE_BY, **about, "splits": {"test": split}, "made_of": {"recipe": ""}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert complete("info", "--data-dir", str(tmp_path), "--config", "m") == ["merged_balanced", "mine"]
    assert complete("build", "--missing", "n") == ["null"]


def test_flags_of_train_are_completed() -> None:
    """`train`, whose flags transformers parses, offers them, names of configs, and choices; else paths."""
    assert {"--recipe", "--max_steps", "--format"} <= {*complete("train", "--")}
    assert complete("train", "--data_dir", "x", "--config", "s")[-1] == "scene_resnet_place"
    assert complete("train", "--recipe", "") == ["released", "paper", "strong"]
    assert complete("train", "--data_dir", "dem") == ["dem"]  # of the type file
