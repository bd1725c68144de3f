"""`newsclippings verify`: what of the inputs is there, and whether it is right. Builds nothing."""

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.check.digests import check_digests
from _newsclippings.check.report import VERIFY_AGAIN, Report
from _newsclippings.check.rules import check_pictures, check_rows, check_splits
from _newsclippings.config import as_path, bad_value
from _newsclippings.corpus import Corpus
from _newsclippings.errors import DataNotFoundError, NewsCLIPpingsError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, SPLITS
from _newsclippings.folder import rows_of
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.pictures import FolderPictures, Pictures
from _newsclippings.rows import JoinedSplit, join, raise_if_incomplete, wanted_ids
from _newsclippings.storage import LocalFile, cache_folder, free_at, is_url
from _newsclippings.tables import Int32s, Int64s, int64s, lookup, one_chunk
from _newsclippings.tar import BLOCK, TarArchive, check_magic, damaged_tar, longest_end, walk_headers
from _newsclippings.text import without_secrets
from _newsclippings.vectors import read_embedding_ids

Key = tuple[str, str]  # config and split


def verify(
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: str | os.PathLike[str] | None = None,
    *,
    configs: str | Iterable[str] | None = None,
    images: str | None = None,
    embeddings: bool = False,
    checksums: bool = False,
    visual_news_index: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Report:
    """Say what of the inputs is there and whether it is right, in seconds, without building anything.

    Args:
        data_dir: folder with the official tree, as the field of `NewsCLIPpingsConfig`.
        visual_news: the folder `origin`, or `origin.tar`, likewise.
        configs: names of configs. Default: those whose matches are all on this machine, else merged_balanced.
        images: None to see whether each needed picture is there; `"header"` to read them and look at format, size and
            end; `"decode"` to decode them.
        embeddings: whether to look at the authors' embeddings.
        checksums: whether to compute the SHA-256 of each file, and to ask the Hub for those of the authors' files.
        visual_news_index: an index of the tar, likewise.
        cache_dir: of `datasets`: the index of a tar is kept there, as for a build.

    Returns:
        The report; `report.sound` says whether a build would have all it needs, and have it right. Where no file has
        the published number of rows they are taken for files of your own, and that is a note; else it is a fault.

    Raises:
        ConfigError: an argument has a value that means nothing.
    """
    if images not in (None, "header", "decode"):
        raise bad_value("images", images, ("header", "decode"))
    if configs is not None and not isinstance(configs, Iterable):
        raise bad_value("configs", configs, CONFIGS)
    configs = [configs] if isinstance(configs, str) else list(configs or ())
    for config in configs:
        if config not in CONFIGS:
            raise bad_value("configs", config, CONFIGS)
    for flag, value in (("embeddings", embeddings), ("checksums", checksums)):
        if not isinstance(value, bool):
            raise bad_value(flag, value, (True, False))
    report = Report()
    given = {"data_dir": data_dir, "visual_news": visual_news, "visual_news_index": visual_news_index}
    places = {name: as_path(name, place) for name, place in given.items()}
    chosen = configs or _local_configs(places)
    keys = [(config, split) for config in CONFIGS if config in chosen for split in SPLITS]
    found = {key: inputs for key in keys if (inputs := _find(report, key, places)) is not None}
    matches = {}
    for (config, split), inputs in found.items():
        _list(report, f"matches of {config}/{split}", inputs.matches[split])
        with report.collecting(without_secrets(inputs.matches[split])):
            matches[config, split] = read_matches(inputs.matches[split], config)
    for (config, split), table in matches.items():
        report.counts.setdefault(config, {})[split] = check_rows(report, config, split, table)
    check_splits(report, matches)
    cache = Path(cache_dir or cache_folder(), "newsclippings")
    _Join(report, found, matches, cache).check(images)
    if embeddings:
        _check_embeddings(report, found, matches, places)
    if checksums:
        check_digests(report)
    needed = sum(about.get("bytes", 0) for splits in report.counts.values() for about in splits.values())
    here, there = free_at("."), free_at(cache)
    report.notes.append(
        f"A build takes about {needed:,} bytes; {here:,} are free in this folder, for `newsclippings build`, and "
        f"{there:,} where the cache of `datasets` is, for `load_dataset`."
    )
    room = "" if needed < here else "make room, or go to a folder on a larger disk; then "
    options = [f"--config {config}" for config in chosen]
    options += [f"--{name.replace('_', '-')} {shlex.quote(place)}" for name, place in places.items() if place]
    build = f"newsclippings build newsclippings {without_secrets(' '.join(options))}"
    report.next = f"Next: {room}`{build}`." if report.sound else VERIFY_AGAIN
    return report


class _Join:
    """The matches that could be read, and the records and pictures that they are joined with."""

    def __init__(self, report: Report, found: dict[Key, Inputs], matches: dict[Key, pa.Table], cache: Path) -> None:
        self.report, self.found, self.matches, self.cache = report, found, matches, cache
        self.tar: TarArchive | None = None
        self.pictures: dict[str, Pictures] = {}  # by split; of all of its records
        self.no_pictures = False  # whether they cannot be looked for
        self.odd: list[NewsCLIPpingsError] = []  # pictures that are there and cannot be read

    def check(self, images: str | None) -> None:
        """Join everything, and look at the pictures it needs."""
        if not self.found:
            return
        inputs = next(iter(self.found.values()))
        inputs = replace(inputs, metadata={k: v for i in self.found.values() for k, v in i.metadata.items()})
        if inputs.tar is not None:
            self.tar = TarArchive(inputs.tar, inputs.tar_index, self.cache, kept=False, whole=False)
            _list(self.report, "VisualNews", inputs.tar)
            if inputs.pictures != inputs.tar:
                self._check_unused_tar(inputs.tar)
        if inputs.tar_index is not None:
            _list(self.report, "index of the tar", inputs.tar_index)
        splits = {split: [t for (_, s), t in self.matches.items() if s == split] for split in SPLITS}
        wanted = {split: wanted_ids(*tables) for split, tables in splits.items() if tables}
        corpora, known = self._records(inputs, wanted)
        if inputs.pictures is None:
            with self.report.collecting("VisualNews"):
                inputs.require_pictures()
        needed: dict[str, list[Int64s]] = {}
        for (config, split), table in self.matches.items():
            counts = self.report.counts[config][split]
            counts["unknown_ids"] = int((~np.isin(wanted_ids(table), known)).sum())
            if split in corpora:
                needed.setdefault(split, []).append(self._join(config, split, table, corpora[split], inputs))
        if self.odd:
            more = f" So it is with {len(self.odd) - 1:,} more pictures." if len(self.odd) > 1 else ""
            self.report.note_fault(False, str(self.odd[0]).partition(": ")[0], f"{self.odd[0]}{more}")
        if images is not None:
            each = [(pictures, np.concatenate(needed[split])) for split, pictures in self.pictures.items()]
            check_pictures(self.report, each, images == "decode")
        if self.tar is not None and self.tar.known_damage:
            path = self.tar.file.path
            self.report.note_fault(False, path, str(damaged_tar(path, self.tar.known_damage)))

    def _check_unused_tar(self, tar: str) -> None:
        """A glance at a tar that pictures do not come from: its first bytes, and whether its end is one."""
        with self.report.collecting(tar), LocalFile(tar) as file:
            check_magic(file)
            if any(file.read_at(max(0, file.size - 2 * BLOCK), 2 * BLOCK)):
                raise damaged_tar(tar, "it has no end marker: it was cut off")
            longest = longest_end(file.size)
            if not any(file.read_at(max(0, file.size - longest - BLOCK), BLOCK)):  # more zeros than a tar ends with
                damage = walk_headers(file)[1]  # unless they belong to its last file
                if damage is not None:
                    raise damaged_tar(tar, damage)

    def _records(self, inputs: Inputs, wanted: dict[str, Int64s]) -> tuple[dict[str, pa.Table], Int64s]:
        """Split -> the records that a build would take; and all ids that any corpus knows."""
        used: dict[str, pa.Table] = {}
        with_tar = inputs.pictures is not None and inputs.pictures == inputs.tar
        corpus = Corpus(inputs, self.tar, with_tar, False, False, self.cache)
        if inputs.data_json is not None:
            _list(self.report, "records", inputs.data_json)
        with self.report.collecting(without_secrets(inputs.data_json or inputs.tar or "data.json")):
            if wanted and corpus.data_json is not None:
                used = corpus.read_records(wanted)
        known = [int64s(table["id"]) for table in used.values()]
        for split, ids in wanted.items():
            location = inputs.metadata[split]
            _list(self.report, f"metadata of {split}", location)
            if is_url(location):
                if split not in used:
                    self.report.note_fault(
                        True, location, _elsewhere(location, "taking captions where there is no data.json")
                    )
                continue
            with self.report.collecting(location):
                table = corpus.read_metadata(split, ids, with_metadata=False)
                known.append(int64s(table["id"]))
                used.setdefault(split, table)
        return used, np.concatenate([np.empty(0, np.int64), *known])

    def _join(self, config: str, split: str, matches: pa.Table, corpus: pa.Table, inputs: Inputs) -> Int64s:
        """Join a split as a build does; gives the records whose pictures it needs."""
        looked_in = f"pictures {without_secrets(inputs.pictures or 'nowhere')}, records of data.json or metadata"
        rows = join(matches, corpus)
        pictures = self._look(split, inputs.pictures, corpus, rows.image_row) if inputs.pictures else None
        joined = JoinedSplit(config, split, rows, "bytes", "null", pictures, looked_in=looked_in)
        counts = self.report.counts[config][split]
        counts["complete"], counts["missing"] = joined.report.resolved, joined.report.missing
        counts["bytes"] = int(rows_of(joined).sizes.sum())
        with self.report.collecting(f"{config}/{split}"):
            raise_if_incomplete(config, {split: joined.report}, looked_in)
        return rows.image_row.astype(np.int64)

    def _look(self, split: str, place: str, corpus: pa.Table, rows: Int32s) -> Pictures | None:
        """The pictures of a split, some of which are looked for; None if that cannot be done."""
        with self.report.collecting(without_secrets(place)):
            if split not in self.pictures and not self.no_pictures:
                paths, self.no_pictures = one_chunk(corpus["image_path"]), True
                in_tar = self.tar is not None and not os.path.isdir(place)
                self.pictures[split] = (
                    self.tar.pictures(paths) if self.tar and in_tar else FolderPictures(place, paths, self.odd.append)
                )
                self.no_pictures = False
            if split in self.pictures:
                self.pictures[split].look(rows)
        looked = "No picture could be" if self.no_pictures else "Pictures were"
        if (note := f"{looked} looked for in {without_secrets(place)}.") not in self.report.notes:
            self.report.notes.append(note)
        return self.pictures.get(split)


def _local_configs(places: dict[str, str | None]) -> list[str]:
    """Configs whose matches are all on this machine; merged_balanced if there is none."""
    local = []
    for config in CONFIGS:
        found = [_try_to_find((config, split), {"data_dir": places["data_dir"]}) for split in SPLITS]
        if all(isinstance(one, Inputs) and not any(map(is_url, one.matches.values())) for one in found):
            local.append(config)
    return local or [DEFAULT_CONFIG]


def _find(report: Report, key: Key, places: dict[str, str | None]) -> Inputs | None:
    """Where the inputs of a split are; what leads nowhere is noted, and left out."""
    odd: list[DataNotFoundError] = []
    found = _try_to_find(key, places, odd=odd.append)
    named = {str(error).partition(": ")[0]: str(error) for error in odd}
    for place, message in named.items():
        report.note_fault(True, place, message)
    if isinstance(found, Inputs):
        told = any(place.endswith(f"{key[0]}/{SPLITS[key[1]]}.json") for place in named)
        return None if told and is_url(found.matches[key[1]]) else found
    without = _try_to_find(key, {"data_dir": places["data_dir"]})
    place = "visual_news" if isinstance(without, Inputs) else places["data_dir"] or "data_dir"
    report.note_fault(True, place, str(found))
    return without if isinstance(without, Inputs) else None


def _try_to_find(key: Key, places: dict[str, Any], kinds: Iterable[str] = (), **odd: Any) -> Inputs | DataNotFoundError:
    try:
        return find_inputs(key[0], [key[1]], embeddings=list(kinds), **places, **odd)
    except DataNotFoundError as error:
        return error


def _check_embeddings(
    report: Report, found: dict[Key, Inputs], matches: dict[Key, pa.Table], places: dict[str, str | None]
) -> None:
    """Read the pickles' ids: how many rows of each split have a vector."""
    read: dict[str, tuple[Int64s, int]] = {}
    for key, kind in ((key, kind) for key in found for kind in EMBEDDINGS):
        sources = _try_to_find(key, {"data_dir": places["data_dir"]}, [kind])
        if not isinstance(sources, Inputs):
            report.note_fault(True, f"{kind} of {key[1]}", str(sources))
            continue
        location, about = sources.embeddings[kind][key[1]], EMBEDDINGS[kind]
        if location not in report.files:
            _list(report, f"{kind} of {key[1]}", location)
            if is_url(location):
                report.note_fault(True, location, _elsewhere(location, f"embeddings={kind!r}"))
                continue
            with report.collecting(location):
                read[location] = read_embedding_ids(location, about.width, about.faces)
        if location in read and key in matches:
            ids, size = read[location]
            rows = int((lookup(np.sort(ids), int64s(matches[key][about.key])) >= 0).sum())
            if not rows:
                expected = f"vectors of the {len(matches[key]):,} rows of {key[0]}/{key[1]}"
                fault = f"{location}: expected {expected}, found none. Is it the file of another split? Fetch it again."
                report.note_fault(False, location, fault)
            counts = report.counts[key[0]][key[1]]
            counts.setdefault("coverage", {})[kind] = rows
            counts["bytes"] = counts.get("bytes", 0) + rows * size // max(1, len(ids))


def _elsewhere(location: str, what: str) -> str:
    return f"{location} is not on this machine: {what} needs it. A build fetches it, or put a copy below data_dir."


def _list(report: Report, what: str, location: str) -> None:
    there = not is_url(location) and os.path.isfile(location)
    report.files[without_secrets(location)] = {"is": what, "bytes": os.path.getsize(location) if there else None}
