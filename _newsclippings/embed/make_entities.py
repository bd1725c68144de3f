"""Make and check a folder of entities: `newsclippings entities`."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.embed.aliases import Aliases, read_aliases
from _newsclippings.embed.check import FolderReport, check_parts, check_sums, choose_items, compare_facts, find_model
from _newsclippings.embed.entity_models import Entity, EntityModel, find_entities, open_entity_model
from _newsclippings.embed.entity_parts import ENTITIES, EntityPlan, make_columns
from _newsclippings.embed.folder import Folder, check_folder
from _newsclippings.embed.items import DEFAULT_IDS, TEXTS, Items, find_config
from _newsclippings.embed.loop import MadePart, count_ids, range_of, start_part
from _newsclippings.embed.ranks import find_rank
from _newsclippings.embed.reader import NO_RECORD, Reader
from _newsclippings.embed.resume import LARGER, Made, Tally, drop_damaged, finish, keep_whole_parts
from _newsclippings.embed.source import Source, check_out, check_part_size, list_read, make_request
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import NAME
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.storage import Access, cache_folder, check_not_input, progress_bar, report_full_disk
from _newsclippings.tables import Int64s, as_array, int64s
from _newsclippings.text import option
from _newsclippings.vectors import PLAN, SUMS

PART_SIZE = 16_384
ALIASES = "aliases_sha256"  # in the plan, beside the facts of the model
_AT_ONCE = 512  # captions that a model gets at a time
_SHOWN = 5


@dataclass(frozen=True)
class EntitiesReport(Made):
    """What `entities` made.

    Attributes:
        folder: the folder of entities.
        model: its name; empty for a model without one.
        linked: whether entities have ids.
        ids: how many ids of captions the folder is for.
        parts: number of its parts.
        made: how many of them this call made.
        absent: how many other processes still have to make.
        unread: reason -> how many ids have no row, in the parts that are there.
    """

    folder: str
    model: str
    linked: bool
    ids: int
    parts: int
    made: int
    absent: int
    unread: dict[str, int]

    def __str__(self) -> str:
        return self.describe(f"{self.ids:,} captions", "a row")


@dataclass
class EntitiesCheck(FolderReport):
    """What `verify_entities` found.

    Attributes:
        folder: the folder of entities.
        problems: what is wrong.
        notes: what is unusual, but not wrong.
        ids: how many captions have a row.
        unread: reason -> how many have none.
        compared: how many captions were searched again.
    """

    command = "entities"
    what = "entities"
    made = "searched"


def entities(
    out: str | os.PathLike[str],
    model: str | EntityModel,
    *,
    ids: str | os.PathLike[str] | Iterable[int] = DEFAULT_IDS,
    aliases: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    part_size: int = PART_SIZE,
    rank: int | None = None,
    world: int | None = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> EntitiesReport:
    """Find the entities of each distinct caption once, in the form of the authors' metadata.

    Interrupt it when you like: the same call goes on from there, and the files have the same bytes. Several processes
    may work on one folder, each on its own parts: under `torchrun` or `srun`, or with `rank` and `world`.

    Args:
        out: the folder to write, on a local disk: plan.json, parts of `part_size` ids, and when all are there
            SHA256SUMS and README.md.
        model: what finds entities: `spacy:NAME`, `MODULE:FUNCTION`, or an `EntityModel`, as in
            `newsclippings entities --model`.
        ids: as in `embed`, of captions.
        aliases: a CSV file of rows `alias,name`: an entity with the text `alias`, in any case, gets the text `name`.
        data_dir: as in `embed`.
        visual_news: as in `embed`.
        part_size: ids of a part.
        rank: as in `embed`.
        world: as in `embed`.
        visual_news_index: as in `embed`.
        links: as in `embed`.
        links_root: as in `embed`.
        cache_dir: as in `embed`.
        storage_options: as in `embed`.
        token: as in `embed`.

    Returns:
        What was made, and which captions there are not.

    Raises:
        ConfigError: an argument has a value that cannot be used; the folder has other entities, or holds other files;
            the model returned something else than entities.
        MissingDataError: more than 1 % of the captions are not there.
        MissingDependencyError: spaCy is not installed.
        NewsCLIPpingsError: an input is not there or damaged, or the disk is full.
    """
    check_part_size(part_size)
    number, ranks = find_rank(rank, world)
    path, names = check_out(out), read_aliases(aliases)
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(find_config(ids), data_dir=data_dir, visual_news=visual_news, **places)
    inputs = find_inputs(request, access=Access(storage_options, token))
    check_not_input(path, [*list_read(inputs, ids), *([os.path.expanduser(aliases)] if aliases is not None else [])])
    check_folder(path, ENTITIES)
    items = _open_items(ids, inputs, cache_dir)
    check_part_size(part_size, items)
    Tally(items, None).add({NO_RECORD: items.ids[items.rows < 0].tolist()})  # before anything is written
    opened = open_entity_model(model)
    facts = {**opened.facts, ALIASES: names.sha256, TEXTS: items.hash_texts()}
    plan = EntityPlan(opened.linked, len(items.ids), items.hash_ids(), part_size, facts)
    with contextlib.ExitStack() as stack:
        stack.enter_context(report_full_disk(path, LARGER))
        folder = Folder.start(path, ENTITIES, plan)
        drop_damaged(folder)
        mine = range(number, len(plan.parts), ranks)
        kept = keep_whole_parts(folder, items, Reader(items, None, None), mine)
        todo = [each for each in mine if each not in kept]
        if todo:
            (path / SUMS).unlink(missing_ok=True)
            done, left = (sum(count_ids(items, each, part_size) for each in some) for some in (kept, todo))
            bar = stack.enter_context(
                progress_bar(number != 0, desc="Finding entities", total=done + left, initial=done, unit=" captions")
            )
            for part in find_parts(items, opened, names, todo, part_size, bar.update):
                places_of = np.concatenate([np.empty(0, np.int64), *(each for each, _ in part.pieces)])
                found = [one for _, several in part.pieces for one in several]
                folder.write(part.number, make_columns(items.ids[places_of], found, plan.linked), part.unread)
        absent, unread = finish(folder, items, Tally(items, None))
    return EntitiesReport(
        folder=str(path),
        model=str(plan.model.get("model", "")),
        linked=plan.linked,
        ids=plan.count,
        parts=len(plan.parts),
        made=len(todo),
        absent=absent,
        unread=unread,
    )


_Piece = tuple[Int64s, list[list[Entity]]]


def find_parts(
    items: Items,
    model: EntityModel,
    aliases: Aliases,
    numbers: Sequence[int],
    size: int,
    advance: Callable[[int], object],
) -> Iterator[MadePart[_Piece]]:
    """Find the entities of parts; the captions of a call are neighbours by id, and of one part."""
    for number in numbers:
        start, stop = range_of(items, number, size)
        part = start_part(items, number, size)
        for at in range(start, stop, _AT_ONCE):
            places = np.flatnonzero(items.rows[at : min(at + _AT_ONCE, stop)] >= 0) + at
            if len(places):
                part.pieces.append((places, _find(items, model, aliases, places)))
            advance(min(at + _AT_ONCE, stop) - at)
        yield part


def _find(items: Items, model: EntityModel, aliases: Aliases, places: Int64s) -> list[list[Entity]]:
    captions = items.texts.take(as_array(items.rows[places])).to_pylist()
    found = find_entities(model, captions)
    return [[entity._replace(text=aliases.find(entity.text)) for entity in each] for each in found]


def _open_items(
    ids: str | os.PathLike[str] | Iterable[int], inputs: Inputs, cache_dir: str | os.PathLike[str] | None
) -> Items:
    return Source.open("captions", ids, inputs, Path(cache_dir or cache_folder(), NAME), whole=True).items


def verify_entities(
    out: str | os.PathLike[str],
    model: str | EntityModel | None = None,
    *,
    aliases: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> EntitiesCheck:
    """Check a folder of entities that `entities` wrote, with the inputs and the model that it was made with.

    It must be complete and match its checksums. Up to 64 captions, evenly spaced, are searched again, and must have the
    same entities.

    Args:
        out: the folder.
        model: as in `entities`. Unset: the one that plan.json names, unless that is code or a folder of one's own.
        aliases: as in `entities`; the same list.
        data_dir: as in `embed`.
        visual_news: as in `embed`.
        visual_news_index: as in `embed`.
        links: as in `embed`.
        links_root: as in `embed`.
        cache_dir: as in `embed`.
        storage_options: as in `embed`.
        token: as in `embed`.

    Returns:
        What is wrong, if anything is.

    Raises:
        NewsCLIPpingsError: there is no plan, or the inputs or the model cannot be opened.
    """
    folder = Folder.open(check_out(out), ENTITIES)
    plan, report = folder.plan, EntitiesCheck(str(folder.path))
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(data_dir=data_dir, visual_news=visual_news, **places)
    inputs = find_inputs(request, access=Access(storage_options, token))
    if model is None:
        model = find_model(folder.path, plan.model)
    names = read_aliases(aliases)
    if names.sha256 != plan.model.get(ALIASES):
        which = "no aliases" if plan.model.get(ALIASES) is None else "other aliases"
        message = (
            f"{folder.path / PLAN} has {which}. Pass the same file as {option('aliases')}, or none if it has none."
        )
        raise ConfigError(message)
    check_sums(folder, report)
    ids = check_parts(folder, report, lambda number: _find_wrong(folder, number))
    if not len(ids):
        return report
    opened = open_entity_model(model)
    items = _open_items(ids, inputs, cache_dir)
    facts = {**opened.facts, ALIASES: names.sha256}
    compare_facts(plan.count, plan.model, facts, items, report)
    if opened.linked != plan.linked:
        report.problems.append(f"the model {'gives' if opened.linked else 'does not give'} ids, unlike the plan")
        return report
    _find_again(folder, items, opened, names, report)
    return report


def _find_wrong(folder: Folder[EntityPlan], number: int) -> str | None:
    nulls = sum(column.null_count for column in folder.read(number).columns)
    return f"{folder.place(number).name} has {nulls:,} nulls" if nulls else None


def _find_again(
    folder: Folder[EntityPlan], items: Items, model: EntityModel, aliases: Aliases, report: EntitiesCheck
) -> None:
    """Find the entities of evenly spaced captions again, and compare them with those of the parts."""
    chosen = choose_items(len(items.ids))
    chosen = chosen[items.rows[chosen] >= 0]
    chosen_ids = items.ids[chosen].tolist()
    found_again = _find(items, model, aliases, chosen) if chosen_ids else []
    columns = [column.to_pylist() for column in make_columns(items.ids[chosen], found_again, folder.plan.linked)]
    again = {name: values for name, *values in zip(*columns, strict=True)}
    wrong = []
    for number in np.unique(chosen // folder.plan.part_size).tolist():
        try:
            table = folder.read(number)
        except BadFileError:
            continue  # named by `check_parts`
        rows = np.flatnonzero(np.isin(int64s(table["id"]), chosen_ids))
        for name, *found in zip(*(column.to_pylist() for column in table.take(as_array(rows)).columns), strict=True):
            report.compared += 1
            if again[name] != found:
                wrong.append(name)
    if wrong:
        many = f"{len(wrong)} of {report.compared} captions that were searched again have other entities"
        report.problems.append(f"{many}. Ids: {', '.join(map(str, wrong[:_SHOWN]))}")
    if not report.compared:
        report.problems.append("there are no captions to be searched again")
