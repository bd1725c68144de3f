"""What lies beside built data: the join reports, and what the data were made of."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.facts import NAME
from _newsclippings.pictures import FolderPictures, pictures_state
from _newsclippings.rows import JoinedSplit
from _newsclippings.storage import (
    check_own_folder,
    foreign_output,
    is_proved,
    read_file,
    write_atomically,
    write_proof,
    write_text,
)
from _newsclippings.tables import as_array

REPORT_FILE = "join_report.json"
INPUTS_FILE = "inputs.arrow"
INFO_FILE = "dataset_info.json"
PROOF_FILE = "checksums.proof"
CALL = "download_and_prepare"


def save_reports(folder: str, splits: dict[str, JoinedSplit]) -> None:
    """Write the join reports beside the data."""
    reports = {split: joined.report.as_dict() for split, joined in splits.items()}
    write_text(Path(folder, REPORT_FILE), json.dumps(reports, indent=1) + "\n")


def load_reports(folder: str) -> dict[str, Any]:
    """The join reports beside the data; empty where there are none, or damaged ones."""
    if not is_proved(Path(folder, PROOF_FILE), Path(folder), REPORT_FILE):
        return {}
    return dict(json.loads(Path(folder, REPORT_FILE).read_bytes()))


def save_inputs(folder: str, config_id: str, splits: dict[str, JoinedSplit]) -> None:
    """Write beside the data what they were made of, so that a later change of it is noticed (`is_outdated`)."""
    files = [some for one in splits.values() for some in (one.pictures, one.articles)]
    unique = {id(some): some for some in files if isinstance(some, FolderPictures)}
    looked = [pictures.paths.take(as_array(pictures.looked)) for pictures in unique.values()]
    paths = pa.concat_arrays([pa.nulls(0, pa.string()), *looked])
    schema = pa.schema(
        [("image_path", pa.string())], {"config_id": config_id, "state": pictures_state(*unique.values())}
    )
    with write_atomically(Path(folder, INPUTS_FILE)) as temporary, pa.ipc.new_file(temporary, schema) as writer:
        writer.write_table(pa.table([paths], schema=schema))


def save_proof(folder: str) -> None:
    """Write beside the data the checksums of everything in their folder."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    write_proof(Path(folder, PROOF_FILE), Path(folder), names)


def is_sound(folder: str) -> bool:
    """Whether all that was written to a folder by a build is still there, and the same."""
    return is_proved(Path(folder, PROOF_FILE), Path(folder))


def has_damaged_info(folder: str) -> bool:
    """Whether what `datasets` would take a folder's facts from is not what a build wrote there."""
    there = os.path.exists(os.path.join(folder, INFO_FILE))
    return there and not is_proved(Path(folder, PROOF_FILE), Path(folder), INFO_FILE)


def check_replaced(folder: str, name: str) -> None:
    """Refuse to build into a folder with anything in it that is not of a build: `datasets` removes it.

    Args:
        folder: a local folder that a user named, which may be there.
        name: the dataset's, with which the names of its files begin.

    Raises:
        ConfigError: something else is in it, or in the one beside it in which the data are made.
    """
    tables = rf"{re.escape(name)}-\w+(-\d{{5}})*(-of-(\d{{5}}|N{{5}}))?\.(arrow|parquet)"
    beside = "|".join(map(re.escape, (REPORT_FILE, INPUTS_FILE, INFO_FILE, PROOF_FILE, "LICENSE")))
    names = rf"({tables}|{beside})(\.\d+-[0-9a-f]{{8}}\.tmp)?"
    check_own_folder(f"{folder}.incomplete", names, CALL)
    check_own_folder(folder, rf"{names}|cache-\w+\.(arrow|lock)|tmp\w+", CALL)  # what `map` keeps is there, too
    inside = os.listdir(folder) if os.path.isdir(folder) else []
    if inside and not any(os.path.exists(os.path.join(folder, one)) for one in (INFO_FILE, PROOF_FILE, INPUTS_FILE)):
        raise foreign_output(folder, CALL)
    info = None
    with contextlib.suppress(OSError, ValueError, RecursionError):  # a damaged one is of a build
        info = json.loads(read_file(os.path.join(folder, INFO_FILE)))
    if isinstance(info, dict) and info.get("builder_name", name) not in (name, NAME):
        raise foreign_output(folder, CALL)


def is_outdated(folder: str, config_id: str, root: str | None) -> bool:
    """Whether the data of a folder were made of something else.

    Args:
        folder: where the data are.
        config_id: what the config is now: covers its options, its input files and `VERSION`.
        root: the folder of the pictures. Single pictures are in no config_id: there are too many to look at each time
            that a name is needed. They are compared here, by size and times.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(Path(folder, INPUTS_FILE)))).read_all()
        made_of, chunks = table.schema.metadata or {}, table["image_path"].chunks
    except (OSError, pa.ArrowException, KeyError):  # not there, or damaged
        return True
    if made_of.get(b"config_id") != config_id.encode():
        return True
    if not len(table) or root is None:
        return False
    pictures = FolderPictures(root, pa.concat_arrays(chunks))
    pictures.look(np.arange(len(table), dtype=np.int32))
    return bool(pictures_state(pictures).encode() != made_of.get(b"state"))
