"""A copy of a built folder without some columns, such as pictures that may not be passed on."""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.folder.built_folder import BuiltFolder, other_content, refuse_foreign_content, sha256_of
from _newsclippings.folder.manifest import Manifest, ShardEntry
from _newsclippings.folder.shards import allow_null_vectors, check_shard, describe_shard, write_shard
from _newsclippings.storage import PlainFile, report_full_disk


def write_thin(folder: BuiltFolder, columns: Collection[str], out: Path) -> BuiltFolder:
    """Write a folder with the same rows, and without some columns and the config of shared pictures.

    Each file is compared with its SHA-256 before it is read. Equal folders give byte-identical files.

    Args:
        folder: the built folder, which stays as it is.
        columns: the columns to leave out.
        out: an empty folder.

    Raises:
        BadFileError: a file is not what `newsclippings build` wrote.
        NoSpaceError: the disk is full.
    """
    thin = BuiltFolder(out, {})
    with report_full_disk(out, "set TMPDIR to a folder on a larger disk"):
        for config, manifest in folder.manifests.items():
            if config != SHARED_PICTURES:
                thin = thin.with_manifest(_write_config(folder, manifest, columns, out / config))
    return thin


def _write_config(folder: BuiltFolder, manifest: Manifest, columns: Collection[str], out: Path) -> Manifest:
    out.mkdir()
    features = {name: kind for name, kind in manifest.features.items() if name not in columns}
    shards = tuple(_write_shard(folder, manifest, shard, features, out) for shard in manifest.shards)
    splits = {
        name: replace(split, plain_bytes=sum(shard.plain_bytes for shard in shards if shard.split == name))
        for name, split in manifest.splits.items()
    }
    build_id = hashlib.sha256(json.dumps([manifest.build_id, [*features]]).encode()).hexdigest()
    thin = replace(manifest, layout="none", build_id=build_id, features=features, splits=splits, shards=shards)
    return thin.write(out)


def _write_shard(
    folder: BuiltFolder, manifest: Manifest, shard: ShardEntry, features: dict[str, object], out: Path
) -> ShardEntry:
    file = out / shard.name
    with contextlib.closing(PlainFile(folder.local_root, shard.path)) as opened, refuse_foreign_content(opened.place):
        check_shard(opened.place, shard, manifest.features, opened.path)
        with open(opened.path, "rb") as whole:
            sha256 = hashlib.file_digest(whole, "sha256").hexdigest()
        if sha256 != shard.sha256:
            raise other_content(opened.place, shard.sha256, sha256)
        with pq.ParquetFile(opened.path, pre_buffer=False) as parquet:
            kept = pa.schema([parquet.schema_arrow.field(name) for name in features])
            schema = allow_null_vectors(kept, manifest.splits.values())
            schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            write_shard(file, _read_groups(parquet, [*features]), schema, lambda _: None)
        opened.check_unchanged()
    return describe_shard(file, shard.config, shard.split, sha256_of(file))


def _read_groups(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    row = 0
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group, columns=columns, use_threads=False)
        yield row, table.replace_schema_metadata(None)
        row += len(table)
