"""eval.yaml of a built folder, by which the Hub takes its repository for a benchmark.

The form is that of https://huggingface.co/docs/hub/eval-results: results of models, in `.eval_results`, name a task by
its id, which is the name of the config here.
"""

import json
from typing import Final

from _newsclippings.errors import ConfigError
from _newsclippings.facts import DESCRIPTION, NAME, SHARED_PICTURES
from _newsclippings.folder.built_folder import BuiltFolder
from _newsclippings.storage import Place, outputs, write_text

EVAL: Final = "eval.yaml"
SPLIT: Final = "test"


def write_eval(folder: BuiltFolder) -> Place:
    """Write eval.yaml of a folder, and return its place.

    Raises:
        ConfigError: no config has a test split, or another program wrote the file.
    """
    file = folder.root / EVAL
    if not _list_tasks(folder):
        message = f"{folder.root} has no split {SPLIT}, on which models are measured. Build it, too."
        raise ConfigError(message)
    write_text(file, eval_text(folder), outputs.EVAL)
    return file


def eval_text(folder: BuiltFolder) -> str:
    """The text that `write_eval` writes: the same for the same configs."""
    lines = [
        "name: NewsCLIPpings",
        f"description: {json.dumps(DESCRIPTION)}",
        f"evaluation_framework: {NAME}",
        "tasks:",
    ]
    for config in _list_tasks(folder):
        lines += [f"  - id: {config}", f"    config: {config}", f"    split: {SPLIT}"]
    return "\n".join(lines) + "\n"


def _list_tasks(folder: BuiltFolder) -> list[str]:
    return [
        config
        for config, manifest in folder.manifests.items()
        if config != SHARED_PICTURES and SPLIT in manifest.splits
    ]
