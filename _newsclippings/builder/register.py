"""Register the name `newsclippings` with `load_dataset`."""

import logging
import os
from pathlib import Path
from typing import Any

import datasets

from _newsclippings.config import unused_option
from _newsclippings.facts import ENV_DATA_DIR, NAME


def make_name_known() -> None:
    """Let `load_dataset("newsclippings", ...)` find this module.

    `datasets` has no hook for that. With a plain entry in its table of packaged modules, it would list every file below
    data_dir (a millisecond each), fail in an empty directory, and hide a folder ./newsclippings of Parquet files. So
    the lookup in that table is wrapped for this name.
    """
    try:  # it uses private names of another library, and importing this package must work without them
        _wrap_lookup()
    except Exception as error:
        logging.getLogger(NAME).warning(
            "load_dataset(%r) does not work on datasets %s (%s: %s). Use newsclippings.NewsCLIPpings(...) instead, or "
            "a release of datasets from 4 to 5.",
            NAME,
            datasets.__version__,
            type(error).__name__,
            " ".join(str(error).split())[:200],
        )


def _wrap_lookup() -> None:
    import datasets.load as load
    from datasets.data_files import DataFilesDict
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as table

    factory, local, module_class = (
        load.PackagedDatasetModuleFactory,
        load.LocalDatasetModuleFactory,
        load.DatasetModule,
    )
    look_up = vars(factory)["get_module"]
    if getattr(look_up, "__module__", None) == __name__:  # it was wrapped before
        return
    if not (isinstance(table, dict) and all(map(callable, (look_up, local, module_class)))):
        message = "its table of modules, or its lookup, has another type"
        raise TypeError(message)
    if table is not load._PACKAGED_DATASETS_MODULES:
        message = "its lookup uses another table of modules"
        raise TypeError(message)
    module_class(
        NAME, "", {"data_files": DataFilesDict(), "dataset_name": NAME}
    )  # raises now if it cannot be called like this

    def get_module(self: Any) -> Any:
        if self.name != NAME:
            return look_up(self)
        if is_shadowed(self.data_dir):
            return local(NAME, data_files=self.data_files).get_module()
        if self.data_files is not None:
            raise unused_option("data_files=")
        return module_class(NAME, "", {"data_files": DataFilesDict(), "dataset_name": NAME})

    table[NAME] = (NAME, "")
    factory.get_module = get_module


def is_shadowed(data_dir: object) -> bool:
    """Check whether the name means the built folder ./newsclippings: it is there, and no folder with inputs is set."""
    return data_dir is None and not os.environ.get(ENV_DATA_DIR) and _is_parquet_folder(Path(NAME))


def _is_parquet_folder(folder: Path) -> bool:
    """Check whether a folder is a built dataset; a checkout of this project is not."""
    if not folder.is_dir() or (folder / f"{NAME}.py").exists():
        return False
    card = folder / "README.md"
    if card.is_file() and card.read_bytes().startswith(b"---"):
        return True
    return any(any(folder.glob(pattern)) for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet"))
