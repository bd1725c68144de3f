"""A folder of Parquet files that loads by name without this package: what `newsclippings build` writes."""

import functools
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from _newsclippings.config import Request, bad_value, check_path, list_configs
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, IMAGE_COLUMNS, NAME, SHARED_PICTURES, SHARED_PICTURES_MEANING
from _newsclippings.folder.built_folder import BuiltFolder, is_hidden, refuse_foreign_content, sha256_of
from _newsclippings.folder.card import MAKERS, PAIRS_FILE, write_card
from _newsclippings.folder.croissant import BESIDE, CROISSANT
from _newsclippings.folder.hub_benchmark import EVAL
from _newsclippings.folder.manifest import MANIFEST
from _newsclippings.folder.splits import SharedPictures, rows_of
from _newsclippings.folder.writer import (
    BUILDING,
    LARGER_DISK,
    LEFTOVER,
    ConfigContent,
    check_free_space,
    count_bytes_to_write,
    lock_folder,
    remove_config,
    restore_configs,
    write_config,
)
from _newsclippings.inputs import Inputs, build_id, find_inputs
from _newsclippings.pictures import folders_of, pictures_state
from _newsclippings.rows import JoinedSplit, join_config
from _newsclippings.storage import (
    Access,
    Place,
    PlaceLike,
    RemotePath,
    cache_folder,
    find_place,
    outputs,
    report_full_disk,
)

_logger = logging.getLogger("newsclippings")

LAYOUTS = ("bytes", "once", "none")
PAIRS = 4  # drawn for the card
# Columns of each row of the drawing
DRAWN = [
    *("index", "caption", "image.bytes", "falsified", "similarity_score", "source_dataset", "source", "topic"),
    *("image_source", "image_caption"),
]
TEMPORARY = re.compile(rf"({'|'.join(map(re.escape, BESIDE))})\.\d+-[0-9a-f]{{8}}\.tmp")  # see `write_atomically`


def build_folder(
    out: PlaceLike, configs: Iterable[str], storage_options: Mapping[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Write configs as Parquet files, with a card and dataset_infos.json, so that `load_dataset` finds them.

    If it is interrupted at any moment, the same call goes on from there and gives byte-identical files.

    Args:
        out: folder to write to, new or written by this; configs that are in it already are replaced, others stay. A
            path, or a URL that fsspec writes (`s3://`, `gs://`, ...): nothing is renamed there, so that a config which
            is replaced has no manifest until all of it is new, and no lock keeps a second build out.
        configs: names of configs.
        storage_options: options of fsspec for the URLs that are passed here.
        fields: fields of `Request` (`data_dir`, `visual_news`, `missing`, `splits`, ...). `images="once"`: only
            merged_balanced has an image column; the pictures of the others are in a config `images`, each stored once.

    Returns:
        Config -> split -> join report.

    Raises:
        ConfigError: `images="path"`, since a folder that travels cannot refer to files on this machine; or the folder
            holds files that something else wrote.
        NoSpaceError: the disk is too small.
        RemoteWriteError: a file could not be uploaded.
        NewsCLIPpingsError: as the builder.
    """
    access = Access(storage_options)
    out, layout = find_place(out, access), fields.pop("images", "bytes")
    if layout not in LAYOUTS:
        message = f"images={layout!r}: a folder of Parquet files has pictures in its rows, once, or none: {LAYOUTS}."
        raise ConfigError(message)
    try:
        str(out).encode()
    except UnicodeEncodeError as error:  # Arrow could not write to it
        message = f"{str(out)!a}: expected a name in UTF-8, found bytes that are not UTF-8. Choose another."
        raise ConfigError(message) from error
    names = [configs] if isinstance(configs, str) else list(configs)
    known = list_configs(check_path("data_dir", fields.get("data_dir")))
    for config in names:
        if config not in known:
            raise bad_value("configs", config, known)
    fields["images"] = "none" if layout == "none" else "bytes"
    requests = [Request(name=config, **fields) for config in known if config in names]
    layouts = {
        request.name: "bytes" if layout == "once" and request.name == DEFAULT_CONFIG else layout for request in requests
    }
    inputs = {request.name: find_inputs(request, access=access) for request in requests}
    for request in requests:
        outputs.check_not_input(out, inputs[request.name].list_places())
    if isinstance(out, RemotePath):
        with report_full_disk(tempfile.gettempdir(), "point TMPDIR to a larger disk"):
            return _build(_open_own_folder(out, layouts), requests, inputs, layouts)
    new = not out.exists()
    try:
        with report_full_disk(out, LARGER_DISK), lock_folder(out):
            return _build(_open_own_folder(out, layouts), requests, inputs, layouts)
    finally:
        if new and out.exists() and not any(out.iterdir()):
            out.rmdir()


def _build(
    folder: BuiltFolder, requests: list[Request], inputs: Mapping[str, Inputs], layouts: Mapping[str, str]
) -> dict[str, Any]:
    shares = "once" in layouts.values()
    contents = _join_all(requests, inputs, layouts)
    large = any(request.images != "none" or request.embeddings for request in requests)  # texts are small
    if large and len(contents) > 1:  # a single config is checked when it is written
        needed = sum(count_bytes_to_write(folder, content) for content in contents)
        check_free_space(folder.root, needed)
    reports: dict[str, Any] = {}
    for content in contents:
        folder = write_config(folder, content)
        if content.config != SHARED_PICTURES:
            reports[content.config] = {
                split: rows.entry.report.as_dict() for split, rows in content.splits.items() if rows.entry.report
            }
            if not folder.sharing_configs and SHARED_PICTURES in folder.manifests:  # no config needs them any more
                folder = remove_config(folder, SHARED_PICTURES)
        if not shares or content.config != requests[-1].name:  # else the shared pictures come next
            _draw_pairs(folder)
            write_card(folder, built_now=True)
    built = [folder.manifests[content.config] for content in contents]
    _logger.warning(
        "load_dataset copies a built config into the cache of datasets, as Arrow: these take about %s bytes there. "
        "Pass streaming=True to read them in place.",
        f"{sum(split.plain_bytes for manifest in built for split in manifest.splits.values()):,}",
    )
    return reports


def _join_all(requests: list[Request], inputs: Mapping[str, Inputs], layouts: Mapping[str, str]) -> list[ConfigContent]:
    """Join all configs before any is written, and collect the pictures that they share, which come last.

    Their tables are mapped from the cache, so that they take little memory together.
    """
    contents = []
    shared: dict[str, SharedPictures] = {}
    for request in requests:
        joiner, joined = join_config(request, _cache(), inputs[request.name])
        check = functools.partial(inputs[request.name].check_unchanged, inputs[request.name].list_read(request))
        layout, columns = layouts[request.name], request.columns(inputs[request.name].vectors)
        identity = _identify_build(build_id(request, inputs[request.name]), layout, joined)
        if layout == "once":
            for split, part in joined.items():
                shared.setdefault(split, SharedPictures()).add(part)
            joined = {split: part.without_pictures() for split, part in joined.items()}
            columns = {name: kind for name, kind in columns.items() if name != "image"}
        rows = {split: rows_of(part) for split, part in joined.items()}
        own = {name: files.facts for name, files in inputs[request.name].own_vectors.items()}
        generated = inputs[request.name].generated
        description = CONFIGS[request.name] if generated is None else generated.description
        contents.append(ConfigContent(request.name, description, layout, identity, columns, rows, check, own))
    if shared:
        rows = {split: pictures.rows(joiner.pictures) for split, pictures in shared.items()}
        identity = _digest(*(content.build_id for content in contents if content.layout == "once"))
        contents.append(
            ConfigContent(SHARED_PICTURES, SHARED_PICTURES_MEANING, None, identity, IMAGE_COLUMNS, rows, check)
        )
    return contents


def _cache() -> Path:
    return cache_folder() / NAME


def _identify_build(request_id: str, layout: str, joined: dict[str, JoinedSplit]) -> str:
    """Identify a build of a config: equal ids mean byte-identical files."""
    files = [files for part in joined.values() for files in (part.pictures, part.articles)]
    damages = sorted({damage for part in joined.values() for damage in part.damages})
    return _digest(request_id, layout, pa.__version__, pictures_state(*folders_of(*files)), *damages)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _draw_pairs(folder: BuiltFolder) -> None:
    """Draw pairs of the first config with pictures for the card; without pictures, remove an older drawing."""
    from _newsclippings.show import draw_sheet

    drawing = folder.root / PAIRS_FILE
    for config, manifest in folder.manifests.items():
        split = "test" if "test" in manifest.splits else next(iter(manifest.splits))
        first = next((shard for shard in manifest.shards_of(split) if shard.rows), None)
        if config == SHARED_PICTURES or not manifest.has_pictures:
            continue
        if first is not None:
            with refuse_foreign_content(folder.root / config):  # of a config that this build did not write
                batches = folder.read_shard(first, DRAWN, 2 * PAIRS)
                rows = next(batches).to_pylist()
                batches.close()
                for row in rows:  # a path could name any picture of this machine
                    row["image"] = row["image"] and {"bytes": row["image"]["bytes"], "path": None}
                if drawing.exists() and not outputs.PAIRS.wrote(drawing):  # the first version's: `_open_own_folder`
                    drawing.unlink()
                draw_sheet(rows, drawing, PAIRS, outputs.PAIRS, manifest.features["source_dataset"]["names"])
            return
    drawing.unlink(missing_ok=True)  # a build drew it: `_open_own_folder`


def _open_own_folder(out: Place, layouts: Mapping[str, str]) -> BuiltFolder:
    """Open a folder to write configs to, whose layouts are given; the caller holds its lock.

    Raises:
        ConfigError: something that no build wrote would be replaced or removed, or pictures would be lost.
        BadFileError: another config has a manifest that `build` did not write.
    """
    names = [*BESIDE, *layouts, SHARED_PICTURES, BUILDING]
    if links := [out / name for name in names if (out / name).is_symlink()]:
        message = (
            f"{links[0]}: expected a file or a folder, which can be replaced, found a symbolic link. Nothing was "
            "changed; remove the link, or choose another folder."
        )
        raise ConfigError(message)
    restore_configs(out)
    folder = BuiltFolder.open_partly(out)
    shares = "once" in layouts.values()
    replaced = [*layouts, *([SHARED_PICTURES] if shares or SHARED_PICTURES in folder.manifests else [])]
    _refuse_foreign_files(folder, replaced)
    folder.raise_first_problem()
    others = [config for config in folder.sharing_configs if config not in layouts]
    if shares and others:
        message = (
            f"{out}: the config {SHARED_PICTURES} serves {', '.join(others)}, too, and would be written without their "
            "pictures. Name those configs as well; what did not change is not written again."
        )
        raise ConfigError(message)
    for file in [file for file in out.iterdir() if TEMPORARY.fullmatch(file.name)]:
        file.unlink()
    return folder


def _refuse_foreign_files(folder: BuiltFolder, configs: list[str]) -> None:
    """Raise `ConfigError` if something that no build wrote is in the place of a config or of a file beside them."""
    out = folder.root
    makers = {**MAKERS, CROISSANT: outputs.CROISSANT, EVAL: outputs.EVAL}
    foreign = [out / name for name, maker in makers.items() if (out / name).exists() and not maker.wrote(out / name)]
    foreign += [out / PAIRS_FILE] if (out / PAIRS_FILE).exists() and not _drew_pairs(folder) else []
    foreign += [out / "newsclippings.py"] if (out / "newsclippings.py").exists() else []  # nothing would load beside it
    for config in configs:
        place, manifest = out / config, folder.manifests.get(config)
        files = place.iterdir() if place.is_dir() else [place] if place.exists() else []
        own = {MANIFEST, *(shard.name for shard in manifest.shards)} if manifest else set()
        foreign += [
            file for file in files if not (file.name in own or is_hidden(file) or LEFTOVER.fullmatch(file.name))
        ]
    if foreign:
        message = (
            f"{out}: expected a new folder, or one that `newsclippings build` wrote, found {foreign[0]}. Nothing was "
            "changed; choose another folder."
        )
        raise ConfigError(message)


def _drew_pairs(folder: BuiltFolder) -> bool:
    """Whether a build drew the pairs: by the mark in the PNG, or by the checksum that the first version wrote."""
    drawing = folder.root / PAIRS_FILE
    return outputs.PAIRS.wrote(drawing) or folder.read_sums().get(PAIRS_FILE) == sha256_of(drawing)
