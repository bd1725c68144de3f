"""A folder of Parquet files that loads by name without this package: what `newsclippings build` writes."""

import functools
import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from _newsclippings.config import Request, bad_value
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, IMAGE_COLUMNS, NAME, UNIQUE, UNIQUE_MEANING, VERSION
from _newsclippings.folder.card import MAKERS, PICTURE, write_card
from _newsclippings.folder.checksums import read_sums
from _newsclippings.folder.croissant import BESIDE, CROISSANT
from _newsclippings.folder.manifest import as_expected
from _newsclippings.folder.parquet import (
    BUILDING,
    LEFTOVER,
    MANIFEST,
    alone_in,
    bytes_to_write,
    check_room,
    is_hidden,
    load_manifest,
    remove_config,
    sha256_of,
    write_config,
)
from _newsclippings.folder.shard_file import read_shard
from _newsclippings.folder.shards import rows_of
from _newsclippings.folder.shared_pictures import PicturesInUse
from _newsclippings.inputs import build_id, inputs_of
from _newsclippings.pictures import FolderPictures, pictures_state
from _newsclippings.rows import JoinedSplit, join_config
from _newsclippings.storage import cache_folder, outputs, report_full_disk

LAYOUTS = ("bytes", "once", "none")
PAIRS = 4  # on the card
BESIDE_OF = {**MAKERS, CROISSANT: outputs.CROISSANT}
STRAY = re.compile(rf"({'|'.join(map(re.escape, BESIDE))})\.\d+-[0-9a-f]{{8}}\.tmp")  # as `write_atomically` names them
DRAWN = ["caption", "image.bytes", "falsified", "similarity_score", "source_dataset", "image_source"]  # of each row


def build_folder(out: Path, configs: Iterable[str], **fields: Any) -> dict[str, Any]:
    """Write some configs as Parquet files, with a card and dataset_infos.json, so that `load_dataset` finds them.

    Interrupted at any moment it goes on when called again with the same arguments, and gives the very same files.

    Args:
        out: folder to write to, new or written by this; configs that are in it already are replaced, others stay.
        configs: names of configs.
        fields: fields of `Request` (`data_dir`, `visual_news`, `missing`, `splits`, ...). `images="once"`:
            only merged_balanced has an image column; the pictures of the others are in a config `images`, once each.

    Returns:
        Config -> split -> join report.

    Raises:
        ConfigError: `images="path"`: a folder that travels cannot refer to files on this machine; or the folder holds
            files that something else wrote.
        NoSpaceError: the disk is too small.
        NewsCLIPpingsError: as the builder.
    """
    layout = fields.pop("images", "bytes")
    if layout not in LAYOUTS:
        message = f"images={layout!r}: a folder of Parquet files has pictures in its rows, once, or none: {LAYOUTS}."
        raise ConfigError(message)
    try:
        str(out).encode()
    except UnicodeEncodeError as error:  # Arrow could not write there
        message = f"{str(out)!a}: expected a name in UTF-8, found bytes that are not UTF-8. Choose another."
        raise ConfigError(message) from error
    wanted = [configs] if isinstance(configs, str) else list(configs)
    for config in wanted:
        if config not in CONFIGS:
            raise bad_value("configs", config, CONFIGS)
    configs = [config for config in CONFIGS if config in wanted]
    thin = [config for config in configs if layout == "once" and config != DEFAULT_CONFIG]
    fields["images"] = "none" if layout == "none" else "bytes"
    _check_apart(out, configs, fields)
    new = not out.exists()
    try:
        with report_full_disk(out, "choose a folder on a larger disk"), alone_in(out):
            _check_ours(out, [*configs, *([UNIQUE] if thin else [])])
            _check_all_thin(out, configs, thin)
            for stray in [file for file in out.iterdir() if STRAY.fullmatch(file.name)]:  # of a build that was killed
                stray.unlink()
            return _build(out, configs, thin, fields)
    finally:
        if new and out.exists() and not any(out.iterdir()):
            out.rmdir()


def _check_apart(out: Path, configs: list[str], fields: dict[str, Any]) -> None:
    """Refuse a folder that is an input, lies in one or holds one."""
    for config in configs:
        outputs.check_apart(out, inputs_of(Request(name=config, **fields)).places())


def _build(out: Path, configs: list[str], thin: list[str], fields: dict[str, Any]) -> dict[str, Any]:
    large = fields["images"] != "none" or fields.get("embeddings")  # texts are small, and written as fast as joined
    if large and (len(configs) > 1 or thin):  # of one, it is checked when it is joined
        _check_room(out, configs, thin, fields)
    reports: dict[str, Any] = {}
    pictures: dict[str, PicturesInUse] = {}
    digests = []
    for config in configs:
        request = Request(name=config, **fields)
        inputs = inputs_of(request)
        check = functools.partial(inputs.check_unchanged, request)
        assembly, joined = join_config(request, _cache(), inputs)
        layout = _layout(config, thin, fields)
        made_of = _made_of(build_id(request, inputs), layout, joined)
        reports[config] = {split: one.report.as_dict() for split, one in joined.items()}
        columns = request.columns()
        if config in thin:
            digests.append(made_of)
            joined = _apart(joined, pictures)
            columns = {name: kind for name, kind in columns.items() if name != "image"}
        about = {"config": config, "version": VERSION, "description": CONFIGS[config], "layout": layout}
        about["made_of"] = made_of
        write_config(out, config, {split: rows_of(one) for split, one in joined.items()}, columns, about, check)
        if config == configs[-1] and thin:
            served = {"config": UNIQUE, "version": VERSION, "description": UNIQUE_MEANING, "made_of": _digest(*digests)}
            rows = {split: used.rows(assembly.pictures) for split, used in pictures.items()}
            write_config(out, UNIQUE, rows, IMAGE_COLUMNS, served, check)
        elif not any(_is_thin(out / other) for other in CONFIGS) and load_manifest(out / UNIQUE):
            remove_config(out / UNIQUE)  # which serves nobody any more
        _draw_pairs(out)
        write_card(out, built_now=True)
    return reports


def _layout(config: str, thin: list[str], fields: dict[str, Any]) -> str:
    return "once" if config in thin else str(fields["images"])


def _apart(joined: dict[str, JoinedSplit], pictures: dict[str, PicturesInUse]) -> dict[str, JoinedSplit]:
    """Add the pictures of a thin config to those in use; its splits without them."""
    for split, one in joined.items():
        pictures.setdefault(split, PicturesInUse()).add(one)
    return {split: one.without_pictures() for split, one in joined.items()}


def _check_room(out: Path, configs: list[str], thin: list[str], fields: dict[str, Any]) -> None:
    """Refuse what does not fit on the disk, all of it together, before any is written.

    That takes a join of each config more, some seconds of the largest; to hold them all would take gigabytes. What a
    config lacks is reported now, too, and not after others were written.
    """
    needed, digests = 0, []
    pictures: dict[str, PicturesInUse] = {}
    log = logging.getLogger(NAME)
    level = log.level
    log.setLevel(logging.ERROR)  # the reports are logged when the rows are written
    try:
        for config in configs:
            request = Request(name=config, **fields)
            inputs = inputs_of(request)
            assembly, joined = join_config(replace(request, check_images=False), _cache(), inputs)
            made_of = _made_of(build_id(request, inputs), _layout(config, thin, fields), joined)
            if config in thin:
                digests.append(made_of)
                joined = _apart(joined, pictures)
            rows = {split: rows_of(one) for split, one in joined.items()}
            needed += bytes_to_write(out, config, made_of, rows)
        if thin:
            rows = {split: used.rows(assembly.pictures) for split, used in pictures.items()}
            needed += bytes_to_write(out, UNIQUE, _digest(*digests), rows)
    finally:
        log.setLevel(level)
    check_room(out, needed)


def _cache() -> Path:
    return cache_folder() / NAME


def _check_all_thin(out: Path, configs: list[str], thin: list[str]) -> None:
    """Refuse to write the config of pictures without those that a config of an earlier build needs."""
    others = [config for config in CONFIGS if config not in configs and _is_thin(out / config)]
    if thin and others:
        message = (
            f"{out}: the config {UNIQUE} serves {', '.join(others)}, too, and would be written without their pictures. "
            "Name those configs as well; what did not change is not written again."
        )
        raise ConfigError(message)


def _is_thin(folder: Path) -> bool:
    """Whether the pictures of a config are in the config `UNIQUE`."""
    return (load_manifest(folder) or {}).get("layout") == "once"


def _draw_pairs(out: Path) -> None:
    """Draw some pairs for the card, if there are pictures."""
    from _newsclippings.show import draw_sheet

    for config in CONFIGS:
        manifest = load_manifest(out / config) or {"features": {}}
        if "image" in manifest["features"]:
            split = "test" if "test" in manifest["splits"] else next(iter(manifest["splits"]))
            filled = (name for name, about in manifest["files"].items() if about["split"] == split and about["rows"])
            first = next(filled, None)
            if first is None:
                continue
            with as_expected(out / config):  # another build may have written it, or somebody else
                batches = read_shard(
                    out / config / first, manifest["files"][first], manifest["features"], DRAWN, 2 * PAIRS
                )
                rows = next(batches).to_pylist()
                batches.close()
                for row in rows:  # a path could name any picture of this machine
                    row["image"] = row["image"] and {"bytes": row["image"]["bytes"], "path": None}
                if (out / PICTURE).exists() and not outputs.PAIRS.wrote(
                    out / PICTURE
                ):  # of the first version: `_check_ours`
                    (out / PICTURE).unlink()
                draw_sheet(rows, out / PICTURE, PAIRS, outputs.PAIRS)
            return
    (out / PICTURE).unlink(missing_ok=True)  # which is ours: `_check_ours`


def _made_of(identity: str, layout: str, joined: dict[str, JoinedSplit]) -> str:
    """Tells a build from any other that would give other files: inputs, fields, code, and what writes the Parquet."""
    files = [some for one in joined.values() for some in (one.pictures, one.articles)]
    folders = {id(some): some for some in files if isinstance(some, FolderPictures)}
    return _digest(identity, layout, pa.__version__, pictures_state(*folders.values()))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _drew(out: Path) -> bool:
    """Whether the picture of pairs is a build's: by the mark in it, or, of the first version, by its checksum."""
    return outputs.PAIRS.wrote(out / PICTURE) or read_sums(out).get(PICTURE) == sha256_of(out / PICTURE)


def _check_ours(out: Path, configs: list[str]) -> None:
    """Refuse to replace what `build` did not write."""
    foreign = [out / name for name, maker in BESIDE_OF.items() if (out / name).exists() and not maker.wrote(out / name)]
    foreign += [out / PICTURE] if (out / PICTURE).exists() and not _drew(out) else []
    foreign += [out / "newsclippings.py"] if (out / "newsclippings.py").exists() else []  # nothing would load beside it
    if load_manifest(out / UNIQUE):  # it may be removed
        configs = [*configs, UNIQUE]
    names = [*BESIDE, *{*configs, UNIQUE}, BUILDING]
    links = [out / name for name in names if (out / name).is_symlink()]
    if links:
        message = (
            f"{links[0]}: expected a file or a folder, which can be replaced, found a symbolic link. Nothing was "
            "changed; remove the link, or choose another folder."
        )
        raise ConfigError(message)
    for config in configs:
        folder, manifest = out / config, load_manifest(out / config)
        files = folder.iterdir() if folder.is_dir() else [folder] if folder.exists() else []
        ours_here = {MANIFEST, *manifest["files"]} if manifest else set()
        foreign += [
            file for file in files if not (file.name in ours_here or is_hidden(file) or LEFTOVER.fullmatch(file.name))
        ]
    if foreign:
        message = (
            f"{out}: expected a new folder, or one that `newsclippings build` wrote, found {foreign[0]}. Nothing was "
            "changed; choose another folder."
        )
        raise ConfigError(message)
