"""Make a folder of vectors: `newsclippings embed`."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.config import Request, bad_value, check_locations, check_path
from _newsclippings.corpus import Corpus
from _newsclippings.embed.callables import check_encoder
from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import add_augmentation, open_encoder
from _newsclippings.embed.items import DEFAULT_IDS, Items, find_config, find_items
from _newsclippings.embed.loop import READ, EncodedPart, count_ids, encode_parts, range_of
from _newsclippings.embed.parts import Folder, PartFacts, check_folder
from _newsclippings.embed.ranks import find_device, find_rank
from _newsclippings.embed.reader import NO_RECORD, Reader, Unread
from _newsclippings.errors import ConfigError, MissingDataError
from _newsclippings.facts import DEFAULT_CONFIG, NAME, SIDES, VECTOR_DTYPES
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.pictures import PictureSources
from _newsclippings.storage import (
    Access,
    cache_folder,
    check_not_input,
    check_space,
    is_url,
    map_ahead,
    progress_bar,
    report_full_disk,
)
from _newsclippings.text import option, printable
from _newsclippings.vectors import MOST_PARTS, SUMS, Plan

logger = logging.getLogger(NAME)

PART_SIZE = 4096
MOST_UNREAD = 0.01  # share of the items that may be unreadable unless missing="null"
MISSING = ("error", "null")
RAY = "ray"
TEXTS = "texts_sha256"  # in the plan, beside the facts of the encoder
_LARGER = "choose a folder on a larger disk"
_SHOWN = 5  # ids in an error


@dataclass(frozen=True)
class EmbedReport:
    """What `embed` made.

    Attributes:
        folder: the folder of vectors.
        of: `"pictures"` or `"captions"`.
        model: its name; empty for an encoder without one.
        width: numbers of a vector.
        ids: how many ids the folder is for.
        parts: number of its parts.
        made: how many of them this call made.
        absent: how many other processes still have to make.
        unread: reason -> how many ids have no vector, in the parts that are there.
    """

    folder: str
    of: str
    model: str
    width: int
    ids: int
    parts: int
    made: int
    absent: int
    unread: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether all parts are there, with their checksums."""
        return not self.absent

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**asdict(self), "complete": self.complete}

    def __str__(self) -> str:
        several = f"{self.ids:,} {self.of}, {self.width} numbers each"
        unread = "; ".join(f"{count:,} without a vector: {reason}" for reason, count in self.unread.items())
        state = f"{self.absent:,} of {self.parts:,} parts are still to be made by other ranks" if self.absent else ""
        return f"{printable(self.folder)} ({'; '.join(filter(None, [several, unread, state]))})"


def embed(
    out: str | os.PathLike[str],
    model: str | Encoder,
    of: str | None = None,
    *,
    ids: str | os.PathLike[str] | Iterable[int] = DEFAULT_IDS,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    dtype: str = "float32",
    part_size: int = PART_SIZE,
    augment: str | None = None,
    device: str | None = None,
    missing: str = "error",
    engine: str | None = None,
    rank: int | None = None,
    world: int | None = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> EmbedReport:
    """Encode each distinct picture or caption once, into a folder of vectors that `embeddings=` joins.

    Interrupt it when you like: the same call goes on from there, and the files have the same bytes. Several processes
    may work on one folder, each on its own parts: under `torchrun` or `srun`, or with `rank` and `world`.

    Args:
        out: the folder to write, on a local disk: plan.json, parts of `part_size` ids, and when all are there
            SHA256SUMS and README.md.
        model: what makes the vectors: the name of a model or a folder with one, as in `newsclippings embed --model`,
            or an `Encoder`.
        of: `"pictures"` or `"captions"`. Unset: what an `Encoder` is for.
        ids: which: `"config:NAME"` (those that a config needs, in all splits), `"all"` (all of VisualNews), a file
            with one id per line or a .npy file, or a list of ids: image_id of pictures, id of captions.
        data_dir: as in `NewsCLIPpingsConfig`.
        visual_news: as in `NewsCLIPpingsConfig`: a folder, a tar or a zip, local or remote, or a list of them.
        dtype: how numbers are stored: `"float32"` or `"float16"`.
        part_size: ids of a part.
        augment: `module:function` that changes each picture or caption before it is encoded.
        device: the model's device, such as `cuda:1`. Unset: a GPU if there is one; of several, under torchrun or srun,
            that of this process.
        missing: what to do if more than 1 % of the pictures cannot be read: `"error"`, or `"null"`: go on. They have no
            vector, and the parts count them by reason.
        engine: `"ray"`: as a pipeline of Ray Data on a Ray cluster. Unset: in this process.
        rank: number of this process, from 0 on. Unset: as torchrun or srun say.
        world: how many processes there are.
        visual_news_index: as in `NewsCLIPpingsConfig`.
        links: as in `NewsCLIPpingsConfig`.
        links_root: as in `NewsCLIPpingsConfig`.
        cache_dir: the cache folder of `datasets`, where the index of a tar is kept, as in a build.
        storage_options: options of fsspec for URLs that are passed here, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        What was made, and what could not be read.

    Raises:
        ConfigError: an argument has a value that cannot be used; the folder has other vectors, or holds other files;
            the encoder returned something else than finite vectors that are not zero.
        MissingDataError: more than 1 % of the pictures cannot be read, and `missing="error"`.
        NewsCLIPpingsError: an input is not there or damaged, or the disk is full.
    """
    for name, value, allowed in (
        ("dtype", dtype, VECTOR_DTYPES),
        ("missing", missing, MISSING),
        ("engine", engine, (RAY,)),
    ):
        if value not in allowed and not (name == "engine" and value is None):
            raise bad_value(name, value, allowed)
    if type(part_size) is not int or part_size < 1:
        raise bad_value("part_size", part_size, ["a number from 1 on"])
    of = check_of(of, model)
    number, ranks = find_rank(rank, world)
    if engine == RAY and (rank is not None or ranks > 1):
        message = f"{option('engine', RAY)} divides the work itself. Run one process, without torchrun, srun and ranks."
        raise ConfigError(message)
    path = check_out(out)
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(find_config(ids), missing, data_dir=data_dir, visual_news=visual_news, **places)
    cache, access = Path(cache_dir or cache_folder(), NAME), Access(storage_options, token)
    inputs = find_inputs(request, access=access)
    given = os.path.expanduser(ids) if isinstance(ids, str | os.PathLike) else ""
    lists = [given] if os.path.isfile(given) else []
    check_not_input(path, [*inputs.list_places(), *lists])
    check_folder(path)
    source = Source.open(of, ids, inputs, cache, whole=missing == "error")
    items = source.items
    start_tally = functools.partial(_Tally, items, len(items.ids) if missing == "null" else None)
    start_tally().add({NO_RECORD: items.ids[items.rows < 0].tolist()})  # before anything is written
    make = functools.partial(make_encoder, model, of, augment)
    with contextlib.ExitStack() as stack:
        if engine == RAY:
            from _newsclippings.embed import ray_pipeline

            stack.enter_context(ray_pipeline.connect())
            make = functools.partial(make, device)
            encoder = ray_pipeline.describe_encoder(make)
        else:
            encoder = make(device or find_device())
        plan = make_plan(encoder, items, dtype, part_size)
        reader = Reader(items, source.pictures, encoder.side)
        stack.enter_context(report_full_disk(path, _LARGER))
        folder = Folder.start(path, plan)
        _drop_damaged(folder)
        kept = _keep_whole_parts(folder, items, reader, range(number, len(plan.parts), ranks))
        tally = start_tally()
        for facts in kept.values():
            tally.add(facts.unread)
        todo = [each for each in range(number, len(plan.parts), ranks) if each not in kept]
        if todo:
            (path / SUMS).unlink(missing_ok=True)
            ids_done, ids_todo = (sum(count_ids(items, each, part_size) for each in some) for some in (kept, todo))
            check_space(path, ids_todo * plan.width * np.dtype(dtype).itemsize, "the vectors", _LARGER)
            counts = {"total": ids_done + ids_todo, "initial": ids_done}
            bar = stack.enter_context(
                progress_bar(number != 0, desc=f"Encoding {of}", unit=f" {of}", **counts)  # one bar for all ranks
            )
            if engine == RAY:
                opening = (source.pictures, source.open_pictures)
                parts = ray_pipeline.encode_parts_with_ray(items, *opening, make, encoder, todo, part_size, bar.update)
            else:
                parts = encode_parts(items, reader, encoder, todo, part_size, bar.update)
            _write(folder, items, tally.watch(parts))
        return _finish(folder, items, start_tally(), len(todo))


def check_of(of: str | None, model: str | Encoder) -> str:
    """Return what vectors are made of.

    Raises:
        ConfigError: it is neither pictures nor captions, or not what the encoder is for.
    """
    if isinstance(model, Encoder):
        if of is not None and of != model.of:
            message = f"of={of!r}, but the encoder is for {model.of}. Pass another encoder, or leave of= out."
            raise ConfigError(message)
        return model.of
    if of not in SIDES:
        raise bad_value("of", of, SIDES)
    return str(of)


def check_out(out: str | os.PathLike[str]) -> Path:
    """Return the folder of vectors as a path; raise `ConfigError` for a URL."""
    text = check_path("out", out)
    if not text or is_url(text):
        message = f"out={printable(str(text))!r}: expected a local folder. Write to a disk, then copy it."
        raise ConfigError(message)
    return Path(os.path.expanduser(text))


def make_request(
    config: str = DEFAULT_CONFIG,
    missing: str = "error",
    *,
    data_dir: object,
    visual_news: object,
    visual_news_index: object,
    links: Any,
    links_root: object,
) -> Request:
    """Make the request of a config by which inputs are found; raise `ConfigError` for a wrong argument."""
    return Request(
        config,
        missing=missing,
        data_dir=check_path("data_dir", data_dir),
        visual_news=check_locations(visual_news),
        visual_news_index=check_path("visual_news_index", visual_news_index),
        links=links,
        links_root=check_path("links_root", links_root),
    )


def make_encoder(model: str | Encoder, of: str, augment: str | None, device: str | None = None) -> Encoder:
    """Open an encoder by its name; check one that is open."""
    if isinstance(model, Encoder):
        check_encoder(model, "model", of)
        return add_augmentation(model, augment) if augment is not None else model
    return open_encoder(model, of, device=device, augment=augment)


def make_plan(encoder: Encoder, items: Items, dtype: str, part_size: int) -> Plan:
    """Make the plan of the vectors of items; raise `ConfigError` for too many parts."""
    if (least := -(-len(items.ids) // MOST_PARTS)) > part_size:
        message = (
            f"{option('part_size', str(part_size))} makes more than {MOST_PARTS:,} parts. Choose {least:,} or more."
        )
        raise ConfigError(message)
    return Plan(
        of=items.of,
        width=encoder.width,
        dtype=dtype,
        several=encoder.several,
        normalised=encoder.normalised,
        count=len(items.ids),
        ids_sha256=items.hash_ids(),
        part_size=part_size,
        encoder={**encoder.facts, TEXTS: items.hash_texts()},
    )


@dataclass(frozen=True)
class Source:
    """Items, and where their pictures come from.

    Attributes:
        items: the items.
        pictures: None for captions.
        open_pictures: opens `pictures` in another process.
    """

    items: Items
    pictures: PictureSources | None
    open_pictures: Callable[[], PictureSources]

    @classmethod
    def open(
        cls, of: str, ids: str | os.PathLike[str] | Iterable[int], inputs: Inputs, cache: Path, whole: bool
    ) -> "Source":
        """Read the records of the items.

        Args:
            of: `"pictures"` or `"captions"`.
            ids: see `embed`.
            inputs: the inputs of the config that `find_config` names.
            cache: folder for indexes of tars.
            whole: whether a damaged tar is an error, if no other location can have its pictures.
        """
        wants_pictures = of == "pictures"
        if wants_pictures:
            inputs.require_pictures()
        archives = [source for source in inputs.sources if source.kind != "folder"] if wants_pictures else []
        whole = whole and len(archives) == len(inputs.sources) == 1
        open_pictures = functools.partial(PictureSources, inputs, cache, False, whole)
        sources = open_pictures()
        if archives:
            for tar in sources.tars:
                tar.index  # noqa: B018 # before anything else is in memory: making one takes a lot
        corpus = Corpus(inputs, sources.archives, bool(archives), metadata=False, articles=False, cache=cache)
        return cls(find_items(of, ids, inputs, corpus), sources if wants_pictures else None, open_pictures)


class _Tally:
    """Counts the items that could not be read, and stops if there are too many."""

    def __init__(self, items: Items, allowed: int | None) -> None:
        """Count nothing yet.

        Args:
            items: the items.
            allowed: how many may be unread. None: 1 %.
        """
        self._items = items
        self._allowed = int(len(items.ids) * MOST_UNREAD) if allowed is None else allowed
        self.ids: dict[str, list[int]] = {}

    def add(self, unread: Mapping[str, list[int]]) -> None:
        """Add items that could not be read: reason -> ids.

        Raises:
            MissingDataError: there are more than allowed.
        """
        for reason, ids in unread.items():
            self.ids.setdefault(reason, []).extend(ids)
        count = sum(map(len, self.ids.values()))
        if count > self._allowed:
            first = sorted(number for ids in self.ids.values() for number in ids)[:_SHOWN]
            reasons = ", ".join(f"{len(ids):,} {reason}" for reason, ids in self.ids.items())
            message = (
                f"At least {count:,} of {len(self._items.ids):,} {self._items.of} cannot be read, more than "
                f"{MOST_UNREAD:.0%}: {reasons}. The first ids: {', '.join(map(str, first))}. Check the files "
                f"(`newsclippings verify --images=decode`), or go on without them: {option('missing', 'null')}."
            )
            raise MissingDataError(message)

    def watch(self, parts: Iterable[EncodedPart]) -> Iterator[EncodedPart]:
        """Count what could not be read of parts that pass."""
        for part in parts:
            self.add(part.unread)
            yield part


def _drop_damaged(folder: Folder) -> None:
    """Remove parts of a complete folder that do not match its checksums, so that they are made again."""
    sums = folder.read_sums()
    now = folder.compute_sums(folder.names if sums else ())
    damaged = sorted(name for name in {*sums, *now} if sums.get(name) != now.get(name))
    if damaged:
        logger.warning("%s: made again, because it does not match %s: %s", folder.path, SUMS, ", ".join(damaged))
        (folder.path / SUMS).unlink(missing_ok=True)
        for name in {*damaged} & {*folder.plan.parts}:
            (folder.path / name).unlink(missing_ok=True)


def _keep_whole_parts(folder: Folder, items: Items, reader: Reader, numbers: Iterable[int]) -> dict[int, PartFacts]:
    """Return the parts of this rank that are whole; remove the others.

    A part is made again if it has other ids, or if something that could not be read now can.
    """
    kept = {}
    for number in numbers:
        facts = folder.read_facts(number)
        if (
            facts is not None
            and _is_whole(items, facts, number, folder.plan.part_size)
            and _is_unread(items, reader, facts)
        ):
            kept[number] = facts
        else:
            folder.place(number).unlink(missing_ok=True)
    return kept


def _is_whole(items: Items, facts: PartFacts, number: int, size: int) -> bool:
    start, stop = range_of(items, number, size)
    ids = np.sort(np.concatenate([facts.ids, *(np.array(each, np.int64) for each in facts.unread.values())]))
    return np.array_equal(ids, items.ids[start:stop])


def _is_unread(items: Items, reader: Reader, facts: PartFacts) -> bool:
    """Check whether what could not be read of a part still cannot, for the same reasons."""
    for reason, ids in facts.unread.items():
        rows = items.rows[np.searchsorted(items.ids, ids)]
        if reason == NO_RECORD:
            if (rows >= 0).any():
                return False
            continue
        for start in range(0, len(rows), READ):
            if any(value != Unread(reason) for value in reader.read(rows[start : start + READ])):
                return False
    return True


def _write(folder: Folder, items: Items, parts: Iterable[EncodedPart]) -> None:
    """Write parts in a thread, while the next ones are encoded."""

    def write(part: EncodedPart) -> None:
        folder.write(part, items.ids)

    with ThreadPoolExecutor(1, thread_name_prefix="newsclippings") as writer:
        for _ in map_ahead(writer, write, parts, 2):
            pass


def _finish(folder: Folder, items: Items, tally: _Tally, made: int) -> EmbedReport:
    """Write checksums if all parts are there, whoever made them."""
    plan = folder.plan
    facts = [folder.read_facts(number) for number in range(len(plan.parts))]
    there = [each for k, each in enumerate(facts) if each and _is_whole(items, each, k, plan.part_size)]
    for each in there:
        tally.add(each.unread)
    unread = {reason: len(tally.ids[reason]) for reason in sorted(tally.ids)}
    if len(there) == len(plan.parts):
        folder.finish(unread)
    return EmbedReport(
        folder=str(folder.path),
        of=plan.of,
        model=str(plan.encoder.get("model", "")),
        width=plan.width,
        ids=plan.count,
        parts=len(plan.parts),
        made=made,
        absent=len(plan.parts) - len(there),
        unread=unread,
    )
