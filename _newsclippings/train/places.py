"""Check the output folder of a run: it must be apart from the inputs, and have no files of other programs."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from transformers import TrainingArguments

from _newsclippings.builder import NewsCLIPpingsConfig
from _newsclippings.errors import ConfigError
from _newsclippings.evaluate import list_plots
from _newsclippings.facts import CONFIGS
from _newsclippings.folder import lock_folder
from _newsclippings.storage import (
    SOFTWARE,
    LocalFile,
    Maker,
    check_not_input,
    check_output,
    check_own_folder,
    foreign_output,
    is_url,
)
from _newsclippings.text import printable
from _newsclippings.train.card import check_card
from _newsclippings.train.data import builder_fields
from _newsclippings.train.options import Options
from _newsclippings.train.untrusted import CONFIG, LARGEST_JSON, NOTES, WEIGHTS

COMMAND: Final = "train"
OLD_PICTURE: Final = Maker(  # report.png of earlier versions
    COMMAND,
    (f"tEXt{SOFTWARE}\0newsclippings {COMMAND}".encode(),),
    earlier=(f"tEXt{SOFTWARE}\0python -m training".encode(),),
)
REPORT: Final = {
    "predictions.jsonl": Maker(COMMAND, (b'{"index": ', b'"image_id": ', b'"logits": [')),
    "measures.json": Maker(
        COMMAND, (b'{\n "signature": "newsclippings|v:', b'\n "run": {'), earlier=(b',\n "accuracy": {\n  "value": ',)
    ),
    "report.md": Maker(
        COMMAND, (b"A run of `newsclippings train`: ",), earlier=(b" rows; 95 % intervals by resampling pairs ",)
    ),
}
SEEDS: Final = {
    "seeds.json": Maker(COMMAND, (b'{\n "seeds": [',)),
    "seeds.md": Maker(
        COMMAND, (b"Runs of `newsclippings train`",), earlier=(b" runs; 95 % intervals of the mean over seeds",)
    ),
}
POSITIVE: Final = "positive"  # folder in that of a control, with the same run without it
NOTES_MAKER: Final = Maker(COMMAND, (b'{\n "options": {', b'"backbone_learning_rate": '))
CONFIG_MAKER: Final = Maker(COMMAND, (b'"model_type": "newsclippings"',))
ARGUMENTS: Final = Maker(COMMAND, (b"PK\x03\x04", b"TrainingArguments"))
# Names of files in a checkpoint, also those of FSDP and DeepSpeed
SAVED: Final = (
    r"(.*/)?([\w.-]*model[\w.-]*|optimizer[\w.-]*|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|training_args\.bin|"
    r"trainer_state\.json|latest|zero_to_fp32\.py|[\w.-]+\.(distcp|metadata)|\.metadata)"
)


def list_inputs(options: Options) -> list[str]:
    """List the local files and folders from which rows and the model are read, whether they exist or not."""
    model = [options.model, options.from_config if options.from_config != "tiny" else None]
    places = [] if options.features else model
    if options.data == Options.data:
        for config in options.configs():
            places += NewsCLIPpingsConfig(name=config, **builder_fields(options)).inputs().list_places()
    else:
        places.append(options.data)
    return [place for place in places if place and not is_url(place)]


def list_reports(folder: Path, configs: list[str]) -> dict[str, Path]:
    """Return the folder for the report of each config: the folder itself, or if there are several, one in it."""
    return {config: folder / config if len(configs) > 1 else folder for config in configs}


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process of this machine writes to. Remove it if nothing was written to a new one."""
    new = not folder.exists()
    with lock_folder(folder, wait=False):
        try:
            yield
        finally:
            if new:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def list_written(place: Path) -> list[str]:
    """List the files of a report that are in its folder."""
    files = [*(place / name for name in (*REPORT, *SEEDS)), *list_plots(place)]
    return [str(file) for file in files if file.is_file()]


def check_report(folder: Path, inputs: Iterable[str], configs: list[str]) -> None:
    """Refuse a folder for reports if it overlaps with an input, or has other files with the names of a report.

    Raises:
        ConfigError, BadFileError: it does.
    """
    check_not_input(folder, inputs)
    for place in (folder, *list_reports(folder, configs).values()):
        if os.path.lexists(place) and not place.is_dir():
            raise foreign_output(place, COMMAND)
    for place in list_reports(folder, configs).values():
        for name, maker in REPORT.items():
            check_output(place / name, maker)
        list_plots(place)


def check_new_report(folder: Path, inputs: Iterable[str], configs: list[str]) -> None:
    """Check as `check_report`, and that the folder is new or empty, or has an earlier report or run."""
    check_report(folder, inputs, configs)
    _check_own_folder(folder, [NOTES, *REPORT, *(f"{config}/measures.json" for config in CONFIGS)])


def check_seeds(folder: Path, inputs: Iterable[str], configs: list[str]) -> None:
    """Refuse a folder for runs of several seeds if it overlaps with an input, or has foreign files of these names.

    Raises:
        ConfigError, BadFileError: it does.
    """
    check_not_input(folder, inputs)
    if os.path.lexists(folder) and not folder.is_dir():
        raise foreign_output(folder, COMMAND)
    for place in list_reports(folder, configs).values():
        for name, maker in SEEDS.items():
            check_output(place / name, maker)


def check_run(folder: Path, inputs: Iterable[str], arguments: TrainingArguments, configs: list[str]) -> None:
    """Refuse a folder for a run if it overlaps with an input, or if another program wrote it.

    Files with other names stay in the folder unchanged.

    Raises:
        ConfigError, BadFileError: it does, or something in it would be lost.
    """
    last = arguments.resume_from_checkpoint
    if isinstance(last, str) and not _same(Path(last).parent, folder):
        check_not_input(folder, [last])
    check_report(folder, inputs, configs)
    check_output(folder / NOTES, NOTES_MAKER)
    _check_own_folder(folder, [NOTES, f"{POSITIVE}/{NOTES}"])
    check_output(folder / "training_args.bin", ARGUMENTS)
    check_output(folder / WEIGHTS)
    if os.path.lexists(folder / WEIGHTS) and not _has_head(folder / WEIGHTS):
        raise foreign_output(folder / WEIGHTS, COMMAND)
    check_output(folder / CONFIG, CONFIG_MAKER)
    check_card(folder)
    parts = [folder / "tokenizer", *sorted(folder.glob("checkpoint-*"))]
    for part in parts:
        if os.path.islink(part) or (os.path.lexists(part) and not part.is_dir()):
            raise foreign_output(part, COMMAND)
    if arguments.save_total_limit:  # old checkpoints are then removed, with everything in them
        for part in parts[1:]:
            check_own_folder(part, SAVED, COMMAND)
    files = [folder / WEIGHTS, folder / "training_args.bin", *(file for part in parts for file in part.rglob("*"))]
    for file in files:  # `transformers` writes into existing files
        if file.is_symlink() or (file.is_file() and file.stat().st_nlink > 1):
            message = (
                f"{printable(str(file))} is a link, or has a second name (a hard link), and would be overwritten. "
                "Nothing was changed. Replace it by a copy (cp), or choose another --output_dir."
            )
            raise ConfigError(message)


def _check_own_folder(folder: Path, names: list[str]) -> None:
    """Refuse a folder that is not empty and has none of the files `names`."""
    visible = [name for name in sorted(os.listdir(folder)) if not name.startswith(".")] if folder.is_dir() else []
    if visible and not any((folder / name).exists() for name in names):
        message = (
            f"{printable(str(folder))}: expected a new or empty folder, or that of an earlier run, found "
            f"{printable(visible[0])}. Nothing was changed. Choose another --output_dir."
        )
        raise ConfigError(message)


def _has_head(weights: Path) -> bool:
    """Check by its header whether a safetensors file has the layers of a `Classifier`."""
    with LocalFile(os.fspath(weights)) as file:
        size = int.from_bytes(file.read_at(0, 8), "little")
        return size <= LARGEST_JSON and b'"head.2.weight"' in file.read_at(8, size)


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), other.stat())
    except OSError:
        return False
