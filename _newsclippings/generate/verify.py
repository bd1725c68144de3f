"""Check a generated config: `newsclippings generate --check`."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.config import Request, check_locations, check_path
from _newsclippings.errors import ConfigError, DataNotFoundError, NewsCLIPpingsError, bad_file
from _newsclippings.facts import DEFAULT_CONFIG, EMBEDDINGS, ENV_DATA_DIR, NAME, SPLITS
from _newsclippings.generate.agreement import describe_agreement
from _newsclippings.generate.entity_files import read_entities
from _newsclippings.generate.make import MARGIN_VECTORS, MOST_HASHED, hash_entities, hash_pictures, list_vectors
from _newsclippings.generate.properties import (
    PROMISES,
    Facts,
    Groups,
    Pair,
    Property,
    check_best,
    check_copies,
    check_merge,
    check_rules,
    check_scores,
    check_splits,
    check_uses,
)
from _newsclippings.generate.records import read_records
from _newsclippings.generate.rules import DEFAULT_SPLITS, Recipe, parse_recipe
from _newsclippings.generate.splits import hash_equal_sizes
from _newsclippings.generate.vector_files import NamedVectors, open_vectors, parse_named
from _newsclippings.generate.write import RECIPE, hash_rule
from _newsclippings.generated import MANIFEST, OWN, Generated, read_generated
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.pictures import PictureSources
from _newsclippings.storage import Access, cache_folder, compute_sha256, is_url, read_file
from _newsclippings.text import format_html, option, printable

_DO = "Get the folder again, or make it again with `newsclippings generate`."
_MOST_RECIPE = 1 << 20
_WIDTH = max(map(len, PROMISES.values()))
Row = dict[str, Any]


@dataclass(frozen=True)
class GeneratedReport:
    """What `verify_generated` found.

    Attributes:
        folder: the folder of the config.
        config: its name.
        properties: `P1` to `P9` -> what was checked and what is wrong. There is no P8 (the same inputs give the same
            bytes): make the config again in another folder and compare them.
    """

    folder: str
    config: str
    properties: Mapping[str, Property]

    @property
    def sound(self) -> bool:
        """Whether nothing that was checked is wrong."""
        return not any(found.failed for found in self.properties.values())

    @property
    def complete(self) -> bool:
        """Whether everything that the config promises was checked."""
        return not any(found.unchecked for found in self.properties.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        properties = {name: {"status": found.status, **asdict(found)} for name, found in self.properties.items()}
        head = {"folder": self.folder, "config": self.config, "sound": self.sound, "complete": self.complete}
        return {**head, "properties": properties}

    def __str__(self) -> str:
        lines = [f"{printable(self.folder)} ({self.config})"]
        for name, found in self.properties.items():
            counts = f": {found.failed:,} faults in {found.checked:,} {found.of}" if found.failed else ""
            if found.checked and not found.failed:
                counts = f": {found.checked:,} {found.of}"
            lines.append(f"  {name} {found.promise:{_WIDTH}}  {found.status.upper()}{counts}")
            lines += [f"       {fault}" for fault in found.faults]
            lines += [f"       and {found.failed - len(found.faults):,} more"] * (found.failed > len(found.faults))
            lines += [f"       not checked: {printable(why)}" for why in found.unchecked]
            lines += [f"       {printable(note)}" for note in (*found.approximate, *found.notes)]
        return "\n".join([*lines, self._result])

    def _repr_html_(self) -> str:
        rows, lists = [], []
        for name, found in self.properties.items():
            count = f"{found.checked:,} {found.of}" if found.checked else ""
            rows.append((name, found.promise, found.status, count, f"{found.failed:,}"))
            why = [
                *found.faults,
                *(f"not checked: {each}" for each in found.unchecked),
                *found.approximate,
                *found.notes,
            ]
            lists += [f"<li>{name}: {escape(printable(each))}</li>" for each in why]
        title = f"{self.folder} ({self.config})"
        table = format_html(["", "property", "", "checked", "faults"], rows, title)
        return f"<p><b>{self._result}</b></p>{table}" + (f"<ul>{''.join(lists)}</ul>" if lists else "")

    @property
    def _result(self) -> str:
        failed = [name for name, found in self.properties.items() if found.failed]
        left = [name for name, found in self.properties.items() if found.unchecked]
        result = f"Not sound: {', '.join(failed)}." if failed else "Sound." if not left else "No fault was found."
        result += "".join(f" Approximate: {name}." for name, found in self.properties.items() if found.approximate)
        return result + (f" Not checked, or in part: {', '.join(left)}." if left else "")


def verify_generated(
    out: str | os.PathLike[str],
    *,
    vectors: Mapping[str, Any] | None = None,
    entities: str | os.PathLike[str] | None = None,
    corpus: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> GeneratedReport:
    """Check what a generated config promises, by a second and simpler way than the one that made it.

    What needs an input that is not given is not checked, and the report says so.

    Args:
        out: the folder that `generate` wrote.
        vectors: as when it was made.
        entities: as when it was made.
        corpus: as when it was made.
        data_dir: as in `NewsCLIPpingsConfig`.
        visual_news: as in `NewsCLIPpingsConfig`.
        visual_news_index: as in `NewsCLIPpingsConfig`.
        links: as in `NewsCLIPpingsConfig`.
        links_root: as in `NewsCLIPpingsConfig`.
        cache_dir: the cache folder of `datasets`, where converted vectors are kept, as in a build.
        storage_options: options of fsspec for URLs that are passed here, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        The report; `report.sound` if nothing is wrong.

    Raises:
        ConfigError: an argument has a value that cannot be used.
        DataNotFoundError: the folder has no generated config, or an input is not where it is said to be.
        BadFileError: its manifest or an input is damaged.
    """
    path = Path(os.path.expanduser(check_path("out", out) or ""))
    place = path / MANIFEST
    made = read_generated(place) if place.is_file() else None
    if made is None:
        message = f"{printable(str(path))} has no generated config. Make one with `newsclippings generate`."
        raise DataNotFoundError(message)
    own = check_path("corpus", corpus)
    if own is not None and visual_news is not None:
        message = f"{option('corpus')} and {option('visual_news')} both name the corpus. Pass one of them."
        raise ConfigError(message)
    try:
        made_of = made.values["made_of"]
        recipe = parse_recipe(made_of["recipe"], f"{place}: recipe")
        names = {str(name): str(each["sha256"]) for name, each in made_of["vectors"].items()}
        compared = [str(each) for each in made_of["pictures"]["compared_by"]]
        digests = [made_of[name]["sha256"] for name in ("corpus", "pictures", "entities") if made_of[name] is not None]
        if not all(isinstance(each, str | None) for each in digests) or type(made_of["corpus"]["records"]) is not int:
            message = "made_of"
            raise TypeError(message)
        dict(made.values["files"])
        approximate = {
            (split, str(name)): describe_agreement(counts["approximate"])
            for split in made.splits
            for name, counts in made.values["splits"][split].get("methods", {}).items()
            if "approximate" in counts and "approximate" in made_of
        }
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise bad_file(
            path / MANIFEST, "the manifest of a generated config", f"something else: {error}"[:200], _DO
        ) from None
    given = parse_named(vectors or {})
    request = Request(
        DEFAULT_CONFIG,
        data_dir=check_path("data_dir", data_dir),
        visual_news=check_locations(own or visual_news),
        visual_news_index=check_path("visual_news_index", visual_news_index),
        links=links,
        links_root=check_path("links_root", links_root),
    )
    entity_place = check_path("entities", entities)
    entity_place = None if not entity_place else os.path.abspath(os.path.expanduser(entity_place))
    reader = _Reader(made, recipe, names, compared, request, Access(storage_options, token), cache_dir)
    facts = reader.read(given, entity_place)
    found = {name: Property(promise) for name, promise in PROMISES.items()}
    pairs = check_form(found["P1"], path, made, recipe, facts)
    groups = None if facts.records is None else Groups(facts)
    check_rules(found["P2"], facts, recipe, pairs)
    check_scores(found["P3"], facts, recipe, pairs)
    check_uses(found["P4"], facts, recipe, pairs)
    check_splits(found["P5"], facts, groups, pairs)
    check_copies(found["P6"], facts, groups, pairs)
    check_best(found["P7"], facts, groups, recipe, pairs, approximate)
    check_merge(found["P9"], recipe, pairs)
    return GeneratedReport(str(path), made.config, found)


@dataclass
class _Reader:
    """Reads the inputs of a config, as far as they are given."""

    made: Generated
    recipe: Recipe
    names: Mapping[str, str]  # of the vectors that it was made from, and their digests
    compared: list[str]
    request: Request
    access: Access
    cache_dir: Any

    def read(self, given: Mapping[str, Any], entities: str | None) -> Facts:
        """Read them; `given` and `entities` are as in `generate`."""
        cache = Path(self.cache_dir or cache_folder(), NAME)
        inputs = find_inputs(self.request, access=self.access)
        somewhere = self.request.data_dir or self.request.visual_news or os.environ.get(ENV_DATA_DIR)
        absent: dict[str, str] = {}
        records, table = None, None
        if (self.made.corpus == OWN and not self.request.visual_news) or not somewhere:
            name = "corpus" if self.made.corpus == OWN else "data_dir"
            absent["corpus"] = f"the corpus is not given ({option(name)})"
        else:
            official = self.made.corpus != OWN
            records = read_records(inputs, cache, not official, official=self.recipe.splits is None and official)
            table = records.entities
        if entities is not None:
            table = read_entities(entities)
        elif table is not None:  # the authors', in place of those that are not given
            said = self.made.values["made_of"]["entities"]
            table = table if said is not None and said["sha256"] == hash_entities(table) else None
        if table is None:
            absent["entities"] = f"entities are not given ({option('entities')})"
        opened = self._open_vectors(given, inputs, cache, absent)
        present = contents = None
        if records is not None and inputs.sources and not any(is_url(each.location) for each in inputs.sources):
            pictures = PictureSources(inputs, cache, kept=False, whole=False).open(records.texts("image_path"))
            most = MOST_HASHED if self.copies_by else None
            contents = hash_equal_sizes(pictures, len(records), most)
            present = pictures.present if pictures.present.any() else None
        if present is None and "SHA-256" in self.compared:
            absent["pictures"] = f"the content of pictures: they are not given ({option('visual_news')})"
        shares = self.recipe.splits or (None if records is None or records.splits is not None else DEFAULT_SPLITS)
        return Facts(records, table, opened, present, contents, self.copies_by, shares, absent)

    @property
    def copies_by(self) -> str | None:
        """The vectors by which copies of pictures were recognised."""
        return next((name.removeprefix("vectors ") for name in self.compared if name.startswith("vectors ")), None)

    def _open_vectors(
        self, given: Mapping[str, Any], inputs: Inputs, cache: Path, absent: dict[str, str]
    ) -> dict[str, NamedVectors]:
        opened: dict[str, NamedVectors] = {}
        has_data = bool(self.request.data_dir or os.environ.get(ENV_DATA_DIR))
        balanced = MARGIN_VECTORS if any(method.balance for method in self.recipe.methods) else ()
        for name in dict.fromkeys([*self.names, *list_vectors(self.recipe), *balanced]):
            missing = f"vectors {name} are not given ({option('vectors', f'{name}=FOLDER')})"
            if name not in given and not (name in EMBEDDINGS and has_data and self.made.corpus != OWN):
                absent[f"vectors {name}"] = missing
                continue
            try:
                if given.get(name, True) is True:
                    request = replace(self.request, embeddings={name: True})
                    inputs = find_inputs(request, access=self.access)
                opened |= open_vectors([name], given, inputs, cache, {name: name})
            except DataNotFoundError:
                if name in given:
                    raise
                absent[f"vectors {name}"] = missing
        return opened


def check_form(found: Property, path: Path, made: Generated, recipe: Recipe, facts: Facts) -> dict[str, list[Pair]]:
    """P1: files are as the manifest says, rows are twins with known ids, and inputs those that it was made from.

    Args:
        found: what is found is added to it.
        path: the folder.
        made: its manifest.
        recipe: the recipe in the manifest.
        facts: what is known.

    Returns:
        Split -> falsified rows, of the files that can be read.
    """
    found.of = "rows"
    _check_manifest(found, path, made, recipe)
    _check_inputs(found, made, facts)
    _check_totals(found, made)
    pairs = {}
    for split, said in made.splits.items():
        name = f"news_clippings/data/{made.config}/{SPLITS[split]}.json"
        try:
            if compute_sha256(path / name) != said.sha256:
                found.fail(f"{name}: its SHA-256 is not that of {MANIFEST}")
            table = read_matches(str(path / name), made.config, names=made.source_datasets)
        except (NewsCLIPpingsError, OSError) as error:
            found.fail(f"{name}: {error}")
            continue
        rows = table.to_pylist()
        found.checked += len(rows)
        if len(rows) != said.rows:
            found.fail(f"{name}: {len(rows):,} rows, {said.rows:,} in {MANIFEST}")
        _check_twins(found, split, rows)
        pairs[split] = [
            Pair(row["id"], row["image_id"], row["similarity_score"], row["source_dataset"] or 0)
            for row in rows
            if row["falsified"]
        ]
        _check_counts(found, split, made, pairs[split], recipe.merge is not None and len(recipe.methods) > 1)
        if facts.records is not None:
            used = {row[key] for row in rows for key in ("id", "image_id")}
            unknown = sorted(number for number in used if number not in facts.place)
            for number in unknown:
                found.fail(f"{split}: id {number} is not in the corpus")
            if not unknown and facts.records.hash_used(np.array(sorted(used), np.int64)) != said.records_sha256:
                found.fail(f"{split}: the captions or paths that it refers to have another SHA-256 than in {MANIFEST}")
    return pairs


def _check_twins(found: Property, split: str, rows: list[Row]) -> None:
    """Check that each pristine row is followed by its twin, in the order of ids and methods."""
    if len(rows) % 2:
        found.fail(f"{split}: {len(rows):,} rows, an odd number, so one has no twin")
    last: tuple[int, int] | None = None
    for number in range(0, len(rows) - 1, 2):
        first, second = rows[number : number + 2]
        where = f"{split}: rows {number} and {number + 1}, ids {first['id']} and {second['id']}"
        if first["falsified"] or not second["falsified"]:
            found.fail(f"{where}: not a pristine row and then a falsified one")
        elif first["id"] != second["id"] or first["source_dataset"] != second["source_dataset"]:
            found.fail(f"{where}: not twins of one caption and method")
        elif first["image_id"] != first["id"] or first["similarity_score"] != 1:
            found.fail(f"{where}: the pristine row has another picture than its own, or a score that is not 1")
        here = first["id"], first["source_dataset"] or 0
        if last is not None and last >= here:
            found.fail(f"{where}: not in ascending order of ids and methods, each once")
        last = here


def _check_counts(found: Property, split: str, made: Generated, pairs: list[Pair], merged: bool) -> None:
    """Compare the numbers of the manifest with the file, and with each other."""
    counts = Counter(pair.method for pair in pairs)
    for number, name in enumerate(made.source_datasets):
        said = _Counts.read(made, split, name)
        if said is None:
            found.fail(f"{MANIFEST}: {split} has no counts of {name}")
            continue
        if said.pairs != counts[number]:
            found.fail(f"{split}: {counts[number]:,} pairs of {name}, {said.pairs} in {MANIFEST}")
        if said.captions != said.filled + said.unfilled:
            found.fail(
                f"{MANIFEST}: {split}: of {said.captions:,} captions of {name}, {said.filled:,} are matched and "
                f"{said.unfilled:,} are not"
            )
        if said.filled < said.pairs or (said.filled > said.pairs and not merged):
            found.fail(f"{MANIFEST}: {split}: {said.pairs:,} pairs of {said.filled:,} matched captions of {name}")


def _check_totals(found: Property, made: Generated) -> None:
    """Check that each caption of the corpus took part in each method, or is counted among those that were left out."""
    for name in made.source_datasets:
        several = [_Counts.read(made, split, name) for split in made.splits]
        total = sum(said.captions + said.left_out for said in several if said is not None)
        known = made.values["made_of"]["corpus"]["records"]
        if None not in several and total != known:
            found.fail(f"{MANIFEST}: {total:,} captions are counted for {name}, and there are {known:,}")


@dataclass(frozen=True)
class _Counts:
    """What a manifest counts of a method and a split; see `generate.GenerateReport`."""

    captions: int
    filled: int
    pairs: int
    unfilled: int
    left_out: int

    @classmethod
    def read(cls, made: Generated, split: str, name: str) -> "_Counts | None":
        """Read them; None if they are not there, or no numbers."""
        try:
            said = made.values["splits"][split]["methods"][name]
            sums = [sum(said[key].values()) for key in ("unfilled", "left_out")]
            numbers = [*(said[key] for key in ("captions", "filled", "pairs")), *sums]
        except (KeyError, TypeError, AttributeError):
            return None
        return cls(*numbers) if all(type(number) is int and number >= 0 for number in numbers) else None


def _check_manifest(found: Property, path: Path, made: Generated, recipe: Recipe) -> None:
    values = made.values
    for name, digest in values.get("files", {}).items():
        try:
            same = compute_sha256(path / os.path.basename(name)) == digest
        except OSError as error:
            found.fail(f"{name}: {error}")
            continue
        if not same:
            found.fail(f"{name}: its SHA-256 is not that of {MANIFEST}")
    try:
        text = read_file(path / RECIPE, _MOST_RECIPE).decode("utf-8", "replace")
    except OSError:
        text = ""  # named above
    if text and text != values["made_of"]["recipe"]:
        found.fail(f"{RECIPE} is not the recipe that {MANIFEST} has")
    if recipe.config != made.config or [method.name for method in recipe.methods] != [*made.source_datasets]:
        found.fail(f"{MANIFEST}: its config or its methods are not those of its recipe")
    rules = {method.name: hash_rule(method) for method in recipe.methods}
    if values.get("rules") != rules:
        found.fail(f"{MANIFEST}: the digests of its rules are not those of its recipe")


def _check_inputs(found: Property, made: Generated, facts: Facts) -> None:
    """Compare the inputs that are given with those that the config was made from."""
    made_of = made.values["made_of"]
    digests: dict[str, tuple[str | None, Any]] = {
        f"vectors {name}": (each.digest(), made_of["vectors"][name]["sha256"])
        for name, each in facts.vectors.items()
        if name in made_of["vectors"]
    }
    if facts.entities is not None and made_of["entities"] is not None:
        digests["entities"] = hash_entities(facts.entities), made_of["entities"]["sha256"]
    if facts.records is not None and "entities" not in facts.absent:
        digests["corpus"] = facts.records.digest(), made_of["corpus"]["sha256"]
    if facts.contents is not None and "pictures" not in facts.absent:
        digests["pictures"] = hash_pictures(facts.present, facts.contents), made_of["pictures"]["sha256"]
    for name, (here, there) in digests.items():
        if here != there:
            found.fail(f"{name}: given are others than those that it was made from")
