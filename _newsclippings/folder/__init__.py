"""Built folders: Parquet files, manifests, checksums, the card and Croissant metadata."""

from _newsclippings.folder.build import build_folder
from _newsclippings.folder.built_folder import (
    ALL_CONFIGS,
    CHARTS_FOLDER,
    LARGEST_BESIDE,
    STATS_FILE,
    SUMS,
    BuiltFolder,
    find_configs,
    is_chart,
    is_hidden,
    order_configs,
    other_content,
    refuse_foreign_content,
    sha256_of,
)
from _newsclippings.folder.card import (
    LARGEST_CARD,
    MAKERS,
    PAIRS_FILE,
    README,
    card_texts,
    check_card,
    stale_files,
    write_card,
)
from _newsclippings.folder.croissant import BESIDE, CROISSANT, croissant_text, write_croissant
from _newsclippings.folder.hub_benchmark import EVAL, eval_text, write_eval
from _newsclippings.folder.infos import dataset_infos_text, is_current
from _newsclippings.folder.manifest import AGAIN, MANIFEST, Manifest, ShardEntry, SplitEntry
from _newsclippings.folder.reading import list_pairs, stream_built_rows
from _newsclippings.folder.splits import IdsDigest, bytes_of, bytes_of_pictures, rows_of
from _newsclippings.folder.thin import write_thin
from _newsclippings.folder.writer import BUILDING, LEFTOVERS, lock_folder

__all__ = [
    "AGAIN",
    "ALL_CONFIGS",
    "BESIDE",
    "BUILDING",
    "CHARTS_FOLDER",
    "CROISSANT",
    "EVAL",
    "LARGEST_BESIDE",
    "LARGEST_CARD",
    "LEFTOVERS",
    "MAKERS",
    "MANIFEST",
    "PAIRS_FILE",
    "README",
    "STATS_FILE",
    "SUMS",
    "BuiltFolder",
    "IdsDigest",
    "Manifest",
    "ShardEntry",
    "SplitEntry",
    "build_folder",
    "bytes_of",
    "bytes_of_pictures",
    "card_texts",
    "check_card",
    "croissant_text",
    "dataset_infos_text",
    "eval_text",
    "find_configs",
    "is_chart",
    "is_current",
    "is_hidden",
    "list_pairs",
    "lock_folder",
    "order_configs",
    "other_content",
    "refuse_foreign_content",
    "rows_of",
    "sha256_of",
    "stale_files",
    "stream_built_rows",
    "write_card",
    "write_croissant",
    "write_eval",
    "write_thin",
]
