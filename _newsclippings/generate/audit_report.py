"""Find out how official matches were made: `newsclippings generate --audit`."""

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from _newsclippings.generate.audit_again import (
    FoundFilter,
    MadeAgain,
    Remade,
    compare_again,
    find_filter,
    make_again,
)
from _newsclippings.generate.audit_bias import Filter, Probe, Uses, count_uses, find_filters, probe_sides
from _newsclippings.generate.audit_inputs import Bools, Official, Pairs, read_official
from _newsclippings.generate.audit_measure import COSINE, DOT, FITS, Fit, change_vectors, find_fits
from _newsclippings.generate.audit_pool import (
    BEST,
    Around,
    PoolFigures,
    Space,
    choose_pool,
    find_near,
    list_pools,
    rank_pictures,
)
from _newsclippings.generate.audit_rule import FoundRule, Sharing, find_rule
from _newsclippings.generate.audit_splits import Crossing, find_crossings
from _newsclippings.generate.rules import MOST_USES, UNLIMITED, Rule, parse_recipe
from _newsclippings.tables import Int64s
from _newsclippings.text import printable

SAME: Final = 0.95  # share of the same pictures before a recipe may have the paper's name
CONFIG: Final = "audited"
ONLY: Final = "as found, only captions that are in a file of matches"
_SMALL_POOL = 8_000  # pictures; larger pools are matched in one way only, which takes long


@dataclass
class SourceAudit:
    """What was found of a source.

    Attributes:
        name: the source.
        pairs: how many falsified rows it has.
        judged: on how many pairs rule and pool are judged: those of the source's own config, if it has all of these.
        fits: measures, the best first.
        measure: the one that fits, in words; None if none does.
        sharing: shares of pairs with entities in common.
        rule: what a recipe says of the rule; None if no measure fits.
        pools: what pairs say about pools.
        pool: the one that was found, in words.
        uses: how its pictures are used.
        limit: how often a picture may be used, as found; None for no limit, or if no measure fits.
        made_again: what matching by the found recipe gives; the best way first.
        left_out: which of these matches the official file does not have; None if they are other ones, or if not all
            matches of the source are there.
        notes: what the grammar of recipes cannot say, or the pairs cannot tell.
        recipe: the table of a recipe, in TOML; None if it cannot be said.
    """

    name: str
    pairs: int
    judged: int
    fits: list[Fit]
    uses: Uses
    measure: str | None = None
    sharing: list[Sharing] = field(default_factory=list)
    rule: str | None = None
    pools: list[PoolFigures] = field(default_factory=list)
    pool: str | None = None
    limit: int | None = None
    made_again: list[MadeAgain] = field(default_factory=list)
    left_out: FoundFilter | None = None
    notes: list[str] = field(default_factory=list)
    recipe: str | None = None

    @property
    def same(self) -> float | None:
        """Share of the official pairs that the recipe gives the same picture; None if there is no recipe."""
        return self.made_again[0].same if self.made_again else None


@dataclass
class Audit:
    """How the matches of a split were made, as far as the official files show it.

    Attributes:
        config: the config.
        split: the split.
        records: captions in the metadata.
        missing: rows of the matches without a record.
        absent: files that are not there.
        sources: what was found of each source.
        filters: source, and `all` -> which picture CLIP prefers.
        probes: side -> how well a linear probe finds the label in it alone.
        captions: what captions with a pair have in common, in words.
        crossings: what the other splits whose files are there have in common with this one.
        seconds: how long the audit took.
    """

    config: str
    split: str
    records: int
    missing: int
    absent: list[str]
    sources: list[SourceAudit]
    filters: dict[str, Filter]
    probes: dict[str, Probe]
    captions: str
    crossings: list[Crossing]
    seconds: float

    @property
    def reproduced(self) -> bool:
        """Whether a recipe gives at least 95 % of the same pictures, in every source."""
        return bool(self.sources) and all(each.same is not None and each.same >= SAME for each in self.sources)

    @property
    def recipe(self) -> str | None:
        """The recipe that was found, in TOML; None unless every source has one that the grammar can say."""
        if not self.sources or any(each.recipe is None for each in self.sources):
            return None
        balanced = len(self.sources) > 1 and len({each.pairs for each in self.sources}) == 1
        lines = [f'config = "{CONFIG}"', *(['merge = "balanced"'] if balanced else [])]
        text = "\n\n".join(["\n".join(lines), *(each.recipe or "" for each in self.sources)]) + "\n"
        parse_recipe(text)
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values; figures that are not known are None."""
        values: dict[str, Any] = _plain(asdict(self) | {"reproduced": self.reproduced, "recipe": self.recipe})
        for each, source in zip(values["sources"], self.sources, strict=True):
            each["same"] = source.same
            each["fits"] = _plain([fit._asdict() for fit in source.fits])
            for name in ("sharing", "pools", "made_again"):
                each[name] = _plain([row._asdict() for row in getattr(source, name)])
            each["uses"] = source.uses._asdict()
            if source.left_out is not None:
                each["left_out"]["keys"] = source.left_out.keys
        values["filters"] = {name: _plain(each._asdict()) for name, each in self.filters.items()}
        values["crossings"] = [each._asdict() for each in self.crossings]
        values["probes"] = {name: each._asdict() for name, each in self.probes.items()}
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def audit(
    config: str = "merged_balanced", split: str = "validation", data_dir: str | os.PathLike[str] | None = None
) -> Audit:
    """Find out how the official matches of a split were made: by which measure, rule, pool and use of pictures.

    Only the authors' files are read: matches, metadata, and the vectors that are there. Nothing is downloaded.

    Args:
        config: an official one. With the matches of the sources' own configs beside it, more is known about which
            pictures were used up.
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: as in `NewsCLIPpingsConfig`.

    Raises:
        ConfigError: there is no such config or split.
        DataNotFoundError: the matches or the metadata are not there.
        BadFileError: a file is malformed.
    """
    start = time.perf_counter()
    official = read_official(config, split, data_dir)
    fits = find_fits(official)
    filters, probes = find_filters(official), probe_sides(official)
    sources = [_audit_source(official, name, fits[name]) for name in official.pairs]
    return Audit(
        config=config,
        split=split,
        records=len(official.ids),
        missing=official.missing,
        absent=official.absent,
        sources=sources,
        filters=filters,
        probes=probes,
        captions=_describe_captions(official),
        crossings=find_crossings(official, config, data_dir),
        seconds=time.perf_counter() - start,
    )


def _audit_source(official: Official, name: str, fits: list[Fit]) -> SourceAudit:
    own, used = official.pairs[name], official.used[name]
    pairs = used if _is_within(own, used, len(official.ids)) else own  # the more pairs, the more they show
    result = SourceAudit(name, len(own.scores), len(pairs.scores), fits, count_uses(used, len(official.ids)))
    of_pairs = (pairs.captions, pairs.pictures)
    if not fits or not fits[0].fits:
        nothing: Int64s = np.empty(0, np.int64)
        result.sharing = find_rule(official, of_pairs, (nothing, nothing), pairs.scores.tolist()).sharing
        return result
    fit = fits[0]
    result.measure = str(fit)
    vectors = change_vectors(official, fit.query, fit.against, fit.way)
    if vectors is None:
        return result
    left, right, known = vectors
    space = Space(left, right, known[0] & known[1], max(3e-6, 3 * fit.median))
    near = find_near(space, pairs.captions)
    found = find_rule(official, of_pairs, near, pairs.scores.tolist())
    result.sharing, result.notes = found.sharing, [*found.notes]
    pools = list_pools(official, pairs)
    limit = result.uses.most
    result.pools = rank_pictures(official, space, found.rule, pairs, used, limit, pools, near)
    pool = choose_pool(pools, result.pools)
    figures = result.pools[pools.index(pool)]
    result.pool = pool.name
    unlimited = (figures.best >= BEST and figures.free <= figures.best) or limit > MOST_USES
    result.limit = None if unlimited else limit
    _match_again(official, name, fit, space, found, pool, result)
    if fit.way != COSINE:
        result.notes.append(f"the measure is the {fit.way}, and the grammar has cosines only")
    if pool.same is None:
        result.notes.append(f"the pool is {pool.name}, for which the grammar has no key")
    result.rule = _write_rule(found.rule, pool)
    if fit.way == COSINE and pool.same is not None and found.form == "casefold":
        result.recipe = _write_method(result, fit, found.rule, pool)
    return result


def _is_within(pairs: Pairs, others: Pairs, count: int) -> bool:
    """Check whether nearly all pairs are among others."""
    keys, other_keys = (each.captions * count + each.pictures for each in (pairs, others))
    return bool(np.isin(keys, other_keys).mean() >= FITS)


def _match_again(
    official: Official, name: str, fit: Fit, space: Space, found: FoundRule, pool: Around, result: SourceAudit
) -> None:
    """Match by the recipe, and if that is not the same, by others near it; then find what was left out."""
    if fit.way == DOT:
        result.notes.append("vectors of other lengths than 1 cannot be matched again")
        return
    every = np.ones(len(official.ids), bool)
    ways: list[tuple[str, int | None, Bools]] = [("as found", result.limit, every)]
    ways += [("each picture once", 1, every)] if result.limit != 1 else []
    ways += [("without a limit of uses", None, every)] if result.limit is not None else []
    if not official.in_matches.all():
        ways.append((ONLY, result.limit, official.in_matches))
    size = next(each.size for each in result.pools if each.pool == pool.name)
    used = official.used[name] if name in official.whole else None
    best: Remade | None = None
    for way, limit, only in ways:
        remade = make_again(official, space, found.rule, pool, limit, only)
        again = compare_again(official, remade, official.pairs[name], used, way)
        if best is None or again.same > max(each.same for each in result.made_again):
            best, result.limit = remade, limit
        result.made_again.append(again)
        if again.same >= SAME or size > _SMALL_POOL:
            break
    result.made_again.sort(key=lambda again: -again.same)
    if result.made_again[0].way == ONLY:
        result.notes.append("captions that are in no file of matches took no part, for which the grammar has no key")
    if best is None or used is None or result.made_again[0].same < SAME:
        result.notes.append("which matches were left out afterwards cannot be told")
        return
    result.left_out, rest = find_filter(official, best, used, result.limit)
    result.notes += result.left_out.notes
    if result.left_out.keys:
        way = f"{result.made_again[0].way}, with {' and '.join(result.left_out.keys)}"
        result.made_again.insert(0, compare_again(official, rest, official.pairs[name], used, way))


def _write_rule(rule: Rule, pool: Around) -> str:
    """Write the rule as a recipe has it."""
    values = {name: [*getattr(rule, name)] for name in ("share", "differ", "without") if getattr(rule, name)}
    if pool.same:
        values["same"] = [*pool.same]
    texts = [f"{name} = [{', '.join(_quote(each) for each in several)}]" for name, several in values.items()]
    if pool.codes is None:
        texts.append(f'within = "{pool.seconds // 86_400}d"')
    if rule.picture is not None:
        texts.append(f"picture = {_quote(rule.picture)}")
    return f"{{{', '.join(texts)}}}"


def _quote(text: str) -> str:
    return f'"{text}"'


def _write_method(result: SourceAudit, fit: Fit, rule: Rule, pool: Around) -> str:
    """Write the table of a recipe; what it cannot say is a comment in it."""
    comments = [f"{each.same:.1%} of the official pictures are the same, {each.way}" for each in result.made_again[:1]]
    lines = ["[[method]]", *(f"# {printable(each)}." for each in [*comments, *result.notes])]
    lines += [f"name = {_quote(result.name)}", f"query = {_quote(fit.query)}", f"against = {_quote(fit.against)}"]
    lines.append(f"uses = {_quote(UNLIMITED) if result.limit is None else result.limit}")
    lines += [] if rule.cap is None else [f"cap = {rule.cap}"]
    lines += [] if result.left_out is None else result.left_out.keys
    return "\n".join([*lines, f"rule = {_write_rule(rule, pool)}"])


def _describe_captions(official: Official) -> str:
    words = np.array([len(caption.split()) for caption in official.captions])
    count = np.array([len(entities) for entities in official.entities])
    chosen = official.in_matches
    if not chosen.any():
        return "no caption has a pair"
    low, high = int(words[chosen].min()), int(words[chosen].max())
    outside = float(((words < low) | (words > high)).mean())
    return (
        f"captions with a pair have {low} to {high} words and {count[chosen].min()} to {count[chosen].max()} entities; "
        f"they are {chosen.mean():.1%} of all, and {outside:.1%} of all have other numbers of words"
    )
