"""Bytes on disks and servers: open, fetch, write and keep them, and name what is wrong with them."""

import importlib
from typing import TYPE_CHECKING, Any

from _newsclippings.storage import outputs
from _newsclippings.storage.disk import (
    ELSEWHERE,
    changed_file,
    check_known,
    check_space,
    describe_os_error,
    extend,
    flush,
    flush_folder,
    free_at,
    is_full,
    is_lacking,
    ran_out_of_space,
    report_cache_errors,
    report_full_disk,
    unreadable,
)
from _newsclippings.storage.files import (
    HEAD,
    Stream,
    check_json_head,
    fingerprint,
    hub_digests,
    open_stream,
    read_json_text,
    what_instead,
    write_atomically,
    write_text,
)
from _newsclippings.storage.local import LocalFile, Member, RandomFile, holds, open_file, read_file
from _newsclippings.storage.network import PAUSE, TRIES, in_time, is_url
from _newsclippings.storage.outputs import (
    CARD,
    CHART,
    EMBEDDINGS,
    INDEX,
    INFOS,
    PREVIEW_PAGE,
    PREVIEW_PICTURE,
    SOFTWARE,
    STATS,
    Maker,
    check_apart,
    check_folder,
    check_output,
    foreign_output,
    read_edges,
)
from _newsclippings.storage.parquet_footer import Footer, read_footer, unpacked_sizes
from _newsclippings.storage.plain_files import PlainFile, allow_open_files
from _newsclippings.storage.remote import PIECE, RemoteFile, open_random, pieces
from _newsclippings.storage.standard_streams import Patient, forget_unprinted, not_printed, open_missing
from _newsclippings.storage.strict_json import DECODER, TRUNCATED, has_surrogates, json_fault
from _newsclippings.storage.threads import Lock, as_many, computed_once, map_ahead, no_fork

if TYPE_CHECKING:
    from _newsclippings.storage.binary import Rows, read_binary
    from _newsclippings.storage.downloads import cache_folder, local_copy
    from _newsclippings.storage.kept import (
        DamagedError,
        KeptFile,
        KeptTable,
        damaged_cache,
        kept_tables,
        open_kept,
        write_kept,
    )
    from _newsclippings.storage.paths import BadName, relative_path, relative_paths
    from _newsclippings.storage.proofs import is_proved, write_proof

__all__ = [
    "CARD",
    "CHART",
    "DECODER",
    "ELSEWHERE",
    "EMBEDDINGS",
    "HEAD",
    "INDEX",
    "INFOS",
    "PAUSE",
    "PIECE",
    "PREVIEW_PAGE",
    "PREVIEW_PICTURE",
    "SOFTWARE",
    "STATS",
    "TRIES",
    "TRUNCATED",
    "BadName",
    "DamagedError",
    "Footer",
    "KeptFile",
    "KeptTable",
    "LocalFile",
    "Lock",
    "Maker",
    "Member",
    "Patient",
    "PlainFile",
    "RandomFile",
    "RemoteFile",
    "Rows",
    "Stream",
    "allow_open_files",
    "as_many",
    "cache_folder",
    "changed_file",
    "check_apart",
    "check_folder",
    "check_json_head",
    "check_known",
    "check_output",
    "check_space",
    "computed_once",
    "damaged_cache",
    "describe_os_error",
    "extend",
    "fingerprint",
    "flush",
    "flush_folder",
    "foreign_output",
    "forget_unprinted",
    "free_at",
    "has_surrogates",
    "holds",
    "hub_digests",
    "in_time",
    "is_full",
    "is_lacking",
    "is_proved",
    "is_url",
    "json_fault",
    "kept_tables",
    "local_copy",
    "map_ahead",
    "no_fork",
    "not_printed",
    "open_file",
    "open_kept",
    "open_missing",
    "open_random",
    "open_stream",
    "outputs",
    "pieces",
    "ran_out_of_space",
    "read_binary",
    "read_edges",
    "read_file",
    "read_footer",
    "read_json_text",
    "relative_path",
    "relative_paths",
    "report_cache_errors",
    "report_full_disk",
    "unpacked_sizes",
    "unreadable",
    "what_instead",
    "write_atomically",
    "write_kept",
    "write_proof",
    "write_text",
]

# These need numpy and pyarrow, and most commands print their help without them.
_LATE = {
    "is_proved": "proofs",
    "write_proof": "proofs",
    "cache_folder": "downloads",
    "local_copy": "downloads",
    "BadName": "paths",
    "DamagedError": "kept",
    "KeptFile": "kept",
    "KeptTable": "kept",
    "kept_tables": "kept",
    "Rows": "binary",
    "damaged_cache": "kept",
    "open_kept": "kept",
    "read_binary": "binary",
    "relative_path": "paths",
    "relative_paths": "paths",
    "write_kept": "kept",
}


def __getattr__(name: str) -> Any:
    """A name of a module that is imported when it is first asked for."""
    if name not in _LATE:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
