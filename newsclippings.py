"""NewsCLIPpings for Hugging Face `datasets`: news captions with news pictures, half of them swapped on purpose.

What it is: the matches of "NewsCLIPpings: Automatic Generation of Out-of-Context Multimodal Media" (Luo, Darrell and
Rohrbach, EMNLP 2021, https://arxiv.org/abs/2104.05893), joined with captions and pictures of VisualNews (Liu et al.,
EMNLP 2021, https://arxiv.org/abs/2010.03743). Every row has a caption, a picture, and whether they belong together.
How large: 85,360 rows in `merged_balanced`, over 600,000 in the largest config; VisualNews is a tar of 98 GB.
Where from: the matches are fetched from the Hub; VisualNews is given out by its authors on request.

    import newsclippings                       # makes the name known to `datasets`
    from datasets import load_dataset

    ds = load_dataset("newsclippings", "merged_balanced", visual_news="/big/origin.tar")

The tar is never extracted, names in it never become paths, and no row is lost without a word.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from filelock import FileLock
from fsspec.core import url_to_fs

from _newsclippings.builder import (
    INFO_FILE,
    NewsCLIPpingsConfig,
    check_arguments,
    check_replaced,
    check_room,
    dataset_info,
    full_disk,
    has_damaged_info,
    is_outdated,
    is_sound,
    join_images,
    load_reports,
    make_name_known,
    save_inputs,
    save_proof,
    save_reports,
    unwrap_worker_error,
)
from _newsclippings.check import Report, verify, verify_built
from _newsclippings.errors import (
    BadFileError,
    BadPickleError,
    BadTarError,
    ConfigError,
    DataNotFoundError,
    HubError,
    MissingDataError,
    MissingDependencyError,
    NewsCLIPpingsError,
    NoSpaceError,
    RemoteReadError,
    UnsafePathError,
)
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, NAME, RELEASE_NOTES, VERSION
from _newsclippings.inputs import Inputs, changed_inputs
from _newsclippings.pictures import decode_small, import_decoder
from _newsclippings.rows import JoinedSplit, Joiner, join_config, part_ranges, split_parts
from _newsclippings.storage import Lock, check_apart, damaged_cache, is_full, is_url, no_fork, report_cache_errors
from _newsclippings.vectors import read_embeddings, read_faces

__version__ = VERSION
__all__ = [
    "BadFileError",
    "BadPickleError",
    "BadTarError",
    "ConfigError",
    "DataNotFoundError",
    "HubError",
    "MissingDataError",
    "MissingDependencyError",
    "NewsCLIPpings",
    "NewsCLIPpingsConfig",
    "NewsCLIPpingsError",
    "NoSpaceError",
    "RemoteReadError",
    "Report",
    "UnsafePathError",
    "decode_small",
    "join_images",
    "read_embeddings",
    "read_faces",
    "verify",
    "verify_built",
]

logger = logging.getLogger(NAME)


def _lock(folder: str) -> FileLock:
    """Held by whoever replaces what was built in a folder."""
    return FileLock(f"{folder.rstrip('/')}_inputs.lock")


class NewsCLIPpings(datasets.ArrowBasedBuilder, datasets.GeneratorBasedBuilder):
    """Builder of NewsCLIPpings.

    Rows are written as Arrow tables (`_generate_tables`: sixty times faster than one by one); `_generate_examples`
    gives the same rows one by one.
    """

    VERSION = datasets.Version(VERSION)
    RELEASE_NOTES = RELEASE_NOTES
    BUILDER_CONFIG_CLASS = NewsCLIPpingsConfig
    BUILDER_CONFIGS = [  # noqa: RUF012 # as `datasets` wants it
        NewsCLIPpingsConfig(name=name, version=VERSION, description=description)
        for name, description in CONFIGS.items()
    ]
    DEFAULT_CONFIG_NAME = DEFAULT_CONFIG

    config: NewsCLIPpingsConfig

    def __init__(self, *cache_dir: Any, **arguments: Any) -> None:
        """Take the folder of the cache, which may come without its name, and by name what `load_dataset` takes.

        Raises:
            ConfigError: an argument is not known, has no effect here, or a value that means nothing.
        """
        arguments = check_arguments(cache_dir, arguments)
        with report_cache_errors(arguments.get("cache_dir") or str(datasets.config.HF_DATASETS_CACHE)):
            super().__init__(**arguments)
        self._joined: dict[str, JoinedSplit] = {}
        self._joining = Lock()

    def _info(self) -> datasets.DatasetInfo:
        return dataset_info(self.config.features())

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        """Splits of many parts. When streaming nothing is read before the first row is asked for."""
        inputs, building = self.config.inputs(), not dl_manager.is_streaming
        self._joined = {}
        if building:
            joiner, self._joined = join_config(self.config, self._kept, inputs)
            inputs = joiner.inputs
            if self._file_format == "parquet":
                for joined in self._joined.values():
                    joined.check_parquet()
            if not is_url(self._output_dir):
                check_room(self._output_dir, self._joined)
        rows = {split: len(joined.rows) for split, joined in self._joined.items()}
        undecodable = {split: joined.undecodable() for split, joined in self._joined.items()}
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "split": split,
                    "inputs": inputs.take_split(split),
                    "parts": split_parts(rows.get(split), inputs.matches[split]),
                    "undecodable": undecodable.get(split),
                },
            )
            for split in self.config.wanted_splits()
        ]

    def _generate_tables(
        self, split: str, inputs: Inputs, parts: list[tuple[int, int]], undecodable: Any = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield row number and Arrow table, in the order of the official file.

        Args:
            split: name of the split.
            inputs: where its inputs are.
            parts: which parts (k, of n) of it.
            undecodable: int64 (N,), the records whose pictures do not decode, as far as the process that builds knows.
        """
        building = self.dl_manager is not None
        with self._joining:  # `datasets` reads several shards of a shuffled stream at once
            if split not in self._joined:  # in a stream, or in a worker of a build
                joiner = Joiner(inputs, self.config, self._kept)
                self._joined |= joiner.splits(undecodable={split: undecodable})
                self._joined[split].logged = building
            joined = self._joined[split]
        ranges = part_ranges(len(joined.rows), parts)
        yield from joined.tables(ranges, joined.rows_of_table(self._file_format or "arrow"), ahead=building)

    def _generate_examples(
        self, split: str, inputs: Inputs, parts: list[tuple[int, int]], undecodable: Any = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row number and encoded row: the rows of `_generate_tables`, one by one."""
        for _, table in self._generate_tables(split, inputs, parts, undecodable):
            for row in table.to_pylist():
                yield row["index"], row

    @property
    def join_reports(self) -> dict[str, Any]:
        """Split -> what became of its rows (`JoinReport` as plain values); empty before a build."""
        return load_reports(self._output_dir)

    def download_and_prepare(
        self,
        output_dir: str | None = None,
        download_config: Any = None,
        download_mode: Any = None,
        **kwargs: Any,
    ) -> None:
        """Build, unless the same was built before; see `datasets.DatasetBuilder.download_and_prepare`.

        `datasets` takes any folder that was built before for the right one; here it is asked what it was made of, and
        its files are compared with their checksums. Of several processes one builds, and the others wait for that.

        Raises:
            ConfigError: output_dir, which is replaced, is an input, lies in one or holds one, or holds anything else
                than an earlier build.
            NewsCLIPpingsError: what is needed is missing or damaged.
        """
        reuse = datasets.DownloadMode(download_mode or "reuse_dataset_if_exists").name == "REUSE_DATASET_IF_EXISTS"
        folder = os.fspath(output_dir) if output_dir is not None else self._cache_dir
        if folder.startswith(("file://", "local://", "~")):
            folder = url_to_fs(folder)[1]  # as `datasets` reads it

        def outdated() -> bool:
            if is_url(folder) or not is_sound(folder):
                return True
            return is_outdated(folder, self.config_id, self.config.inputs().pictures)

        if not is_url(folder):
            check_apart(folder, self.config.inputs().list_places())
        with report_cache_errors(folder), contextlib.ExitStack() as stack:
            if not reuse and output_dir is not None and not is_url(folder):
                check_replaced(folder, self.dataset_name)
            if reuse and outdated():
                if not is_url(folder):
                    if output_dir is not None:
                        check_replaced(folder, self.dataset_name)
                    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
                    stack.enter_context(_lock(folder))
                if outdated():  # still: another process may have built it
                    download_mode = datasets.DownloadMode.REUSE_CACHE_IF_EXISTS  # build again, keep downloads
            super().download_and_prepare(output_dir, download_config, download_mode, **kwargs)

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Open what was built; see `datasets.DatasetBuilder.as_dataset`.

        Raises:
            BadFileError: the tables, or what is beside them, are not what was written. `load_dataset` makes them again.
        """
        folder = self._output_dir
        if not is_url(folder) and os.path.isdir(folder) and not is_sound(folder):
            raise damaged_cache(folder)
        return super().as_dataset(*args, **kwargs)

    def _build_cache_dir(self) -> str:
        """Where the data are, or will be. What `datasets` reads there at once, before it builds, is compared first."""
        folder: str = super()._build_cache_dir()
        if not is_url(folder) and has_damaged_info(folder):
            with _lock(folder):
                if has_damaged_info(folder):  # still: another process may have built it
                    Path(folder, INFO_FILE).unlink(missing_ok=True)
        return folder

    def _save_info(self) -> None:
        """Write what `datasets` wants to know of the data, which is the last file, and the checksums of all."""
        super()._save_info()
        if not is_url(self._output_dir):
            save_proof(self._output_dir)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Rows on demand; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        if self.config.images != "none" or self.config.articles:
            self.config.inputs().require_pictures()  # at once, not at the first row
        if self.config.images != "none":
            import_decoder()  # else `datasets` does, at the first row, perhaps in a thread while the process forks
        with no_fork():  # `datasets` imports torch there, and nothing is read or fetched
            return super().as_streaming_dataset(*args, **kwargs)

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        if self._output_dir.endswith(".incomplete"):  # what a killed build left would end up among the data
            shutil.rmtree(self._output_dir, ignore_errors=True)
            os.makedirs(self._output_dir)
        self.info.splits = None  # of an earlier build, perhaps of other pictures
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
            written = {split: joined.report.written for split, joined in self._joined.items()}
            if written != {split: info.num_examples for split, info in self.info.splits.items()}:
                raise changed_inputs(self.config.name)
            inputs = self.config.inputs()
            inputs.check_unchanged(inputs.list_read(self.config))
            if not is_url(self._output_dir):
                save_reports(self._output_dir, self._joined)
                save_inputs(self._output_dir, self.config_id, self._joined)
                pictures = self.config.inputs().pictures  # which workers look for again
                if kwargs.get("num_proc") and is_outdated(self._output_dir, self.config_id, pictures):
                    raise changed_inputs(self.config.name)
        except Exception as error:
            self.config.forget_inputs()
            cause = unwrap_worker_error(error)
            local = not is_url(self._output_dir)
            if local and isinstance(cause, OSError) and is_full(cause) and not isinstance(cause, NewsCLIPpingsError):
                cause = full_disk(self._output_dir, self._joined, cause)
            if cause is error:
                raise
            cause.__suppress_context__ = True  # what it was wrapped in adds nothing, and may show a URL
            raise cause  # noqa: B904 # it has a cause of its own
        finally:
            self._joined = {}

    def _prepare_split(self, split_generator: Any, check_duplicate_keys: Any = None, **kwargs: Any) -> None:
        """Write one split. `datasets` 4.0 hands in an argument that only builders of single rows know."""
        super()._prepare_split(split_generator, **kwargs)

    def _prepare_split_single(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Write some parts of a split, in this process or in a worker; see `unwrap_worker_error`."""
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except Exception as error:
            cause = unwrap_worker_error(error)
            if cause is error:
                raise
        else:
            return
        cause.__suppress_context__ = True  # what it was wrapped in adds nothing, and may show a URL
        raise cause

    def count_rows(self, split: str) -> int:
        """Rows of the official file of a split: those of a stream, unless pairs are dropped."""
        return Joiner(self.config.inputs(), self.config, self._kept).count_rows(split)

    @property
    def _kept(self) -> Path:
        """Where indexes of tars, converted embeddings and downloads are kept."""
        return Path(self._cache_dir_root, NAME)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_joined": {}}  # a worker joins again, from the tables that are kept


if __name__ == NAME:
    make_name_known()
elif __name__ == "__main__":
    from _newsclippings.cli import main

    main(prog_name=NAME)
