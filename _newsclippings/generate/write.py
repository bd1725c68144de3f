"""The files of a generated config: the official tree, the recipe, the manifest, and a card."""

import contextlib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from _newsclippings.errors import ConfigError
from _newsclippings.facts import SPLITS, VERSION
from _newsclippings.generate.agreement import describe_agreement
from _newsclippings.generate.examples import PAGE, SHEET
from _newsclippings.generate.quality import describe_quality
from _newsclippings.generate.rules import Method, Recipe
from _newsclippings.generated import FORMAT, MADE_BY, MANIFEST
from _newsclippings.matches import read_matches
from _newsclippings.storage import (
    check_own_folder,
    compute_sha256,
    flush,
    flush_folder,
    foreign_output,
    has_content,
    read_file,
    write_atomically,
    write_text,
)
from _newsclippings.tables import Int64s
from _newsclippings.text import printable

RECIPE: Final = "recipe.toml"
README: Final = "README.md"
ROUNDS: Final = "rounds"  # results of parts while it runs
PLAN: Final = "plan.json"
WORDS: Final = {  # why captions have no picture: reason -> what follows their number
    "pool": "without another picture",
    "share": "share no entity with another",
    "same": "without another of the same kind",
    "other": "without another of another kind",
    "gap": "without another that is far enough in time",
    "within": "without another that is near enough in time",
    "picture": "without a picture of the kind",
    "without": "have an entity that the rule excludes",
    "differ": "without another that differs in its entities",
    "cap": "whose scores are all above the cap",
    "floor": "whose scores are all below the floor",
    "used_up": "whose pictures are used up",
    "closed": "not in a closed set",
    "balance": "left out for balance",
}
COUNTED: Final = ("split", "method", "captions", "matched", "pairs here", "not matched", "left out")
COMMAND: Final = "generate"
_TEMPORARY = r"(\.\d+-[0-9a-f]{8}\.tmp)?"
_NAMES = (
    rf"({re.escape(MANIFEST)}|{re.escape(RECIPE)}|{re.escape(README)}|{ROUNDS}/({re.escape(PLAN)}|[a-z0-9_-]+\.(arrow|vectors))|"
    rf"{re.escape(SHEET)}|{re.escape(PAGE)}|"
    rf"news_clippings/data/[a-z0-9_]+/({'|'.join(SPLITS.values())})\.json){_TEMPORARY}"
)
_MOST_BYTES = 8 << 20


class Folder:
    """The folder of a generated config, while it is written.

    Attributes:
        path: the folder.
        plan: what the config is made of: its recipe, and digests of the corpus, the entities and the vectors.
        key: SHA-256 of the plan.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self.path, self.plan = path, plan
        self._text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
        self.key = hashlib.sha256(self._text.encode()).hexdigest()

    def check_plan(self) -> None:
        """Check that the folder has no config of another plan.

        Raises:
            ConfigError: the folder has a config of another plan.
        """
        there = self._read_plan()
        if there is not None and there != json.loads(self._text):
            raise _other_plan(self.path, there, json.loads(self._text))

    def begin(self) -> None:
        """Write the plan, or go on from what is there."""
        if not self.is_begun():
            (self.path / ROUNDS).mkdir(parents=True, exist_ok=True)
            write_text(self.path / ROUNDS / PLAN, self._text)
        _write_unless_there(self.path / RECIPE, self.plan["recipe"])

    def read_finished(self) -> dict[str, Any] | None:
        """Return the manifest if everything that it names is there and unchanged; else None."""
        try:
            values: dict[str, Any] = json.loads(read_file(self.path / MANIFEST, _MOST_BYTES))
            files = {
                str(self.match_file(split).relative_to(self.path)): each["sha256"]
                for split, each in values["splits"].items()
            }
            files |= values["files"]
            same = all(compute_sha256(self.path / name) == digest for name, digest in files.items())
            return values if same else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def match_file(self, split: str) -> Path:
        """Return the file of matches of a split."""
        config: str = self.plan["config"]
        return self.path / "news_clippings" / "data" / config / f"{SPLITS[split]}.json"

    def read_matches(self, split: str, names: Sequence[str]) -> pa.Table:
        """Read the file of matches of a split; `names` are those of the methods."""
        return read_matches(str(self.match_file(split)), self.plan["config"], names=names)

    def round_file(self, name: str) -> Path:
        """Return the file of an intermediate result."""
        return self.path / ROUNDS / f"{name}.arrow"

    def keep(self, name: str, table: pa.Table) -> None:
        """Write an intermediate result, completely or not at all."""
        with write_atomically(self.round_file(name)) as temporary:
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), "plan": self.key})
            with pa.ipc.new_file(temporary, table.schema) as writer:
                writer.write_table(table)
            with open(temporary, "rb") as file:
                flush(file.fileno())
        flush_folder(self.path / ROUNDS)

    def vectors_file(self, name: str, ids: Int64s) -> Path:
        """Return the file of the vectors of some ids, as they are compared."""
        key = hashlib.sha256(f"{self.key} {name} ".encode() + ids.astype("<i8").tobytes()).hexdigest()
        return self.path / ROUNDS / f"{name.lower()}-{key[:16]}.vectors"

    def recall(self, name: str) -> pa.Table | None:
        """Read an intermediate result of an interrupted call; None if there is none of this plan."""
        try:
            with pa.OSFile(str(self.round_file(name))) as file:
                table = pa.ipc.open_file(file).read_all()
        except (OSError, pa.ArrowException):
            return None
        return table if (table.schema.metadata or {}).get(b"plan") == self.key.encode() else None

    def drop(self, names: str) -> None:
        """Remove intermediate results whose names match a pattern."""
        for place in self.path.glob(f"{ROUNDS}/{names}.arrow"):
            place.unlink(missing_ok=True)

    def is_begun(self) -> bool:
        """Return whether the folder is being written."""
        return (self.path / ROUNDS / PLAN).exists()

    def is_finished(self) -> bool:
        """Return whether the folder has all that `finish` writes."""
        return (self.path / MANIFEST).exists()

    def finish(self, manifest: Mapping[str, Any], readme: str) -> None:
        """Write the card and the manifest."""
        _write_unless_there(self.path / README, readme)
        files = {name: compute_sha256(self.path / name) for name in (README, RECIPE)}
        text = json.dumps({**manifest, "files": files}, indent=1, ensure_ascii=False) + "\n"
        write_text(self.path / MANIFEST, text)

    def clean(self) -> None:
        """Remove intermediate results and what killed processes left, after all is written."""
        for place, _, names in os.walk(self.path, topdown=False):
            inside = Path(place) == self.path / ROUNDS
            for name in names:
                if inside or name.endswith(".tmp"):
                    Path(place, name).unlink(missing_ok=True)
            if inside:
                with contextlib.suppress(FileNotFoundError):  # other processes clean, too
                    os.rmdir(place)

    def discard(self) -> None:
        """Remove what was begun, of a config that cannot be made; nothing of one that was finished before."""
        if self.is_finished():
            return
        (self.path / ROUNDS / PLAN).unlink(missing_ok=True)  # other processes see that they need not go on
        for place, _, names in os.walk(self.path, topdown=False):
            for name in names:
                Path(place, name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process is just writing to it
                os.rmdir(place)

    def _read_plan(self) -> Any:
        for place, key in ((self.path / MANIFEST, "made_of"), (self.path / ROUNDS / PLAN, None)):
            try:
                values = json.loads(read_file(place, _MOST_BYTES))
                return values[key] if key else values
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None


def _write_unless_there(place: Path, text: str) -> None:
    if not place.exists() or not has_content(place, text.encode()):
        write_text(place, text)


def check_folder(path: Path) -> None:
    """Raise `ConfigError` if a folder holds anything but a config that `generate` wrote."""
    check_own_folder(path, _NAMES, COMMAND)
    if path.is_dir() and not (path / MANIFEST).exists() and not (path / ROUNDS / PLAN).exists():
        others = [name for name in sorted(os.listdir(path)) if name != ROUNDS]
        if others:
            raise foreign_output(path / others[0], COMMAND)


def write_matches(
    place: Path, sources: Sequence[str], ids: Int64s, image_ids: Int64s, scores: Any, source: Int64s
) -> str:
    """Write a file of matches in the official form, unless it is there; return its SHA-256.

    Args:
        place: the file.
        sources: the names of the methods.
        ids: int64 (N,), the captions of the pairs.
        image_ids: int64 (N,), their falsified pictures.
        scores: float64 (N,).
        source: int64 (N,), the position of the method in `sources`.
    """

    def lines() -> Iterator[str]:
        """Yield the text, twins one after the other."""
        table = json.dumps({str(number): name for number, name in enumerate(sources)})
        yield f'{{"source_datasets": {table}, "annotations": ['
        columns = (ids.tolist(), image_ids.tolist(), scores.tolist(), source.tolist())
        for number, (caption, picture, score, method) in enumerate(zip(*columns, strict=True)):
            end = f'"source_dataset": {method}, "falsified": '
            yield (
                f"{', ' if number else ''}"
                f'{{"id": {caption}, "image_id": {caption}, "similarity_score": 1, {end}false}}, '
                f'{{"id": {caption}, "image_id": {picture}, "similarity_score": {score!r}, {end}true}}'
            )
        yield "]}\n"

    digest = hashlib.sha256()
    for line in lines():
        digest.update(line.encode())
    if not place.exists() or compute_sha256(place) != digest.hexdigest():
        with write_atomically(place) as temporary, open(temporary, "w", encoding="ascii") as file:
            file.writelines(lines())
            file.flush()
            flush(file.fileno())
    return digest.hexdigest()


def hash_rule(method: Method) -> str:
    """Return the SHA-256 of everything that decides the matches of a method, besides its vectors."""
    values = {**vars(method), "rule": vars(method.rule)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def make_manifest(recipe: Recipe, plan: Mapping[str, Any], splits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of manifest.json, except for the digests of the card and the recipe."""
    return {
        "made_by": MADE_BY,
        "format": FORMAT,
        "version": VERSION,
        "config": recipe.config,
        "description": describe(recipe),
        "source_datasets": [method.name for method in recipe.methods],
        "corpus": {"kind": plan["corpus"]["kind"]},
        "rules": {method.name: hash_rule(method) for method in recipe.methods},
        "made_of": plan,
        "splits": splits,
    }


def describe(recipe: Recipe) -> str:
    """Describe a config in a sentence."""
    names = ", ".join(method.name for method in recipe.methods)
    merged = " in equal parts" if recipe.merge is not None and len(recipe.methods) > 1 else ""
    return f"Generated matches{merged}, by {names}."


def tabulate(splits: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield what a manifest counts, a row for each split and method, with the columns `COUNTED`."""
    for split, facts in splits.items():
        for name, counts in facts["methods"].items():
            unfilled = ", ".join(f"{count:,} {WORDS.get(why, why)}" for why, count in counts["unfilled"].items()) or "-"
            left = ", ".join(f"{count:,} with {why}" for why, count in counts["left_out"].items()) or "-"
            yield [split, name, *(f"{counts[key]:,}" for key in ("captions", "filled", "pairs")), unfilled, left]


def make_readme(recipe: Recipe, manifest: Mapping[str, Any]) -> str:
    """Write the card of a generated config: what it is for, how it was made, and its limits."""
    corpus, made_of = manifest["made_of"]["corpus"], manifest["made_of"]
    of = "VisualNews" if corpus["kind"] == "visual_news" else "a corpus of the user"
    vectors = "".join(
        f"- vectors `{name}` of {each['of']}: {each['ids']:,} ids, {each['width']:,} numbers each\n"
        for name, each in made_of["vectors"].items()
    )
    approximate = "".join(
        f"- `{name}` in {split} is approximate: {describe_agreement(counts['approximate'])}\n"
        for split, facts in manifest["splits"].items()
        for name, counts in facts["methods"].items()
        if "approximate" in counts
    )
    compared = ", ".join(made_of["pictures"]["compared_by"])
    entities = "none" if made_of["entities"] is None else f"those of {made_of['entities']['captions']:,} captions"
    rows = "\n".join(
        f"| {split} | `{name}` | {' | '.join(cells)} |" for split, name, *cells in tabulate(manifest["splits"])
    )
    shown = "belong to their publishers. They are not in this folder."
    examples = ""
    if manifest["examples"]:
        shown = (
            "belong to their publishers. Those of the examples are in this folder,\n"
            f"  in `{SHEET}` and `{PAGE}`: leave these two files out where you may not publish them."
        )
        examples = f"\n![Examples]({SHEET})\n\nMore of them: [{PAGE}]({PAGE}).\n"
    return f"""# {recipe.config}

{manifest["description"]} Each match is two rows: a caption with its own picture (pristine), and with the picture of
another caption (falsified). No caption was written or changed, and each row keeps its label, its ids and its score.

## What it is for

Research on the detection of pictures out of context, and benchmarks of such detectors. It is not for publishing
falsified pairs without their labels: they are made to be convincing.

## How it was made

By `newsclippings generate` {VERSION}, from {of}: {corpus["records"]:,} captions. `{RECIPE}` has the recipe, and
`{MANIFEST}` the digests of all that it was made from.

- entities: {entities}
{vectors}- pictures count as copies of each other by: {printable(compared)}
{approximate}
| {" | ".join(COUNTED)} |
|---|---|---:|---:|---:|---|---|
{rows}

## Difficulty and bias

{describe_quality(manifest["quality"])}
{examples}
## Limits

- Rules compare names as texts. Two names of one person or place ("US" and "the United States") are taken for two, so
  that a falsified pair may be true of its picture, as far as names are not linked.
- An entity that is in the picture but not in its caption is unknown to the rules. "Falsified" means that the picture
  belongs to another caption; it may still fit this one.
- A method prefers what its vectors find alike. A model that uses the same vectors sees the pairs in another light than
  others do.
- Captions and pictures {shown}

## Load it

```python
import newsclippings
from datasets import load_dataset

rows = load_dataset("newsclippings", "{recipe.config}", data_dir="this/folder", visual_news="the/corpus")
```
"""


def _other_plan(path: Path, there: Any, asked: Mapping[str, Any]) -> ConfigError:
    """Make the error of a folder with another config, which names what differs in both."""
    old, new = _flatten(there if isinstance(there, Mapping) else {}), _flatten(asked)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    what = "; ".join(f"{name} is {_short(old.get(name))} there, {_short(new.get(name))} now" for name in names[:5])
    return ConfigError(
        f"{path} has another config: {what}. Nothing was changed: choose another folder, or ask for the same again."
    )


def _flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name == "recipe":
            flat |= _flatten_recipe(value)
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{before}{name} ")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _flatten_recipe(text: Any) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
        methods = {f"method {each['name']}": each for each in table.pop("method")}
        return _flatten({**table, **methods}, "recipe ")
    except (ValueError, TypeError, KeyError, AttributeError):  # of a manifest that somebody changed
        return {"recipe": text}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return printable(text if len(text) <= 60 else f"{text[:57]}...")
