"""Make the name `newsclippings` known to `load_dataset`."""

import logging
import os
from pathlib import Path
from typing import Any

import datasets
import datasets.load
from datasets.data_files import DataFilesDict
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from _newsclippings.config import without_effect
from _newsclippings.schema import ENV_DATA_DIR

NAME = "newsclippings"


def make_name_known() -> None:
    """Let `load_dataset("newsclippings", ...)` find this module, on the releases of `datasets` that this is tested on.

    `datasets` has no hook for that. A plain entry in its table of packaged modules would make it list every file below
    data_dir (a millisecond each), fail in an empty directory, and hide a folder ./newsclippings of Parquet files; so
    the lookup of that table is wrapped, for this one name.
    """
    load: Any = datasets.load
    try:
        factory, module_class = load.PackagedDatasetModuleFactory, load.DatasetModule
        local = getattr(load, "LocalDatasetModuleFactoryWithoutScript", None) or load.LocalDatasetModuleFactory
        look_up = factory.get_module
    except AttributeError as error:
        logging.getLogger(NAME).warning(
            "load_dataset(%r) does not work on datasets %s (%s); NewsCLIPpings(...) does.",
            NAME,
            datasets.__version__,
            error,
        )
        return

    def get_module(self: Any) -> Any:
        if self.name != NAME:
            return look_up(self)
        if self.data_dir is None and not os.environ.get(ENV_DATA_DIR) and _is_parquet_folder(Path(NAME)):
            return local(NAME, data_files=self.data_files).get_module()
        if self.data_files is not None:
            raise without_effect("data_files=")
        return module_class(NAME, "", {"data_files": DataFilesDict(), "dataset_name": NAME})

    _PACKAGED_DATASETS_MODULES[NAME] = (NAME, "")
    factory.get_module = get_module


def _is_parquet_folder(folder: Path) -> bool:
    """Whether a folder is a built dataset, and not, say, a checkout of this project."""
    if not folder.is_dir() or (folder / f"{NAME}.py").exists():
        return False
    card = folder / "README.md"
    if card.is_file() and card.read_bytes().startswith(b"---"):
        return True
    return any(any(folder.glob(pattern)) for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet"))
