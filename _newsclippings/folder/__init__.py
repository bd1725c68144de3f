"""Built folders: Parquet files, manifests, checksums, the card and Croissant metadata."""

from _newsclippings.folder.build import build_folder
from _newsclippings.folder.card import LARGEST_CARD, MAKERS, PICTURE, card_files, check_card, stale_files, write_card
from _newsclippings.folder.charts import FOLDER, NUMBERS, current_charts, digests_of_manifests, is_chart
from _newsclippings.folder.checksums import LARGEST_BESIDE, SUMS, other_content, read_sums, sha256_of_small
from _newsclippings.folder.croissant import BESIDE, CROISSANT, croissant_text, write_croissant
from _newsclippings.folder.infos import dataset_infos_text, is_current
from _newsclippings.folder.manifest import Manifests, as_expected, manifests, require_pictures, shows_pictures, version
from _newsclippings.folder.manifest_rules import AGAIN
from _newsclippings.folder.parquet import (
    BUILDING,
    LEFTOVERS,
    MANIFEST,
    is_hidden,
    load_manifest,
    read_manifest,
    sha256_of,
)
from _newsclippings.folder.shard_file import check_shard, read_shard
from _newsclippings.folder.shards import IdsDigest, bytes_of, bytes_of_pictures, rows_of

__all__ = [
    "AGAIN",
    "BESIDE",
    "BUILDING",
    "CROISSANT",
    "FOLDER",
    "LARGEST_BESIDE",
    "LARGEST_CARD",
    "LEFTOVERS",
    "MAKERS",
    "MANIFEST",
    "NUMBERS",
    "PICTURE",
    "SUMS",
    "IdsDigest",
    "Manifests",
    "as_expected",
    "build_folder",
    "bytes_of",
    "bytes_of_pictures",
    "card_files",
    "check_card",
    "check_shard",
    "croissant_text",
    "current_charts",
    "dataset_infos_text",
    "digests_of_manifests",
    "is_chart",
    "is_current",
    "is_hidden",
    "load_manifest",
    "manifests",
    "other_content",
    "read_manifest",
    "read_shard",
    "read_sums",
    "require_pictures",
    "rows_of",
    "sha256_of",
    "sha256_of_small",
    "shows_pictures",
    "stale_files",
    "version",
    "write_card",
    "write_croissant",
]
