"""The files beside built data: join reports, what the data were built from, and checksums."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.facts import NAME
from _newsclippings.inputs import Inputs
from _newsclippings.pictures import FolderPictures, folders_of, pictures_state
from _newsclippings.rows import JoinedSplit, JoinReport, log_report
from _newsclippings.storage import (
    check_own_folder,
    foreign_output,
    identify,
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
    """Read the join reports beside the data; empty if there are none or they are damaged."""
    if not is_proved(Path(folder, PROOF_FILE), Path(folder), REPORT_FILE):
        return {}
    return dict(json.loads(Path(folder, REPORT_FILE).read_bytes()))


def log_reports(folder: str, config: str) -> None:
    """Log the join reports beside the data again, as the build did: a later process may load them."""
    for split, report in load_reports(folder).items():
        log_report(config, split, JoinReport(**report))


def save_inputs(folder: str, config_id: str, inputs: Inputs, splits: dict[str, JoinedSplit]) -> None:
    """Write beside the data what they were built from, so that `is_outdated` notices a later change."""
    files = [files for joined in splits.values() for files in (joined.pictures, joined.articles)]
    folders, places = folders_of(*files), [os.path.realpath(place) for place in _list_folders(inputs)]
    numbers = json.dumps([places.index(pictures.root) for pictures in folders])
    about = {"config_id": config_id, "state": pictures_state(*folders), "folders": numbers}
    if any(joined.damages for joined in splits.values()):
        about["tars"] = _identify_tars(inputs)
    schema = pa.schema([("path", pa.string())], about)
    with write_atomically(Path(folder, INPUTS_FILE)) as temporary, pa.ipc.new_file(temporary, schema) as writer:
        for pictures in folders:
            writer.write_batch(pa.record_batch([pictures.paths.take(as_array(pictures.looked))], schema=schema))


def save_proof(folder: str) -> None:
    """Write the checksums of all files in a folder."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    write_proof(Path(folder, PROOF_FILE), Path(folder), names)


def is_sound(folder: str) -> bool:
    """Check whether all files that a build wrote to a folder are still there and unchanged."""
    return is_proved(Path(folder, PROOF_FILE), Path(folder))


def has_damaged_info(folder: str) -> bool:
    """Check whether a folder has a dataset_info.json that is not as the build wrote it."""
    exists = os.path.exists(os.path.join(folder, INFO_FILE))
    return exists and not is_proved(Path(folder, PROOF_FILE), Path(folder), INFO_FILE)


def check_replaced(folder: str, name: str) -> None:
    """Refuse to build into a folder with files that no build wrote, because `datasets` would remove them.

    Args:
        folder: a local folder that a user named; it need not exist.
        name: name of the dataset, with which the names of its files begin.

    Raises:
        ConfigError: other files are in it, or in the temporary folder beside it.
    """
    tables = rf"{re.escape(name)}-\w+(-\d{{5}})*(-of-(\d{{5}}|N{{5}}))?\.(arrow|parquet)"
    beside = "|".join(map(re.escape, (REPORT_FILE, INPUTS_FILE, INFO_FILE, PROOF_FILE, "LICENSE")))
    names = rf"({tables}|{beside})(\.\d+-[0-9a-f]{{8}}\.tmp)?"
    check_own_folder(f"{folder}.incomplete", names, CALL)
    check_own_folder(folder, rf"{names}|cache-\w+\.(arrow|lock)|tmp\w+", CALL)  # also the cached results of `map`
    inside = os.listdir(folder) if os.path.isdir(folder) else []
    if inside and not any(os.path.exists(os.path.join(folder, file)) for file in (INFO_FILE, PROOF_FILE, INPUTS_FILE)):
        raise foreign_output(folder, CALL)
    info = None
    with contextlib.suppress(OSError, ValueError, RecursionError):  # if it is damaged, a build wrote it
        info = json.loads(read_file(os.path.join(folder, INFO_FILE)))
    if isinstance(info, dict) and info.get("builder_name", name) not in (name, NAME):
        raise foreign_output(folder, CALL)


def is_outdated(folder: str, config_id: str, inputs: Inputs) -> bool:
    """Check whether the data in a folder were built from other inputs or options.

    Args:
        folder: the folder with the data.
        config_id: the current id of the config, which covers its options, its input files and `VERSION`.
        inputs: the inputs. No config_id covers the pictures and articles in folders, because there are too many to
            check each time an id is needed: they are compared here by size and time. Nor does one cover all bytes of a
            tar. That matters only if a tar or a picture was damaged, since it may have been repaired: then the times
            of tars count as well.
    """
    try:
        file = pa.ipc.open_file(pa.memory_map(str(Path(folder, INPUTS_FILE))))
        metadata = file.schema.metadata or {}
        if metadata.get(b"config_id") != config_id.encode():
            return True
        batches = [file.get_batch(k)["path"] for k in range(file.num_record_batches)]
        places = [_list_folders(inputs)[number] for number in json.loads(metadata[b"folders"])]
        folders = [FolderPictures(*each, links_root=inputs.links_root) for each in zip(places, batches, strict=True)]
    except (OSError, pa.ArrowException, KeyError, IndexError, ValueError):  # absent or damaged
        return True
    if b"tars" in metadata and metadata[b"tars"] != _identify_tars(inputs).encode():
        return True
    for pictures in folders:
        pictures.look(np.arange(len(pictures.paths), dtype=np.int32))
    return bool(pictures_state(*folders).encode() != metadata.get(b"state"))


def _identify_tars(inputs: Inputs) -> str:
    return json.dumps([identify(tar, access=inputs.access) for tar in inputs.tars])


def _list_folders(inputs: Inputs) -> list[str]:
    """List the folders that pictures and articles come from."""
    return [*inputs.folders, *([inputs.full_articles] if inputs.full_articles is not None else [])]
