"""Where a run is written: apart from all that is read, and never over what another program wrote."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from transformers import TrainingArguments

from _newsclippings.builder import NewsCLIPpingsConfig
from _newsclippings.errors import ConfigError
from _newsclippings.storage import (
    SOFTWARE,
    LocalFile,
    Maker,
    check_apart,
    check_folder,
    check_output,
    foreign_output,
    is_url,
)
from _newsclippings.text import printable
from _newsclippings.train.data import builder_fields
from _newsclippings.train.options import Options
from _newsclippings.train.strangers import ABOUT, LARGEST_JSON, WEIGHTS

COMMAND: Final = "train"
PICTURE: Final = Maker(
    COMMAND,
    (f"tEXt{SOFTWARE}\0newsclippings {COMMAND}".encode(),),
    earlier=(f"tEXt{SOFTWARE}\0python -m training".encode(),),
)
REPORT: Final = {
    "predictions.jsonl": Maker(COMMAND, (b'{"index": ', b'"image_id": ', b'"logits": [')),
    "measures.json": Maker(COMMAND, (b'"rows": ', b'"accuracy": {')),
    "report.md": Maker(COMMAND, (b" rows; 95 % intervals by resampling pairs ",)),
    "report.png": PICTURE,
}
NOTED: Final = Maker(COMMAND, (b'{\n "options": {', b'"backbone_learning_rate": '))
ARGUMENTS: Final = Maker(COMMAND, (b"PK\x03\x04", b"TrainingArguments"))
CARD: Final = Maker(COMMAND, (b"generated_from_trainer",))  # that `transformers` writes for --push_to_hub
# What is in a checkpoint, also of FSDP and DeepSpeed
SAVED: Final = (
    r"(.*/)?([\w.-]*model[\w.-]*|optimizer[\w.-]*|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|training_args\.bin|"
    r"trainer_state\.json|latest|zero_to_fp32\.py|[\w.-]+\.(distcp|metadata)|\.metadata)"
)


def inputs_of(options: Options, split: str = "test") -> list[str]:
    """Local files and folders that rows and the model are read from, or would be if they were there."""
    found = [] if options.features else [options.model, options.from_config if options.from_config != "tiny" else None]
    if options.data == Options.data:
        fields = builder_fields(options, split)
        fields.pop("splits", None)
        found += NewsCLIPpingsConfig(name=options.config, **fields).sources().places()
    else:
        found.append(options.data)
    return [place for place in found if place and not is_url(place)]


def check_report(folder: Path, inputs: Iterable[str]) -> None:
    """Refuse a folder for a report that is an input, lies in one or holds one, or has other files by its names.

    Raises:
        ConfigError, BadFileError: it is, or does.
    """
    check_apart(folder, inputs)
    if os.path.lexists(folder) and not folder.is_dir():
        raise foreign_output(folder, COMMAND)
    for name, maker in REPORT.items():
        check_output(folder / name, maker)


def check_new_report(folder: Path, inputs: Iterable[str]) -> None:
    """As `check_report`, of a folder of its own: new, empty, or with an earlier report or run in it."""
    check_report(folder, inputs)
    _check_ours(folder, [ABOUT, *REPORT])


def check_run(folder: Path, inputs: Iterable[str], arguments: TrainingArguments) -> None:
    """Refuse a folder for a run that is an input, lies in one or holds one, or that another program wrote.

    Files of other names stay in the folder of a run, as they are.

    Raises:
        ConfigError, BadFileError: it is, or something in it would be lost.
    """
    last = arguments.resume_from_checkpoint
    if isinstance(last, str) and not _same(Path(last).parent, folder):
        check_apart(folder, [last])
    check_report(folder, inputs)
    check_output(folder / ABOUT, NOTED)
    _check_ours(folder, [ABOUT])
    check_output(folder / "training_args.bin", ARGUMENTS)
    check_output(folder / WEIGHTS)
    if os.path.lexists(folder / WEIGHTS) and not _has_head(folder / WEIGHTS):
        raise foreign_output(folder / WEIGHTS, COMMAND)
    if arguments.push_to_hub:
        check_output(folder / "README.md", CARD)
    parts = [folder / "tokenizer", *sorted(folder.glob("checkpoint-*"))]
    for part in parts:
        if os.path.islink(part) or (os.path.lexists(part) and not part.is_dir()):
            raise foreign_output(part, COMMAND)
    if arguments.save_total_limit:  # then old ones are removed, with all that is in them
        for part in parts[1:]:
            check_folder(part, SAVED, COMMAND)
    files = [folder / WEIGHTS, folder / "training_args.bin", *(file for part in parts for file in part.rglob("*"))]
    for file in files:  # `transformers` writes into what is there
        if file.is_symlink() or (file.is_file() and file.stat().st_nlink > 1):
            message = (
                f"{printable(str(file))} is a link, or has a second name (a hard link), and would be written over. "
                "Nothing was changed: take a copy of it (cp), or choose another --output_dir."
            )
            raise ConfigError(message)


def _check_ours(folder: Path, names: list[str]) -> None:
    """Refuse a folder in which something is, and nothing that this wrote."""
    visible = [one for one in sorted(os.listdir(folder)) if not one.startswith(".")] if folder.is_dir() else []
    if visible and not any((folder / name).exists() for name in names):
        message = (
            f"{printable(str(folder))}: expected a new or empty folder, or that of an earlier run, found "
            f"{printable(visible[0])}. Nothing was changed: choose another --output_dir."
        )
        raise ConfigError(message)


def _has_head(weights: Path) -> bool:
    """Whether a safetensors file has the layers of a classifier of ours, by its header."""
    with LocalFile(os.fspath(weights)) as file:
        size = int.from_bytes(file.read_at(0, 8), "little")
        return size <= LARGEST_JSON and b'"head.2.weight"' in file.read_at(8, size)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.stat(), other.stat())
    except OSError:
        return False
