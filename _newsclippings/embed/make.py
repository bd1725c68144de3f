"""Make a folder of vectors: `newsclippings embed`."""

import contextlib
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.config import bad_value
from _newsclippings.embed.callables import check_encoder
from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import add_augmentation, open_encoder
from _newsclippings.embed.folder import Folder, check_folder
from _newsclippings.embed.items import DEFAULT_IDS, TEXTS, Items, find_config
from _newsclippings.embed.loop import count_ids, encode_parts
from _newsclippings.embed.parts import VECTORS, write_vectors
from _newsclippings.embed.ranks import find_device, find_rank
from _newsclippings.embed.reader import NO_RECORD, Reader
from _newsclippings.embed.resume import LARGER, Made, Tally, drop_damaged, finish, keep_whole_parts, write_ahead
from _newsclippings.embed.source import Source, check_out, check_part_size, list_read, make_request
from _newsclippings.errors import ConfigError
from _newsclippings.facts import NAME, SIDES, VECTOR_DTYPES
from _newsclippings.inputs import find_inputs
from _newsclippings.storage import Access, cache_folder, check_not_input, check_space, progress_bar, report_full_disk
from _newsclippings.text import option
from _newsclippings.vectors import SUMS, Plan

PART_SIZE = 4096
MISSING = ("error", "null")
RAY = "ray"


@dataclass(frozen=True)
class EmbedReport(Made):
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

    def __str__(self) -> str:
        return self.describe(f"{self.ids:,} {self.of}, {self.width} numbers each", "a vector")


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
    check_part_size(part_size)
    of = check_of(of, model)
    number, ranks = find_rank(rank, world)
    if engine == RAY and (rank is not None or ranks > 1):
        message = f"{option('engine', RAY)} divides the work itself. Run one process, without torchrun, srun and ranks."
        raise ConfigError(message)
    path = check_out(out)
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(find_config(ids, data_dir), missing, data_dir=data_dir, visual_news=visual_news, **places)
    cache, access = Path(cache_dir or cache_folder(), NAME), Access(storage_options, token)
    inputs = find_inputs(request, access=access)
    check_not_input(path, list_read(inputs, ids))
    check_folder(path, VECTORS)
    source = Source.open(of, ids, inputs, cache, whole=missing == "error")
    return embed_source(
        path, model, source, dtype, part_size, augment, device, missing, engine=engine, number=number, ranks=ranks
    )


def embed_source(
    path: Path,
    model: str | Encoder,
    source: Source,
    dtype: str = "float32",
    part_size: int = PART_SIZE,
    augment: str | None = None,
    device: str | None = None,
    missing: str = "null",
    *,
    engine: str | None = None,
    number: int = 0,
    ranks: int = 1,
) -> EmbedReport:
    """Encode items that are found; the arguments are those of `embed`.

    Args:
        path: the folder to write.
        model: what makes the vectors.
        source: the items.
        dtype: how numbers are stored.
        part_size: ids of a part.
        augment: what changes each item.
        device: of the model.
        missing: what to do about items that cannot be read.
        engine: `"ray"`, or None.
        number: of this process.
        ranks: how many processes there are.

    Raises:
        NewsCLIPpingsError: as `embed`.
    """
    items, of = source.items, source.items.of
    start_tally = functools.partial(Tally, items, len(items.ids) if missing == "null" else None)
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
        stack.enter_context(report_full_disk(path, LARGER))
        folder = Folder.start(path, VECTORS, plan)
        drop_damaged(folder)
        kept = keep_whole_parts(folder, items, reader, range(number, len(plan.parts), ranks))
        tally = start_tally()
        for facts in kept.values():
            tally.add(facts.unread)
        todo = [each for each in range(number, len(plan.parts), ranks) if each not in kept]
        if todo:
            (path / SUMS).unlink(missing_ok=True)
            ids_done, ids_todo = (sum(count_ids(items, each, part_size) for each in some) for some in (kept, todo))
            check_space(path, ids_todo * plan.width * np.dtype(dtype).itemsize, "the vectors", LARGER)
            counts = {"total": ids_done + ids_todo, "initial": ids_done}
            bar = stack.enter_context(
                progress_bar(number != 0, desc=f"Encoding {of}", unit=f" {of}", **counts)  # one bar for all ranks
            )
            if engine == RAY and source.of_corpus is not None:
                opening = source.of_corpus
                parts = ray_pipeline.encode_parts_with_ray(items, *opening, make, encoder, todo, part_size, bar.update)
            else:
                parts = encode_parts(items, reader, encoder, todo, part_size, bar.update)
            write_ahead(lambda part: write_vectors(folder, part, items.ids), tally.watch(parts))
        absent, unread = finish(folder, items, start_tally())
    return EmbedReport(
        folder=str(folder.path),
        of=plan.of,
        model=str(plan.encoder.get("model", "")),
        width=plan.width,
        ids=plan.count,
        parts=len(plan.parts),
        made=len(todo),
        absent=absent,
        unread=unread,
    )


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


def make_encoder(model: str | Encoder, of: str, augment: str | None, device: str | None = None) -> Encoder:
    """Open an encoder by its name; check one that is open."""
    if isinstance(model, Encoder):
        check_encoder(model, "model", of)
        return add_augmentation(model, augment) if augment is not None else model
    return open_encoder(model, of, device=device, augment=augment)


def make_plan(encoder: Encoder, items: Items, dtype: str, part_size: int) -> Plan:
    """Make the plan of the vectors of items; raise `ConfigError` for too many parts."""
    check_part_size(part_size, items)
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
