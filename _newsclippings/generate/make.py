"""Make new matches from a corpus: `newsclippings generate`."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import Request, bad_value, check_locations, check_path
from _newsclippings.embed import find_device, find_rank
from _newsclippings.errors import ConfigError, DataNotFoundError
from _newsclippings.facts import DEFAULT_CONFIG, EMBEDDINGS, NAME
from _newsclippings.generate.agreement import describe_agreement
from _newsclippings.generate.assign import REASONS, Matching, balance, close, find_margins, match
from _newsclippings.generate.blocks import (
    OvertakenError,
    Run,
    Share,
    Stage,
    check_going_on,
    given_up,
    pause,
    wait_for,
)
from _newsclippings.generate.entities import Entities, make_entities
from _newsclippings.generate.entity_files import EntityTable, list_entity_files, read_entities
from _newsclippings.generate.examples import PAGE, SHEET, draw_examples
from _newsclippings.generate.merge import Candidates, choose_balanced, make_units
from _newsclippings.generate.near import check_approximate, check_needed, find_near, is_approximate
from _newsclippings.generate.quality import measure_quality, twins_of
from _newsclippings.generate.records import Records, number_texts, one_number_chunk, read_records
from _newsclippings.generate.rules import DEFAULT_SPLITS, METHODS, Method, Recipe, parse_recipe
from _newsclippings.generate.search import Measure, Pool, find_gpu
from _newsclippings.generate.splits import CopySearch, divide, fold_captions, hash_equal_sizes, join_groups
from _newsclippings.generate.tiles import Float32s
from _newsclippings.generate.vector_files import NamedVectors, open_vectors, parse_named
from _newsclippings.generate.write import (
    COUNTED,
    WORDS,
    Folder,
    check_folder,
    make_manifest,
    make_readme,
    tabulate,
    write_matches,
)
from _newsclippings.generated import OFFICIAL, OWN
from _newsclippings.inputs import Inputs, find_inputs, is_table
from _newsclippings.pictures import Pictures, PictureSources
from _newsclippings.storage import (
    Access,
    cache_folder,
    check_not_input,
    check_space,
    flush,
    is_url,
    progress_bar,
    read_file,
    report_full_disk,
    write_atomically,
)
from _newsclippings.tables import Int32s, Int64s, as_array, int64s, lookup, values_of
from _newsclippings.text import did_you_mean, format_html, option, printable, short_repr

RAY: Final = "ray"  # an engine
MINE: Final = "mine"  # name of a config, unless the user gives another
COPIES: Final = "picture_copies"  # a column that rules compare: pictures with the same number are copies
MARGIN_VECTORS: Final = ("clip_text", "clip_image")  # by which a set is balanced, unless its own are of both sides
MOST_HASHED: Final = 16 << 30  # bytes of pictures that are read to recognise equal ones, where vectors do it, too
_LARGER = "choose a folder on a larger disk"
_MOST_RECIPE = 1 << 20
RecipeLike = Recipe | Method | str | os.PathLike[str] | Sequence[Method | str]


@dataclass(frozen=True)
class GenerateReport:
    """What `generate` made.

    Attributes:
        folder: the folder of the config.
        config: its name.
        made: whether this call made it; it was there before if not.
        splits: split -> `rows` and `methods`: of each method `captions` that took part, `filled`, `pairs` in the file,
            `unfilled` by reason and `left_out` by reason, and more; as in manifest.json.
    """

    folder: str
    config: str
    made: bool
    splits: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dict(vars(self))

    def __str__(self) -> str:
        lines = [f"{printable(self.folder)} ({self.config}){'' if self.made else ': it was there already'}"]
        for split, facts in self.splits.items():
            lines.append(f"  {split}: {facts['rows']:,} rows")
            for name, counts in facts["methods"].items():
                why = "".join(f"; {count:,} {WORDS.get(why, why)}" for why, count in counts["unfilled"].items())
                left = "".join(f"; {count:,} left out: {why}" for why, count in counts["left_out"].items())
                lines.append(f"    {name}: {counts['pairs']:,} pairs of {counts['captions']:,} captions{why}{left}")
                if "approximate" in counts:
                    lines.append(f"      approximate: {describe_agreement(counts['approximate'])}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title = f"{self.folder} ({self.config}){'' if self.made else ': it was there already'}"
        return format_html(COUNTED, tabulate(self.splits), title)


def generate(
    out: str | os.PathLike[str],
    recipe: RecipeLike,
    *,
    config: str | None = None,
    vectors: Mapping[str, Any] | None = None,
    entities: str | os.PathLike[str] | None = None,
    corpus: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    engine: str | None = None,
    approximate: bool = False,
    rank: int | None = None,
    world: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> GenerateReport:
    """Make new matches: give captions of a corpus convincing pictures of others, by rules.

    The same arguments give the same bytes, on any device and engine and with any number of processes; an interrupted
    call goes on where it stopped. Approximate searches give the same on the same machine, with as many threads.

    Args:
        out: the folder to write, on a local disk. It is the data_dir of the new config.
        recipe: a recipe, or the path of one in TOML; or methods, or their names, of which all matches are taken.
        config: name of the config. Unset: that of the recipe; for methods, `mine`.
        vectors: name, as methods have it -> the folder that `newsclippings embed` wrote, `(file, "pictures")` or
            `(file, "captions")`, or True for a kind of the authors, which also need not be named. Vectors of pictures
            that no method needs serve to recognise copies.
        entities: a folder that `newsclippings entities` wrote, or the authors' metadata. Unset: of VisualNews, the
            authors' metadata.
        corpus: a corpus of one's own: a folder with data.json in the form of VisualNews, or a CSV or Parquet file with
            the columns id, caption and image_path, and perhaps outlet, topic, article, time and has_person. Unset:
            VisualNews.
        data_dir: as in `NewsCLIPpingsConfig`.
        visual_news: as in `NewsCLIPpingsConfig`.
        visual_news_index: as in `NewsCLIPpingsConfig`.
        links: as in `NewsCLIPpingsConfig`.
        links_root: as in `NewsCLIPpingsConfig`.
        device: where torch compares vectors, such as `cuda:1`. Unset: a GPU if torch finds one; of several, under
            torchrun or srun, that of this process; else numpy compares them.
        engine: `"ray"`: vectors are compared on a Ray cluster, whose machines see `out` under the same path. Unset: in
            this process.
        approximate: compare captions only with pictures that are near, as faiss divides them, where a method compares
            more than two million captions on CPUs. All rules hold; how often the exact search finds the same is
            measured, and written down.
        rank: number of this process, from 0 on. Unset: as torchrun or srun say. All processes see the same `out`.
        world: how many processes there are.
        cache_dir: the cache folder of `datasets`, where converted vectors are kept, as in a build.
        storage_options: options of fsspec for URLs that are passed here, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        What was made, and why captions have no picture.

    Raises:
        ConfigError: an argument has a value that cannot be used; the folder has another config, or holds other files;
            no caption of a split is matched.
        NewsCLIPpingsError: an input is not there or damaged, or the disk is full.
    """
    if engine not in (None, RAY):
        raise bad_value("engine", engine, (RAY,))
    number, ranks = find_rank(rank, world)
    if engine == RAY and (rank is not None or ranks > 1):
        message = f"{option('engine', RAY)} divides the work itself. Run one process, without torchrun, srun and ranks."
        raise ConfigError(message)
    how = check_approximate(engine, device or find_device() or find_gpu()) if approximate else None
    asked, recipe_file = make_recipe(recipe, config)
    path = _check_out(out)
    given = parse_named(vectors or {})
    own = _check_corpus(check_path("corpus", corpus))
    if own is not None and visual_news is not None:
        message = f"{option('corpus')} and {option('visual_news')} both name the corpus. Pass one of them."
        raise ConfigError(message)
    _check_vector_names(given, asked)
    balanced = MARGIN_VECTORS if any(method.balance for method in asked.methods) else ()
    kinds = [name for name in (*given, *list_vectors(asked), *balanced) if name in EMBEDDINGS]
    kinds = [name for name in dict.fromkeys(kinds) if given.get(name, True) is True]
    request = Request(
        DEFAULT_CONFIG,
        data_dir=check_path("data_dir", data_dir),
        visual_news=check_locations(own or visual_news),
        embeddings=dict.fromkeys(kinds, True),
        visual_news_index=check_path("visual_news_index", visual_news_index),
        links=links,
        links_root=check_path("links_root", links_root),
    )
    inputs, cache = find_inputs(request, access=Access(storage_options, token)), Path(cache_dir or cache_folder(), NAME)
    if is_own := own is not None or inputs.is_own:  # ids are others than those of VisualNews
        if kind := next((name for name in kinds if given.get(name) is True), None):
            message = (
                f"{option('vectors', kind)} is of VisualNews, and this corpus is another. Pass the place of its own."
            )
            raise ConfigError(message)
        inputs = replace(inputs, embeddings={})
    place = check_path("entities", entities)
    entity_place = None if not place else os.path.abspath(os.path.expanduser(place))
    locations = [
        value[0] if isinstance(value, tuple | list) else value for value in given.values() if value is not True
    ]
    read = [os.path.abspath(os.path.expanduser(os.fspath(each))) for each in locations if not is_url(os.fspath(each))]
    read += [each for each in (entity_place, recipe_file) if each]
    check_not_input(path, [*inputs.list_places(), *read])
    check_folder(path)
    if entity_place is not None:
        list_entity_files(entity_place)  # an error now, before vectors are read
    source = Material.read(asked, inputs, cache, given, entity_place, is_own)
    if how is not None:
        check_needed(asked.methods, len(source.records))
    with contextlib.ExitStack() as stack:
        stack.enter_context(report_full_disk(path, _LARGER))
        share = Share(number, ranks)
        if engine == RAY:
            from _newsclippings.generate.ray_blocks import start_ray

            share = Share(do=stack.enter_context(start_ray()))
        folder = Folder(path, source.plan() | ({} if how is None else {"approximate": how}))
        work = _Work(folder, source, share, device or find_device() or find_gpu())
        finished = work.lead() if share.leads else work.follow()
        folder.clean()
    return GenerateReport(str(path), asked.config, source.made, finished["splits"])


def make_recipe(recipe: RecipeLike, config: str | None = None) -> tuple[Recipe, str | None]:
    """Return the recipe that is meant, and its file, if it is in one.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and recipe not in METHODS and _is_path(recipe)):
        place = os.path.abspath(os.path.expanduser(os.fspath(recipe)))
        found = parse_recipe(read_file(place, _MOST_RECIPE).decode("utf-8-sig", "replace"), printable(place))
        return _named(found, config), place
    if isinstance(recipe, Recipe):
        return _named(recipe, config), None
    several = [recipe] if isinstance(recipe, str | Method) else recipe
    if not isinstance(several, Sequence) or not all(isinstance(each, str | Method) for each in several):
        message = f"recipe={short_repr(recipe)}; expected a Recipe, the path of one in TOML, or methods."
        raise ConfigError(message)
    for name in several:
        if isinstance(name, str) and name not in METHODS:
            message = (
                f"There is no method {short_repr(name)}.{did_you_mean(name, METHODS)} Methods: {', '.join(METHODS)}."
            )
            raise ConfigError(message)
    methods = tuple(METHODS[each] if isinstance(each, str) else each for each in several)
    return Recipe(MINE if config is None else config, methods), None


def _is_path(text: str) -> bool:
    return text.endswith(".toml") or os.sep in text or os.path.isfile(text)


def _named(recipe: Recipe, config: str | None) -> Recipe:
    return recipe if config is None else replace(recipe, config=config)


def _check_corpus(place: str | None) -> str | None:
    """Return the place of a corpus of one's own in full, if there is one; raise an error if it is none."""
    if place is None:
        return None
    full = os.path.abspath(os.path.expanduser(place))
    if not is_table(full) and not os.path.isfile(os.path.join(full, "data.json")):
        named = option("corpus", printable(place))
        message = f"{named}: expected a folder with data.json in the form of VisualNews, or a .csv or .parquet file."
        raise DataNotFoundError(message)
    return full


def _check_out(out: str | os.PathLike[str]) -> Path:
    text = check_path("out", out)
    if not text or is_url(text):
        message = f"out={printable(str(text))!r}: expected a local folder. Write to a disk, then copy it."
        raise ConfigError(message)
    return Path(os.path.expanduser(text))


def list_vectors(recipe: Recipe) -> dict[str, str]:
    """List the vectors that methods compare: name -> the first method that needs it."""
    needed: dict[str, str] = {}
    for method in recipe.methods:
        for name in (method.query, method.against):
            needed.setdefault(name, method.name)
    return needed


def _check_vector_names(given: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise `ConfigError` if the name of vectors is misspelt, before the authors' vectors are fetched instead."""
    needed = list_vectors(recipe)
    for name in given:
        hint = did_you_mean(name, [each for each in needed if each not in given], 0.8)
        if hint and name not in needed and name not in EMBEDDINGS:
            message = (
                f"No method needs the vectors {short_repr(name)}.{hint} Correct the name, or choose one less alike."
            )
            raise ConfigError(message)


@dataclass
class Material:
    """All that a config is made of, read and opened.

    Attributes:
        recipe: the recipe.
        own: whether the corpus is the user's own.
        records: its captions.
        vectors: by name.
        entities: of captions; None for none.
        present: bool (N,), whether the picture of each caption is there; None if that was not looked for.
        contents: int32 (N,), the number of the content of pictures that are equal to others; None if unknown.
        pictures: those of the captions; None if they were not looked for.
        made: whether anything was made.
    """

    recipe: Recipe
    own: bool
    records: Records
    vectors: dict[str, NamedVectors]
    entities: EntityTable | None
    present: npt.NDArray[np.bool_] | None
    contents: Int32s | None
    pictures: Pictures | None = None
    made: bool = False

    @classmethod
    def read(
        cls, recipe: Recipe, inputs: Inputs, cache: Path, given: Mapping[str, Any], entities: str | None, own: bool
    ) -> "Material":
        """Read everything but the numbers of vectors.

        Args:
            recipe: the recipe.
            inputs: where the corpus is.
            cache: folder for what is expensive to make.
            given: see `open_vectors`.
            entities: where entities are; None for the authors' metadata.
            own: whether the corpus is the user's own.
        """
        needed = list_vectors(recipe)
        vectors = open_vectors(dict.fromkeys([*needed, *given]), given, inputs, cache, needed)
        for method in recipe.methods:
            for name in margin_vectors(method, vectors):
                if name not in vectors:
                    needed[name] = method.name
        vectors |= open_vectors([name for name in needed if name not in vectors], given, inputs, cache, needed)
        records = read_records(inputs, cache, own, official=recipe.splits is None and not own)
        _check_columns(recipe, records)
        table = read_entities(entities) if entities is not None else records.entities
        present = contents = pictures = None
        if inputs.sources and not any(is_url(each.location) for each in inputs.sources):
            sources = PictureSources(inputs, cache, kept=False, whole=False)
            pictures = sources.open(records.texts("image_path"))
            # Equal pictures have equal vectors, so that all of VisualNews is not read for them alone
            most = MOST_HASHED if _find_copy_vectors(vectors) is not None else None
            contents = hash_equal_sizes(pictures, len(records), most)
            present = pictures.present
        return cls(recipe, own, records, vectors, table, present, contents, pictures)

    def plan(self) -> dict[str, Any]:
        """Return what the config is made of, with digests; it names no locations."""
        entities = None
        if self.entities is not None:
            entities = {"captions": len(self.entities.ids), "sha256": hash_entities(self.entities)}
        return {
            "config": self.recipe.config,
            "recipe": self.recipe.to_toml(),
            "corpus": {
                "kind": OWN if self.own else OFFICIAL,
                "records": len(self.records),
                "sha256": self.records.digest(),
            },
            "entities": entities,
            "vectors": {
                name: {"of": each.of, "width": each.facts.width, "ids": len(each.ids), "sha256": each.digest()}
                for name, each in self.vectors.items()
            },
            "pictures": {
                "compared_by": self._compared_by(),
                "sha256": hash_pictures(self.present, self.contents),
            },
        }

    def _compared_by(self) -> list[str]:
        copies = self.copy_vectors
        return [
            "image_path",
            *(["SHA-256"] if self.contents is not None else []),
            *([f"vectors {copies.name}"] if copies is not None else []),
        ]

    @property
    def copy_vectors(self) -> NamedVectors | None:
        """The vectors by which copies of pictures are recognised: the first of pictures, one of each."""
        return _find_copy_vectors(self.vectors)


def _check_columns(recipe: Recipe, records: Records) -> None:
    """Raise `ConfigError` if a rule names a column that the corpus does not have."""
    for method in recipe.methods:
        for name in (*method.rule.same, *method.rule.other):
            if name not in records.names:
                message = f"method {method.name}: the corpus has no column {name!r}.{did_you_mean(name, records.names)}"
                raise ConfigError(f"{message} Columns: {', '.join(records.names)}.")


def _find_copy_vectors(vectors: Mapping[str, NamedVectors]) -> NamedVectors | None:
    return next((each for each in vectors.values() if each.of == "pictures" and not each.facts.several), None)


def hash_pictures(present: npt.NDArray[np.bool_] | None, contents: Int32s | None) -> str | None:
    """Return the SHA-256 of which pictures are there, and which are equal; None if that is not known."""
    looked = [np.ascontiguousarray(each).tobytes() for each in (present, contents) if each is not None]
    return hashlib.sha256(b"".join(looked)).hexdigest() if looked else None


def margin_vectors(method: Method, vectors: Mapping[str, NamedVectors]) -> tuple[str, ...]:
    """Return the vectors of captions and of pictures by which a method is balanced; none if it is not."""
    if method.balance is None:
        return ()
    sides = [vectors[name].of for name in (method.query, method.against)]
    return (method.query, method.against) if sides == ["captions", "pictures"] else MARGIN_VECTORS


def hash_entities(table: EntityTable) -> str:
    """Return the SHA-256 of entities and the ids of their captions."""
    digest = hashlib.sha256(table.ids.astype("<i8").tobytes())
    for start in range(0, len(table.ids), 1 << 14):
        some = [[(e["text"], e["label"]) for e in each] for each in table.entities.slice(start, 1 << 14).to_pylist()]
        digest.update(json.dumps(some).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


class _Work:
    """Makes a config, in one process or several."""

    def __init__(self, folder: Folder, source: Material, share: Share, device: str | None) -> None:
        """Begin nothing yet.

        Args:
            folder: the folder.
            source: what it is made of.
            share: of this process.
            device: where torch compares vectors; None: numpy does.
        """
        self._folder, self._source, self._share, self._device = folder, source, share, device

    def lead(self) -> dict[str, Any]:
        """Make the config, and return its manifest; other processes may help.

        Raises:
            ConfigError: the folder has another config; no caption of a split is matched.
        """
        folder = self._folder
        folder.check_plan()
        finished = folder.read_finished()
        if finished is not None:
            return finished
        folder.begin()
        try:
            return self._make()
        except ConfigError:  # the recipe, or what it is about, has to be another
            folder.discard()
            raise

    def _make(self) -> dict[str, Any]:
        """Write everything, and return the manifest."""
        source, folder = self._source, self._folder
        recipe, records = source.recipe, source.records
        manifest = make_manifest(recipe, folder.plan, self._match())
        names = [*manifest["rules"]]
        twins = {split: twins_of(folder.read_matches(split, names), records) for split in manifest["splits"]}
        manifest["quality"] = measure_quality(recipe, records, source.vectors, twins)
        manifest["examples"] = [] if source.pictures is None else [SHEET, PAGE]
        if source.pictures is not None:
            split = manifest["quality"]["measured_on"]
            draw_examples(folder.path, recipe.config, split, names, records, source.pictures, twins[split])
        folder.finish(manifest, make_readme(recipe, manifest))
        source.made = True
        return manifest

    def follow(self) -> dict[str, Any]:
        """Help the process with rank 0, and return the manifest that it writes.

        Raises:
            ConfigError: the folder has another config; that process ended with an error.
        """
        folder = self._folder
        while True:
            folder.check_plan()
            finished = folder.read_finished()
            if finished is not None:
                return finished
            if folder.is_begun():
                break
            pause()
        try:
            with contextlib.suppress(OvertakenError):
                self._match()
        except FileNotFoundError:  # the folder was removed while this process wrote to it
            check_going_on(folder)
            raise
        while folder.is_begun():
            pause()
        finished = folder.read_finished()
        if finished is None:
            raise given_up()
        self._source.made = True
        return finished

    def _match(self) -> dict[str, Any]:
        """Match all splits by all methods; write the files of splits, and return what the manifest says about them."""
        recipe, records, folder = self._source.recipe, self._source.records, self._folder
        copies = self._find_copies()
        if records.splits is not None and recipe.splits is None:
            splits = dict(records.splits)
        else:
            captions = number_texts(fold_captions(records.texts("caption")))
            articles = number_texts(records.articles)
            groups = join_groups(len(records), [copies, captions, articles])
            splits = divide(groups, records.ids, recipe.splits or DEFAULT_SPLITS)
        approximate = "approximate" in folder.plan
        if approximate:
            check_needed(recipe.methods, max(map(len, splits.values())))
        pools = _Pools(self._source, copies, self._measure, approximate)
        facts: dict[str, Any] = {}
        total, quiet = len(splits) * len(recipe.methods), not self._share.leads  # one bar for all processes
        with progress_bar(quiet, total=total, desc="Matching", unit=" methods") as bar:
            for split, rows in splits.items():
                done = {}
                for method in recipe.methods:
                    bar.set_postfix_str(f"{split} {method.name}")
                    stage = Stage(folder, f"{split}-{method.name.lower()}", self._share)
                    done[method.name] = stage.get(functools.partial(pools.match, method, rows))
                    bar.update()
                if self._share.leads:
                    facts[split] = _write_split(folder, self._source, split, done)
        return facts

    def _find_copies(self) -> Int32s:
        """Number the pictures of all captions, so that copies have one number."""
        records, vectors = self._source.records, self._source.copy_vectors
        columns = [number_texts(records.texts("image_path"))]
        columns += [self._source.contents] if self._source.contents is not None else []
        pairs: list[tuple[Int64s, Int64s]] = []
        if vectors is not None:
            rows = np.flatnonzero(lookup(vectors.ids, records.ids) >= 0)

            def find(run: Run) -> pa.Table:
                mapped, every = self._map(vectors, records.ids[rows]), np.arange(len(rows))
                search = CopySearch(Measure(mapped, mapped, self._device))
                first, second = run(search, CopySearch.find, every, len(rows) - every)
                return pa.table({"first": as_array(rows[first]), "second": as_array(rows[second])})

            known = Stage(self._folder, "copies", self._share).get(find)
            pairs.append((int64s(known["first"]), int64s(known["second"])))
        return join_groups(len(records), columns, pairs).astype(np.int32)

    def _measure(self, query: NamedVectors, against: NamedVectors, ids: Int64s) -> Measure:
        """Open the vectors of captions and pictures of some ids."""
        mapped = self._map(query, ids)
        return Measure(mapped, mapped if query is against else self._map(against, ids), self._device)

    def _map(self, vectors: NamedVectors, ids: Int64s) -> Float32s:
        """Return the vectors of some ids, of length 1, as a mapped file, which one process writes."""
        place = self._folder.vectors_file(vectors.name, ids)
        if not self._share.leads:
            wait_for(self._folder, place.exists)
        elif not place.exists():
            check_space(place.parent, 4 * len(ids) * vectors.facts.width, "the vectors", _LARGER)
            with write_atomically(place) as temporary, open(temporary, "wb") as file:
                for block in vectors.take_blocks(ids):
                    file.write(np.ascontiguousarray(block).data)
                file.flush()
                flush(file.fileno())
        return np.memmap(place, np.float32, "r", shape=(len(ids), vectors.facts.width))


class _Pools:
    """Matches the captions of splits by methods."""

    def __init__(
        self,
        source: Material,
        copies: Int32s,
        measure: Callable[[NamedVectors, NamedVectors, Int64s], Measure],
        approximate: bool,
    ) -> None:
        """Number everything that rules look at.

        Args:
            source: the material.
            copies: int32 (N,), the same number for pictures that are copies.
            measure: opens the vectors of captions and pictures of some ids.
            approximate: whether searches of very many captions are.
        """
        self._source, self._measure, self._approximate = source, measure, approximate
        records, table = source.records, source.entities
        self._columns = {**records.codes(), COPIES: copies}
        self._entities: Entities | None = None
        self._named = np.full(len(records), -1, np.int32)  # where the entities of each caption are
        self._has_caption = values_of(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(records.texts("caption"))), 0))
        if table is not None:
            self._named = lookup(table.ids, records.ids)
            self._entities = make_entities(table.entities)

    def match(self, method: Method, rows: Int64s, run: Run) -> pa.Table:
        """Match some captions; see `_table` for the result.

        Args:
            method: the method.
            rows: int64, positions of the captions of a split, in ascending order.
            run: does the searches.
        """
        source, records, rule = self._source, self._source.records, method.rule
        margins_by = margin_vectors(method, source.vectors)
        kept, left_out = np.ones(len(rows), bool), {}
        reasons = [("no caption", self._has_caption[rows])]
        reasons += [
            (f"no vector {name}", lookup(source.vectors[name].ids, records.ids[rows]) >= 0)
            for name in dict.fromkeys((method.query, method.against, *margins_by))
        ]
        if rule.share or rule.differ or rule.without:
            if self._entities is None:
                message = (
                    f"method {method.name} needs entities. Pass {option('entities')}, made by `newsclippings entities`."
                )
                raise ConfigError(message)
            reasons.append(("no entities", self._named[rows] >= 0))
        if source.present is not None:
            reasons.append(("no picture", source.present[rows]))
        for reason, there in reasons:
            if count := int((kept & ~there).sum()):
                left_out[reason] = count
            kept &= there
        rows = rows[kept]
        ids = records.ids[rows]
        if not len(rows):
            return _table(method, ids, None, left_out, None)
        rule = replace(rule, other=(*rule.other, COPIES))
        try:
            measure = self._measure(source.vectors[method.query], source.vectors[method.against], ids)
            near = find_near(measure, run) if self._approximate and is_approximate(rule, len(rows)) else None
            matching = match(measure, self._pool(rows), rule, method.uses, run=run, near=near)
        except ConfigError as error:
            message = f"method {method.name}: {error}"
            raise ConfigError(message) from error
        if method.closed:
            matching = close(matching)
        margins = None
        if margins_by:
            if margins_by != (method.query, method.against):
                captions, pictures = (source.vectors[name] for name in margins_by)
                measure = self._measure(captions, pictures, ids)
            margins = find_margins(matching, measure)
            matching = balance(matching, margins)
        return _table(method, ids, matching, left_out, margins)

    def _pool(self, rows: Int64s) -> Pool:
        records = self._source.records
        flags = {} if records.has_person is None else {"has_person": records.has_person[rows]}
        return Pool(
            len(rows),
            None if self._entities is None else self._entities.take(self._named[rows]),
            {name: codes[rows] for name, codes in self._columns.items()},
            None if records.times is None else records.times[rows],
            flags,
        )


def _table(
    method: Method,
    ids: Int64s,
    matching: Matching | None,
    left_out: Mapping[str, int],
    margins: npt.NDArray[np.float64] | None,
) -> pa.Table:
    """Return the result of a method and a split as a table: caption, picture, score and unit of each match.

    Its metadata have the numbers of captions, of products, and of captions without a match by reason.
    """
    counts: dict[str, Any] = {
        "captions": len(ids),
        "left_out": dict(left_out),
        "unfilled": {},
        "rounds": 0,
        "products": 0,
    }
    captions = np.empty(0, np.int64)
    pictures, scores, units = captions, np.empty(0), captions
    if matching is not None:
        unfilled = matching.counts()
        counts["unfilled"] = {reason: unfilled[reason] for reason in REASONS if reason in unfilled}
        counts["rounds"], counts["products"] = matching.rounds, matching.products
        if matching.agreement is not None:
            counts["approximate"] = matching.agreement.as_dict()
        captions = np.flatnonzero(matching.picture >= 0)
        pictures, scores = matching.picture[captions].astype(np.int64), matching.score[captions]
        units = make_units(method, matching, margins)[captions]
    columns = {"id": ids[captions], "image_id": ids[pictures], "score": scores, "unit": units}
    table = pa.table({name: as_array(values) for name, values in columns.items()})
    return table.replace_schema_metadata({"counts": json.dumps(counts)})


def _write_split(folder: Folder, source: Material, split: str, done: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Merge the matches of a split, write them, and return what the manifest says about them."""
    recipe, names = source.recipe, [*done]
    candidates = [Candidates(int64s(table["id"]), int64s(table["unit"])) for table in done.values()]
    chosen = [np.ones(len(each.ids), bool) for each in candidates]
    if recipe.merge is not None and len(candidates) > 1:
        chosen = choose_balanced(candidates)
    if not any(mask.any() for mask in chosen):
        raise _no_matches(recipe, split, done)
    parts = [table.filter(as_array(mask)) for table, mask in zip(done.values(), chosen, strict=True)]
    ids, pictures, scores = (
        np.concatenate([values_of(one_number_chunk(part[name])) for part in parts])
        for name in ("id", "image_id", "score")
    )
    method = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    facts = {}
    for name, part in zip(names, parts, strict=True):
        counts = json.loads(done[name].schema.metadata[b"counts"])
        counts |= {"filled": len(done[name]), "pairs": len(part)}
        facts[name] = counts
    order = np.lexsort((method, ids))
    place = folder.match_file(split)
    place.parent.mkdir(parents=True, exist_ok=True)
    sha256 = write_matches(place, names, ids[order], pictures[order], scores[order], method[order])
    return {
        "rows": 2 * len(ids),
        "sha256": sha256,
        "records_sha256": source.records.hash_used(np.concatenate([ids, pictures])),
        "methods": facts,
    }


def _no_matches(recipe: Recipe, split: str, done: Mapping[str, pa.Table]) -> ConfigError:
    """Make the error of a split without matches."""
    empty = [name for name, table in done.items() if not len(table)]
    why = "; ".join(f"{name}: {_explain(done[name])}" for name in empty)
    if len(empty) == len(done):
        message = (
            f"No caption of {split} is matched ({why}). Change the rule, or give {split} a larger share in splits."
        )
        return ConfigError(message)
    few = f"and there are none of some ({why})" if empty else "and their captions are the same few"
    message = f"{split}: merge={recipe.merge!r} takes as many matches of each method, {few}. Leave merge out, "
    return ConfigError(f"{message}change the rules, or give {split} a larger share in splits.")


def _explain(table: pa.Table) -> str:
    counts = json.loads(table.schema.metadata[b"counts"])
    reasons = [
        f"{count:,} {WORDS.get(why, why)}" for why, count in {**counts["left_out"], **counts["unfilled"]}.items()
    ]
    return ", ".join(reasons) or "no caption"
