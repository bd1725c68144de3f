"""`newsclippings verify`: check which inputs exist and whether they are intact, without building anything."""

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.check.digests import check_digests
from _newsclippings.check.report import SHOWN, VERIFY_AGAIN, Report
from _newsclippings.check.rules import check_pictures, check_rows, check_splits
from _newsclippings.config import Request, bad_value, check_locations, check_path, list_configs
from _newsclippings.corpus import Corpus, check_records
from _newsclippings.errors import DataNotFoundError, NewsCLIPpingsError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, SPLITS
from _newsclippings.folder import rows_of
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.pictures import Layout, Pictures, PictureSources
from _newsclippings.rows import JoinedSplit, join, raise_if_incomplete, wanted_ids
from _newsclippings.storage import Access, LocalFile, cache_folder, free_bytes, is_url
from _newsclippings.tables import Int32s, Int64s, as_array, int64s, lookup, one_chunk
from _newsclippings.tar import BLOCK, TarArchive, check_magic, damaged_tar, longest_end, walk_headers
from _newsclippings.text import option, without_secrets
from _newsclippings.vectors import read_embedding_ids

Key = tuple[str, str]  # config and split


def verify(
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    *,
    configs: str | Iterable[str] | None = None,
    images: str | None = None,
    embeddings: bool = False,
    checksums: bool = False,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> Report:
    """Check which input files you have and whether they are intact, without building anything.

    Args:
        data_dir: folder with the official tree, as in `NewsCLIPpingsConfig`.
        visual_news: one location of VisualNews, or a list, as in `NewsCLIPpingsConfig`.
        configs: names of configs. Unset: those with all matches on this machine, else merged_balanced.
        images: None checks whether each needed picture exists; `"header"` also checks its format, size and end;
            `"decode"` also decodes it.
        embeddings: whether to check the authors' embeddings.
        checksums: whether to compute the SHA-256 of each file, and compare the authors' files with the Hub.
        visual_news_index: an index of the tar, as in `NewsCLIPpingsConfig`. If it has checksums of data, the whole tar
            is read and compared with them; a remote one only if `checksums` is set.
        links: as in `NewsCLIPpingsConfig`.
        links_root: as in `NewsCLIPpingsConfig`.
        cache_dir: the cache folder of `datasets`, where the index of a tar is kept, as in a build.
        storage_options: options of fsspec for URLs that are passed here, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        The report. If `report.sound`, a build has all that it needs. If no file has the published number of rows, the
        files are taken for your own, which is a note; if only some have it, the others are a fault.

    Raises:
        ConfigError: an argument has a value that cannot be used.
    """
    if images not in (None, "header", "decode"):
        raise bad_value("images", images, ("header", "decode"))
    if configs is not None and not isinstance(configs, Iterable):
        raise bad_value("configs", configs, CONFIGS)
    configs = [configs] if isinstance(configs, str) else list(configs or ())
    known = list_configs(check_path("data_dir", data_dir))
    for config in configs:
        if config not in known:
            raise bad_value("configs", config, known)
    for flag, value in (("embeddings", embeddings), ("checksums", checksums)):
        if not isinstance(value, bool):
            raise bad_value(flag, value, (True, False))
    report, access = Report(), Access(storage_options, token)
    given = {"data_dir": data_dir, "visual_news_index": visual_news_index, "links_root": links_root}
    places: dict[str, Any] = {name: check_path(name, place) for name, place in given.items()}
    places["visual_news"] = check_locations(visual_news)
    chosen = configs or _list_local_configs(places["data_dir"])
    kinds = list(EMBEDDINGS) if embeddings else []
    requests = [Request(config, embeddings=kinds, links=links, **places) for config in known if config in chosen]
    found = {
        request.name: inputs for request in requests if (inputs := _find_inputs(report, request, access)) is not None
    }
    matches = _read_matches(report, found)
    cache = Path(cache_dir or cache_folder(), "newsclippings")
    if found:
        _RowCheck(report, found, matches, cache).run(images, checksums)
    if embeddings:
        _check_embeddings(report, found, matches)
    if checksums:
        check_digests(report)
    needed = sum(counts.get("bytes", 0) for splits in report.counts.values() for counts in splits.values())
    free, free_in_cache = free_bytes("."), free_bytes(cache)
    report.notes.append(
        f"A build takes about {needed:,} bytes; {free:,} are free in this folder, for `newsclippings build`, and "
        f"{free_in_cache:,} where the cache of `datasets` is, for `load_dataset`."
    )
    make_space = "" if needed < free else "free disk space, or change to a folder on a larger disk; then "
    options = [f"--config {config}" for config in chosen]
    options += ["--links follow"] * (links == "follow")
    for name, place in places.items():
        several = place if isinstance(place, list) else [place]
        options += [f"--{name.replace('_', '-')} {shlex.quote(each)}" for each in several if each]
    build = f"newsclippings build newsclippings {without_secrets(' '.join(options))}"
    report.next = f"Next: {make_space}`{build}`." if report.sound else VERIFY_AGAIN
    return report


def _list_local_configs(data_dir: str | None) -> list[str]:
    """List the configs whose matches are all on this machine; merged_balanced if there is none."""
    local = []
    for config in list_configs(data_dir):
        try:
            matches = find_inputs(Request(config, data_dir=data_dir)).matches
        except DataNotFoundError:
            continue
        if not any(map(is_url, matches.values())):
            local.append(config)
    return local or [DEFAULT_CONFIG]


def _find_inputs(report: Report, request: Request, access: Access) -> Inputs | None:
    """Find the inputs of a config, and note which places are wrong.

    If visual_news or its index is wrong, the other inputs are checked without it. A split is left out if something else
    is in the place of its matches.
    """
    misplaced: dict[str, str] = {}

    def note(place: str, error: DataNotFoundError) -> None:
        misplaced[place] = str(error)

    try:
        inputs = find_inputs(request, note, access)
    except DataNotFoundError as error:
        try:
            inputs = find_inputs(replace(request, visual_news=None, visual_news_index=None), note, access)
        except DataNotFoundError:
            report.note_fault(True, request.data_dir or "data_dir", str(error))
            return None
        report.note_fault(True, "visual_news", str(error))
    for place, message in misplaced.items():
        report.note_fault(True, place, message)
    local = {
        split: location
        for split, location in inputs.matches.items()
        if not is_url(location)
        or not any(place.endswith(f"{request.name}/{SPLITS[split]}.json") for place in misplaced)
    }
    return replace(inputs, matches=local)


def _read_matches(report: Report, found: dict[str, Inputs]) -> dict[Key, pa.Table]:
    """Read the matches of all configs, and check their rows; leave out files that cannot be read."""
    matches: dict[Key, pa.Table] = {}
    for config, inputs in found.items():
        for split, location in inputs.matches.items():
            _list_file(report, f"matches of {config}/{split}", location)
            with report.collecting(without_secrets(location)):
                matches[config, split] = read_matches(location, config, inputs.access, inputs.source_datasets)
    for (config, split), table in matches.items():
        report.counts.setdefault(config, {})[split] = check_rows(report, found[config], split, table)
    check_splits(report, matches, found)
    return matches


class _RowCheck:
    """Join matches with their records and pictures, as a build does, and report what is missing or damaged."""

    def __init__(self, report: Report, found: dict[str, Inputs], matches: dict[Key, pa.Table], cache: Path) -> None:
        """Open nothing.

        Args:
            report: receives the faults and counts.
            found: config -> where its inputs are; those that the configs share count.
            matches: the matches that could be read.
            cache: folder for indexes of tars.
        """
        inputs = [*found.values()][-1]  # that of a generated config, which may have its own corpus
        self.report, self.inputs, self.matches, self._found = report, inputs, matches, found
        self.unreadable: dict[str, NewsCLIPpingsError] = {}  # path of each picture that may not be read -> why
        self.sources = PictureSources(inputs, cache, kept=False, whole=False, report=self.unreadable.__setitem__)
        from_archives = any(source.kind != "folder" for source in inputs.sources)
        archives = self.sources.archives
        self.corpus = Corpus(inputs, archives, from_archives, metadata=False, articles=False, cache=cache)
        self.pictures: dict[str, Pictures] = {}  # split -> the pictures of all its records
        self.pictures_failed = False  # whether the folder or the tar of pictures cannot be opened

    def run(self, images: str | None, checksums: bool) -> None:
        """Check the tar, the records, the rows and the pictures; see `verify` for the arguments."""
        self._list_archives()
        for tar in self.sources.tars:
            if tar.location == self.inputs.tar and self.inputs.tar_index is not None:
                with self.report.collecting(without_secrets(tar.location)):
                    self._compare_data(tar, self.inputs.tar_index, checksums or not is_url(tar.location))
        records, known = self._read_records()
        if not self.inputs.sources:
            with self.report.collecting("VisualNews"):
                self.inputs.require_pictures()
        needed: dict[str, list[Int64s]] = {}  # split -> for each config, the records whose pictures its rows need
        for (config, split), table in self.matches.items():
            self.report.counts[config][split]["unknown_ids"] = int((~np.isin(wanted_ids(table), known)).sum())
            if split in records:
                needed.setdefault(split, []).append(self._join(config, split, table, records[split]))
        if self.unreadable:
            place, error = next(iter(self.unreadable.items()))
            others = len(self.unreadable) - 1
            more = f" The same is true of {others:,} more pictures." if others else ""
            self.report.note_fault(False, place, f"{error}{more}")
        if images is not None:
            rows = [(pictures, np.concatenate(needed[split])) for split, pictures in self.pictures.items()]
            check_pictures(self.report, rows, images == "decode")
        for tar in self.sources.tars:
            if tar.others:
                listed = f"{tar.file.path} has members that are no plain files, and stop nothing: {tar.others}."
                self.report.notes.append(listed)
            if tar.known_damage:
                self.report.note_fault(False, tar.file.path, str(damaged_tar(tar.file.path, tar.known_damage)))
        for place, layout in self.sources.layouts.items():
            if layout != Layout():
                self.report.notes.append(f"{without_secrets(place)}: pictures are {layout}.")

    def _list_archives(self) -> None:
        for source in self.inputs.archives:
            _list_file(self.report, "VisualNews", source.location)
        if self.inputs.tar is not None and self.inputs.sources and self.inputs.tar not in self.locations:
            _list_file(self.report, "VisualNews", self.inputs.tar)
            self._check_unused_tar(self.inputs.tar)
        if self.inputs.tar_index is not None:
            _list_file(self.report, "index of the tar", self.inputs.tar_index)

    @property
    def locations(self) -> list[str]:
        """The locations that pictures come from."""
        return [source.location for source in self.inputs.sources]

    def _check_unused_tar(self, tar: str) -> None:
        """Check only the beginning and the end of a tar that pictures do not come from."""
        with self.report.collecting(tar), LocalFile(tar) as file:
            check_magic(file)
            if any(file.read_at(max(0, file.size - 2 * BLOCK), 2 * BLOCK)):
                raise damaged_tar(tar, "it has no end marker: it was cut off")
            longest = longest_end(file.size)
            if not any(file.read_at(max(0, file.size - longest - BLOCK), BLOCK)):  # more zeros than any end marker has
                damage = walk_headers(file)[1]  # none if the zeros are the end of the last file
                if damage is not None:
                    raise damaged_tar(tar, damage)

    def _compare_data(self, tar: TarArchive, index: str, compare: bool) -> None:
        """Compare the data of all members with the checksums in the index of the tar, if it has any."""
        damaged, path, index = tar.find_damaged_members(index, compare), tar.file.path, without_secrets(index)
        if damaged is None:
            note = (
                f"{index} has checksums of headers, not of data, so damage inside a file does not show. "
                "`newsclippings index --checksums` makes one that has."
            )
        elif not compare:
            do = f"With {option('checksums', True)} they are compared with all of {path}."
            note = f"{index} has checksums of data. {do}"
        elif damaged:
            note = f"{index} has checksums of data, and {len(damaged):,} members of {path} do not match."
            more = f", and {len(damaged) - SHOWN:,} more" if len(damaged) > SHOWN else ""
            message = (
                f"{path}: the tar is damaged, as by a broken download: {len(damaged):,} members are not what was "
                f"indexed: {', '.join(damaged[:SHOWN])}{more}. Fetch it again."
            )
            self.report.note_fault(False, path, message)
        else:
            note = f"{index} has checksums of data, and all members of {path} match."
        self.report.notes.append(note)

    def _read_records(self) -> tuple[dict[str, pa.Table], Int64s]:
        """Read the records that a build would use.

        Returns:
            Split -> records; and int64 (N,), all ids in data.json and in the metadata.
        """
        tables = {split: [table for (_, s), table in self.matches.items() if s == split] for split in SPLITS}
        wanted = {split: wanted_ids(*of_split) for split, of_split in tables.items() if of_split}
        records: dict[str, pa.Table] = {}
        if self.inputs.data_json is not None:
            _list_file(self.report, "records", self.inputs.data_json)
        with self.report.collecting(without_secrets(self.inputs.data_json or self.inputs.tar or "data.json")):
            if wanted and self.corpus.data_json is not None:
                records = dict(self.corpus.read_records(wanted))
        known = [int64s(table["id"]) for table in records.values()]
        for split, ids in wanted.items():
            if self.inputs.is_own:
                break  # the authors' metadata say nothing about it
            location = self.inputs.metadata[split]
            _list_file(self.report, f"metadata of {split}", location)
            if not is_url(location):
                with self.report.collecting(location):
                    table = self.corpus.read_metadata(split, ids, with_metadata=False)
                    known.append(int64s(table["id"]))
                    records.setdefault(split, table)
            elif split not in records:
                _note_remote(self.report, location, "taking captions where there is no data.json")
        return records, np.concatenate([np.empty(0, np.int64), *known])

    def _join(self, config: str, split: str, matches: pa.Table, records: pa.Table) -> Int64s:
        """Join a split into the same rows as a build; return the records whose pictures they need."""
        searched = f"pictures {self.inputs.places or 'nowhere'}, records of data.json or metadata"
        rows = join(matches, records)
        with self.report.collecting(f"{config}/{split}: records"):
            used = lookup(int64s(records["id"]), wanted_ids(matches))
            check_records(self._found[config], split, records.take(as_array(used[used >= 0])))
        pictures = self._look_for_pictures(split, records, rows.image_row)
        joined = JoinedSplit(config, split, rows, "bytes", "null", pictures, searched=searched)
        counts = self.report.counts[config][split]
        counts["complete"], counts["missing"] = joined.report.resolved, joined.report.missing
        if pictures is not None:
            counts["locations"] = self.sources.count(pictures, rows.image_row)
        counts["bytes"] = int(rows_of(joined).sizes.sum())
        with self.report.collecting(f"{config}/{split}"):
            raise_if_incomplete(config, {split: joined.report}, searched, {"picture": self.sources.describe})
        return rows.image_row.astype(np.int64)

    def _look_for_pictures(self, split: str, records: pa.Table, rows: Int32s) -> Pictures | None:
        """Look for the pictures of some records of a split; None if a location cannot be opened."""
        place = self.inputs.places
        if not place:
            return None
        with self.report.collecting(place):
            if split not in self.pictures and not self.pictures_failed:
                self.pictures_failed = True  # unless the next line succeeds
                self.pictures[split] = self.sources.open(one_chunk(records["image_path"]))
                self.pictures_failed = False
            if split in self.pictures:
                self.pictures[split].look(rows)
        result = "No picture could be" if self.pictures_failed else "Pictures were"
        if (note := f"{result} looked for in {place}.") not in self.report.notes:
            self.report.notes.append(note)
        return self.pictures.get(split)


def _check_embeddings(report: Report, found: dict[str, Inputs], matches: dict[Key, pa.Table]) -> None:
    """Read the ids in the authors' pickles, and count the rows of each split that have a vector."""
    read: dict[str, tuple[Int64s, int]] = {}  # location -> ids, and bytes of all vectors
    for config, split, kind in ((c, s, k) for c, inputs in found.items() for s in inputs.matches for k in EMBEDDINGS):
        location, facts = found[config].embeddings[kind][split], EMBEDDINGS[kind]
        if location not in report.files:
            _list_file(report, f"{kind} of {split}", location)
            if is_url(location):
                _note_remote(report, location, f"embeddings={kind!r}")
                continue
            with report.collecting(location):
                read[location] = read_embedding_ids(location, facts.width, facts.several)
        table = matches.get((config, split))
        if location in read and table is not None:
            ids, size = read[location]
            rows = int((lookup(np.sort(ids), int64s(table[facts.key])) >= 0).sum())
            if not rows:
                fault = (
                    f"{location} has no vector for any of the {len(table):,} rows of {config}/{split}. Is it the file "
                    "of another split? Fetch it again."
                )
                report.note_fault(False, location, fault)
            counts = report.counts[config][split]
            counts.setdefault("coverage", {})[kind] = rows
            counts["bytes"] = counts.get("bytes", 0) + rows * size // max(1, len(ids))


def _note_remote(report: Report, location: str, what: str) -> None:
    do = "A build fetches it, or put a copy below data_dir."
    report.note_fault(True, location, f"{location} is not on this machine, but {what} needs it. {do}")


def _list_file(report: Report, what: str, location: str) -> None:
    exists = not is_url(location) and os.path.isfile(location)
    report.files[without_secrets(location)] = {"is": what, "bytes": os.path.getsize(location) if exists else None}
