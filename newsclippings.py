"""NewsCLIPpings for Hugging Face `datasets`: news captions, half with their own picture and half with a wrong one.

The matches of "NewsCLIPpings: Automatic Generation of Out-of-Context Multimodal Media" (Luo, Darrell and Rohrbach,
EMNLP 2021, https://arxiv.org/abs/2104.05893) are joined with captions and pictures of VisualNews (Liu et al., EMNLP
2021, https://arxiv.org/abs/2010.03743). Each row has a caption, a picture, and whether they belong together. There are
85,360 rows in `merged_balanced` and over 600,000 in the largest config. The matches are fetched from the Hub; the
authors of VisualNews provide its tar of 98 GB on request.

    import newsclippings

    ds = newsclippings.load("merged_balanced", split="test", visual_news="/big/origin.tar")

`load_dataset("newsclippings", "merged_balanced", ...)` of `datasets` does the same, for all splits, once this module is
imported.

The tar is never extracted, names in it never become paths, and every row that is left out is reported.
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
    ConfigsByName,
    NewsCLIPpingsConfig,
    as_messages,
    check_arguments,
    check_replaced,
    check_space_for_pictures,
    dataset_info,
    full_disk_error,
    has_damaged_info,
    is_outdated,
    is_sound,
    join_images,
    join_vectors,
    load,
    load_reports,
    log_reports,
    make_name_known,
    naming_with,
    save_inputs,
    save_proof,
    save_reports,
    unwrap_worker_error,
)
from _newsclippings.check import Report, verify, verify_built
from _newsclippings.embed import (
    EmbedReport,
    Encoder,
    EntitiesCheck,
    EntitiesReport,
    EntityModel,
    VectorsReport,
    embed,
    entities,
    verify_entities,
    verify_vectors,
)
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
    RemoteWriteError,
    UnsafePathError,
)
from _newsclippings.evaluate import Evaluation, compute_metrics, evaluate
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, NAME, RELEASE_NOTES, VERSION
from _newsclippings.generate import GeneratedReport, GenerateReport, Method, Recipe, Rule, generate, verify_generated
from _newsclippings.inputs import Inputs, changed_inputs
from _newsclippings.pictures import decode_small, import_decoder
from _newsclippings.rows import JoinedSplit, Joiner, join_config, part_ranges, split_parts
from _newsclippings.show import show
from _newsclippings.storage import (
    Access,
    Lock,
    check_not_input,
    damaged_cache,
    delay_forks,
    is_full,
    is_url,
    report_cache_errors,
)
from _newsclippings.suite import (
    Benchmark,
    as_if_unlabelled,
    benchmark,
    evaluate_on,
    find_overlap,
    measure_leak,
    open_test_set,
)
from _newsclippings.tables import Int64s
from _newsclippings.train import make_known_to_transformers, predict
from _newsclippings.vectors import read_embeddings, read_faces

__version__ = VERSION
__all__ = [
    "BadFileError",
    "BadPickleError",
    "BadTarError",
    "Benchmark",
    "ConfigError",
    "DataNotFoundError",
    "EmbedReport",
    "Encoder",
    "EntitiesCheck",
    "EntitiesReport",
    "EntityModel",
    "Evaluation",
    "GenerateReport",
    "GeneratedReport",
    "HubError",
    "Method",
    "MissingDataError",
    "MissingDependencyError",
    "NewsCLIPpings",
    "NewsCLIPpingsConfig",
    "NewsCLIPpingsError",
    "NoSpaceError",
    "Recipe",
    "RemoteReadError",
    "RemoteWriteError",
    "Report",
    "Rule",
    "UnsafePathError",
    "VectorsReport",
    "as_if_unlabelled",
    "as_messages",
    "benchmark",
    "compute_metrics",
    "decode_small",
    "embed",
    "entities",
    "evaluate",
    "evaluate_on",
    "find_overlap",
    "generate",
    "join_images",
    "join_vectors",
    "load",
    "measure_leak",
    "open_test_set",
    "predict",
    "read_embeddings",
    "read_faces",
    "show",
    "verify",
    "verify_built",
    "verify_entities",
    "verify_generated",
    "verify_vectors",
]

logger = logging.getLogger(NAME)
make_known_to_transformers()


def _lock_folder(folder: str) -> FileLock:
    """Make the lock that a process holds while it replaces the data in a folder."""
    return FileLock(f"{folder.rstrip('/')}_inputs.lock")


class NewsCLIPpings(datasets.ArrowBasedBuilder, datasets.GeneratorBasedBuilder):
    """Builder of NewsCLIPpings.

    `_generate_tables` yields rows as Arrow tables, which is sixty times faster than `_generate_examples`, which yields
    the same rows one at a time.
    """

    VERSION = datasets.Version(VERSION)
    RELEASE_NOTES = RELEASE_NOTES
    BUILDER_CONFIG_CLASS = NewsCLIPpingsConfig
    BUILDER_CONFIGS = [  # noqa: RUF012 # `datasets` requires a list
        NewsCLIPpingsConfig(name=name, version=VERSION, description=description)
        for name, description in CONFIGS.items()
    ]
    DEFAULT_CONFIG_NAME = DEFAULT_CONFIG
    builder_configs = ConfigsByName()

    config: NewsCLIPpingsConfig

    def __init__(self, *cache_dir: Any, **arguments: Any) -> None:
        """Check the arguments: the cache folder, positional or by name, and those of `load_dataset`, by name.

        Raises:
            ConfigError: an argument is unknown, has no effect here, or has a value that cannot be used.
        """
        arguments = check_arguments(cache_dir, arguments)
        # Kept here, since `datasets` would pickle them
        self._access = Access(arguments.pop("storage_options", None), arguments.pop("token", None))
        name = arguments.get("config_name")
        if name is not None and name not in CONFIGS:  # that of a config which was generated into data_dir
            own = NewsCLIPpingsConfig(name=name, version=VERSION, data_dir=arguments.get("data_dir"))
            self.BUILDER_CONFIGS = [*self.BUILDER_CONFIGS, own]
        with (
            report_cache_errors(arguments.get("cache_dir") or str(datasets.config.HF_DATASETS_CACHE)),
            naming_with(self._access),
        ):
            super().__init__(**arguments)
        self._joined: dict[str, JoinedSplit] = {}
        self._joining = Lock()

    def _info(self) -> datasets.DatasetInfo:
        return dataset_info(self.config.features())

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        """Divide each split into parts. A build joins all splits first; a stream reads nothing before its first row."""
        inputs, building = self._find_inputs(), not dl_manager.is_streaming
        self._joined = {}
        if building:
            joiner, self._joined = join_config(self.config, self._kept, inputs, self._name_way_to_one_split)
            inputs = joiner.inputs
            if self._file_format == "parquet":
                for joined in self._joined.values():
                    joined.check_parquet()
            if not is_url(self._output_dir):
                check_space_for_pictures(self._output_dir, self._joined)
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

    def _name_way_to_one_split(self) -> None:
        """Log how to build one split, before files are fetched or a large tar is indexed for all three unasked."""
        if self.config.splits is None:
            logger.warning(
                "%s: %s are all built, and files for them fetched or indexed. If you need one: newsclippings.load(%r, "
                'split="test", ...), or load_dataset(..., splits=["test"], split="test").',
                self.config.name,
                ", ".join(self.config.wanted_splits()),
                self.config.name,
            )

    def _generate_tables(
        self, split: str, inputs: Inputs, parts: list[tuple[int, int]], undecodable: Int64s | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number of the first row and an Arrow table, in the order of the official file.

        Args:
            split: name of the split.
            inputs: where its inputs are.
            parts: the parts (k, of n) to yield.
            undecodable: int64 (N,), the records whose pictures do not decode; None if that was not checked.
        """
        building = self.dl_manager is not None
        with self._joining:  # `datasets` reads several shards of a shuffled stream in parallel
            if split not in self._joined:  # in a stream, or in a worker of a build
                joiner = Joiner(inputs, self.config, self._kept)
                self._joined |= joiner.splits(undecodable={split: undecodable})
                self._joined[split].logged = building
            joined = self._joined[split]
        ranges = part_ranges(len(joined.rows), parts)
        yield from joined.tables(ranges, joined.rows_of_table(self._file_format or "arrow"), ahead=building)

    def _generate_examples(
        self, split: str, inputs: Inputs, parts: list[tuple[int, int]], undecodable: Int64s | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield row number and encoded row: the rows of `_generate_tables`, one at a time."""
        for _, table in self._generate_tables(split, inputs, parts, undecodable):
            for row in table.to_pylist():
                yield row["index"], row

    @property
    def join_reports(self) -> dict[str, Any]:
        """Split -> its `JoinReport` as plain values; empty before a build."""
        return load_reports(self._output_dir)

    def download_and_prepare(
        self,
        output_dir: str | None = None,
        download_config: Any = None,
        download_mode: Any = None,
        **kwargs: Any,
    ) -> None:
        """Build, unless the cache has this build; see `datasets.DatasetBuilder.download_and_prepare`.

        An earlier build is used if it has the same inputs and options, and its files match their checksums. If several
        processes need it, one of them builds and the others wait.

        Raises:
            ConfigError: output_dir, which is replaced, overlaps with an input, or holds files that no build wrote.
            NewsCLIPpingsError: an input is missing or damaged.
        """
        reuse = datasets.DownloadMode(download_mode or "reuse_dataset_if_exists").name == "REUSE_DATASET_IF_EXISTS"
        folder = os.fspath(output_dir) if output_dir is not None else self._cache_dir
        if folder.startswith(("file://", "local://", "~")):
            folder = url_to_fs(folder)[1]  # as `datasets` reads it

        def outdated() -> bool:
            if is_url(folder) or not is_sound(folder):
                return True
            return is_outdated(folder, self.config_id, self._find_inputs())

        if not is_url(folder):
            check_not_input(folder, self._find_inputs().list_places())
        with report_cache_errors(folder), contextlib.ExitStack() as stack:
            if not reuse and output_dir is not None and not is_url(folder):
                check_replaced(folder, self.dataset_name)
            kept = reuse and not outdated()
            if reuse and not kept:
                if not is_url(folder):
                    if output_dir is not None:
                        check_replaced(folder, self.dataset_name)
                    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
                    stack.enter_context(_lock_folder(folder))
                kept = not outdated()  # check again: another process may have built it
                if not kept:
                    download_mode = datasets.DownloadMode.REUSE_CACHE_IF_EXISTS  # build again, keep downloads
            super().download_and_prepare(output_dir, download_config, download_mode, **kwargs)
            if kept:
                log_reports(folder, self.config.name)

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Open the built data; see `datasets.DatasetBuilder.as_dataset`.

        Raises:
            BadFileError: a file of the data is damaged. `load_dataset` builds them again.
        """
        folder = self._output_dir
        if not is_url(folder) and os.path.isdir(folder) and not is_sound(folder):
            raise damaged_cache(folder)
        return super().as_dataset(*args, **kwargs)

    def _build_cache_dir(self) -> str:
        """Return the folder of the data; remove its dataset_info.json if damaged, since `datasets` reads it at once."""
        folder: str = super()._build_cache_dir()
        if not is_url(folder) and has_damaged_info(folder):
            with _lock_folder(folder):
                if has_damaged_info(folder):  # check again: another process may have built it
                    Path(folder, INFO_FILE).unlink(missing_ok=True)
        return folder

    def _save_info(self) -> None:
        """Write dataset_info.json, which is the last file of a build, and then the checksums of all files."""
        super()._save_info()
        if not is_url(self._output_dir):
            save_proof(self._output_dir)

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Rows on demand; see `datasets.DatasetBuilder.as_streaming_dataset`."""
        self._find_inputs().require_visual_news(self.config)  # now, not at the first row
        if self.config.images != "none":
            import_decoder()  # else `datasets` imports it at the first row, perhaps in a thread during a fork
        with delay_forks():  # `datasets` imports torch here; nothing is read or fetched
            return super().as_streaming_dataset(*args, **kwargs)

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        if self._output_dir.endswith(".incomplete"):  # otherwise files of a killed build would end up among the data
            shutil.rmtree(self._output_dir, ignore_errors=True)
            os.makedirs(self._output_dir)
        self.info.splits = None  # they may be from an earlier build with other pictures
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
            written = {split: joined.report.written for split, joined in self._joined.items()}
            if written != {split: info.num_examples for split, info in self.info.splits.items()}:
                raise changed_inputs(self.config.name)
            inputs = self._find_inputs()
            inputs.check_unchanged(inputs.list_read(self.config))
            if not is_url(self._output_dir):
                save_reports(self._output_dir, self._joined)
                save_inputs(self._output_dir, self.config_id, inputs, self._joined)
                # Workers look for the pictures again
                if kwargs.get("num_proc") and is_outdated(self._output_dir, self.config_id, inputs):
                    raise changed_inputs(self.config.name)
        except Exception as error:
            self.config.forget_inputs()
            cause = unwrap_worker_error(error)
            local = not is_url(self._output_dir)
            if local and isinstance(cause, OSError) and is_full(cause) and not isinstance(cause, NewsCLIPpingsError):
                cause = full_disk_error(self._output_dir, self._joined, cause)
            if cause is error:
                raise
            cause.__suppress_context__ = True  # the error around it adds nothing, and may show a URL
            raise cause  # noqa: B904 # it has its own cause
        finally:
            self._joined = {}

    def _prepare_split(self, split_generator: Any, check_duplicate_keys: Any = None, **kwargs: Any) -> None:
        """Write one split. `datasets` 4.0 passes an argument that the builder of tables does not take."""
        super()._prepare_split(split_generator, **kwargs)

    def _prepare_split_single(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Write some parts of a split, in this process or in a worker, and unwrap its errors."""
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except Exception as error:
            cause = unwrap_worker_error(error)
            if cause is error:
                raise
        else:
            return
        cause.__suppress_context__ = True  # the error around it adds nothing, and may show a URL
        raise cause

    def count_rows(self, split: str) -> int:
        """Count the rows of the official file of a split. A stream yields all of them, unless pairs are dropped."""
        return Joiner(self._find_inputs(), self.config, self._kept).count_rows(split)

    def _find_inputs(self) -> Inputs:
        return self.config.inputs(self._access)

    @property
    def _kept(self) -> Path:
        """The folder for indexes of tars, converted embeddings and downloads."""
        return Path(self._cache_dir_root, NAME)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_joined": {}}  # a worker joins again, from the kept tables


if __name__ == NAME:
    make_name_known()
elif __name__ == "__main__":
    from _newsclippings.cli import main

    main(prog_name=NAME)
