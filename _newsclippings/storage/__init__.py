"""Files on disks and servers: open, fetch, identify, write and keep them, and report what is wrong with them."""

import importlib
from typing import TYPE_CHECKING, Any

from _newsclippings.storage import outputs
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.files import (
    HEAD,
    Stream,
    check_json_head,
    compute_hub_digests,
    fetch_into,
    identify,
    open_stream,
    read_json_text,
    recognise_wrong_file,
    stamp,
    write_atomically,
    write_text,
)
from _newsclippings.storage.local import FileSlice, LocalFile, RandomFile, open_file
from _newsclippings.storage.outputs import (
    CARD,
    CHART,
    EMBEDDINGS,
    EVALUATION,
    INDEX,
    INFOS,
    OVERLAP,
    PREVIEW_PAGE,
    PREVIEW_PICTURE,
    SOFTWARE,
    STATS,
    Maker,
    check_not_input,
    check_output,
    check_own_folder,
    foreign_output,
    read_ends,
)
from _newsclippings.storage.parquet_footer import Footer, read_footer, read_unpacked_sizes
from _newsclippings.storage.parts import RangeFile, first_part, is_part, is_remote, open_random
from _newsclippings.storage.places import (
    Place,
    PlaceLike,
    RemotePath,
    compute_sha256,
    expand_home,
    find_place,
    has_content,
    is_below,
    list_sizes,
    open_parquet,
    open_place,
    read_file,
    size_of,
)
from _newsclippings.storage.plain_files import PlainFile, allow_open_files
from _newsclippings.storage.progress import hide_progress, progress_bar, shows_progress
from _newsclippings.storage.remote import (
    PAUSE,
    PIECE,
    TRIES,
    RemoteFile,
    call_with_timeout,
    is_url,
    split_range,
)
from _newsclippings.storage.space import (
    MOVE_CACHE,
    changed_file,
    check_accessible,
    check_space,
    describe_os_error,
    flush,
    flush_folder,
    free_bytes,
    is_full,
    is_unsupported,
    out_of_space,
    report_cache_errors,
    report_full_disk,
    reserve_bytes,
    unreadable_file,
)
from _newsclippings.storage.standard_streams import (
    LossyStream,
    describe_print_error,
    discard_unprinted,
    open_missing_streams,
)
from _newsclippings.storage.strict_json import DECODER, NAN_DECODER, TRUNCATED, describe_json_error, has_surrogates
from _newsclippings.storage.threads import Lock, delay_forks, lazy_property, limit_threads, map_ahead

if TYPE_CHECKING:
    from _newsclippings.storage.binary import Rows, read_binary_array
    from _newsclippings.storage.kept import (
        DamagedError,
        KeptFile,
        KeptTable,
        cache_folder,
        damaged_cache,
        has_local_copy,
        is_proved,
        keep_tables,
        local_copy,
        open_kept,
        open_table,
        write_kept,
        write_proof,
    )
    from _newsclippings.storage.paths import BadNameError, normalise_path, normalise_paths
    from _newsclippings.storage.zips import ZipArchive

__all__ = [
    "CARD",
    "CHART",
    "DECODER",
    "EMBEDDINGS",
    "EVALUATION",
    "HEAD",
    "INDEX",
    "INFOS",
    "MOVE_CACHE",
    "NAN_DECODER",
    "NO_ACCESS",
    "OVERLAP",
    "PAUSE",
    "PIECE",
    "PREVIEW_PAGE",
    "PREVIEW_PICTURE",
    "SOFTWARE",
    "STATS",
    "TRIES",
    "TRUNCATED",
    "Access",
    "BadNameError",
    "DamagedError",
    "FileSlice",
    "Footer",
    "KeptFile",
    "KeptTable",
    "LocalFile",
    "Lock",
    "LossyStream",
    "Maker",
    "Place",
    "PlaceLike",
    "PlainFile",
    "RandomFile",
    "RangeFile",
    "RemoteFile",
    "RemotePath",
    "Rows",
    "Stream",
    "ZipArchive",
    "allow_open_files",
    "cache_folder",
    "call_with_timeout",
    "changed_file",
    "check_accessible",
    "check_json_head",
    "check_not_input",
    "check_output",
    "check_own_folder",
    "check_space",
    "compute_hub_digests",
    "compute_sha256",
    "damaged_cache",
    "delay_forks",
    "describe_json_error",
    "describe_os_error",
    "describe_print_error",
    "discard_unprinted",
    "expand_home",
    "fetch_into",
    "find_place",
    "first_part",
    "flush",
    "flush_folder",
    "foreign_output",
    "free_bytes",
    "has_content",
    "has_local_copy",
    "has_surrogates",
    "hide_progress",
    "identify",
    "is_below",
    "is_full",
    "is_part",
    "is_proved",
    "is_remote",
    "is_unsupported",
    "is_url",
    "keep_tables",
    "lazy_property",
    "limit_threads",
    "list_sizes",
    "local_copy",
    "map_ahead",
    "normalise_path",
    "normalise_paths",
    "open_file",
    "open_kept",
    "open_missing_streams",
    "open_parquet",
    "open_place",
    "open_random",
    "open_stream",
    "open_table",
    "out_of_space",
    "outputs",
    "progress_bar",
    "read_binary_array",
    "read_ends",
    "read_file",
    "read_footer",
    "read_json_text",
    "read_unpacked_sizes",
    "recognise_wrong_file",
    "report_cache_errors",
    "report_full_disk",
    "reserve_bytes",
    "shows_progress",
    "size_of",
    "split_range",
    "stamp",
    "unreadable_file",
    "write_atomically",
    "write_kept",
    "write_proof",
    "write_text",
]

# Names of modules that import numpy and pyarrow, which most commands do not need to print their help.
_LATE = {
    "binary": {"Rows", "read_binary_array"},
    "zips": {"ZipArchive"},
    "paths": {"BadNameError", "normalise_path", "normalise_paths"},
    "kept": {
        *("DamagedError", "KeptFile", "KeptTable", "damaged_cache", "keep_tables", "open_kept", "open_table"),
        *("cache_folder", "has_local_copy", "is_proved", "local_copy", "write_kept", "write_proof"),
    },
}


def __getattr__(name: str) -> Any:
    """Import the module of a name on first access."""
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
