"""Join matches with records by id. Pure: tables in, rows and a report out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import BadFileError
from _newsclippings.facts import OUTLETS
from _newsclippings.rows.report import JoinReport
from _newsclippings.tables import Int32s, Int64s, as_array, int64s, lookup, unique_ids, values_of
from _newsclippings.text import option, printable

Bools = npt.NDArray[np.bool_]

SHOWN = 5  # names in a report


@dataclass(frozen=True)
class JoinedRows:
    """The rows of one split, as row numbers of the two tables that they come from.

    Attributes:
        matches: Arrow table of matches.SCHEMA.
        corpus: Arrow table of corpus.SCHEMA, sorted by id.
        caption_row: int32 (N,), the record of each row's caption; -1 without a record.
        image_row: int32 (N,), the record of each row's picture; -1 without a record.
        keep: bool (N,), which rows come out; all true until files are looked for.
    """

    matches: pa.Table
    corpus: pa.Table
    caption_row: Int32s
    image_row: Int32s
    keep: Bools

    def __len__(self) -> int:
        return len(self.matches)

    def table(self, start: int, stop: int) -> tuple[pa.Table, Int32s]:
        """Return the rows of a range that come out, with all columns but `image`, and the record of each picture."""
        rows = np.flatnonzero(self.keep[start:stop]) + start
        matches = self.matches.slice(start, max(0, stop - start))
        if len(rows) != len(matches):
            matches = matches.take(as_array(rows - start))
        images = self.image_row[rows]
        captions = self._take(self.caption_row[rows], ["caption", "source", "topic"])
        pictures = self._take(images, ["caption", "image_path", "source", "topic"])
        columns = {
            "index": as_array(rows.astype(np.int32)),
            "id": matches["id"],
            "image_id": matches["image_id"],
            "caption": captions["caption"],
            "image_path": pictures["image_path"],
            "falsified": matches["falsified"].cast(pa.int8()).cast(pa.int64()),
            "similarity_score": matches["similarity_score"],
            "source_dataset": matches["source_dataset"],
            "source": captions["source"],
            "topic": captions["topic"],
            "image_source": pictures["source"],
            "image_topic": pictures["topic"],
            "image_caption": pictures["caption"],
        }
        return pa.table(columns), images

    def _take(self, rows: Int32s, columns: list[str]) -> pa.Table:
        return self.corpus.select(columns).take(as_array(rows, rows < 0))


def wanted_ids(*matches: pa.Table) -> Int64s:
    """Collect the ids and image ids of matches, sorted and unique."""
    return unique_ids(*(int64s(table[name]) for table in matches for name in ("id", "image_id")))


def join(matches: pa.Table, corpus: pa.Table) -> JoinedRows:
    """Look up the records of every match.

    Args:
        matches: Arrow table of matches.SCHEMA.
        corpus: Arrow table of corpus.SCHEMA, sorted by id.
    """
    ids = int64s(corpus["id"])
    caption_row, image_row = (lookup(ids, int64s(matches[name])) for name in ("id", "image_id"))
    return JoinedRows(matches, corpus, caption_row, image_row, np.ones(len(matches), bool))


def find_missing(
    rows: JoinedRows,
    start: int,
    stop: int,
    *,
    pictures: Bools | None = None,
    undecodable: Bools | None = None,
    articles: Bools | None = None,
) -> dict[str, Bools]:
    """Find out what each row of a range lacks.

    Args:
        rows: the joined rows.
        start: number of the first row.
        stop: number after the last row.
        pictures: bool (records,), whether each record has its picture; None without pictures.
        undecodable: bool (records,), whether each record's picture does not decode; such a picture is not present. None
            without `check_images`.
        articles: bool (records,), whether each record has its article; None without articles.

    Returns:
        Kind (see `JoinReport.missing`) -> bool (stop - start,), whether a row lacks it.
    """
    captions, images = rows.caption_row[start:stop], rows.image_row[start:stop]
    lacks = {"caption": captions < 0, "picture_record": images < 0, "picture": np.zeros(len(images), bool)}
    if pictures is not None:
        lacks["picture"] = (images >= 0) & ~np.append(pictures, True)[images]
    if undecodable is not None:
        lacks["undecodable"] = (images >= 0) & np.append(undecodable, False)[images]
        lacks["picture"] &= ~lacks["undecodable"]
    if articles is not None:
        lacks["article"] = (captions >= 0) & ~np.append(articles, True)[captions]
    return lacks


def find_complete_pairs(matches: pa.Table, incomplete: Bools) -> Bools:
    """Find the pairs of which both rows are complete.

    Args:
        matches: rows of matches that begin with a pair.
        incomplete: bool (N,), whether each row lacks anything.

    Returns:
        Bool (N,), whether each row and its twin are complete.

    Raises:
        BadFileError: a row is incomplete, and rows 2k and 2k+1 are not twins.
    """
    if incomplete.any() and (broken := count_broken_pairs(matches)):
        message = (
            f"{option('missing', 'drop_pair')} drops twins. Expected rows 2k and 2k+1 to be a pristine row and its "
            f"falsified twin, found {broken:,} pairs of rows that are not. Use {option('missing', 'null')}, or fetch "
            "the file of matches again."
        )
        raise BadFileError(message)
    return _find_whole(incomplete)


def _find_whole(incomplete: Bools) -> Bools:
    partner = np.minimum(np.arange(len(incomplete)) ^ 1, len(incomplete) - 1)
    whole: Bools = ~(incomplete | incomplete[partner])
    return whole


Why = Callable[[str, int], str | None]  # takes a kind of `JoinReport.missing` and a record; says why it is missing


def make_report(rows: JoinedRows, start: int, stop: int, lacks: dict[str, Bools], why: Why) -> JoinReport:
    """Report on a range of rows.

    Args:
        rows: the joined rows, with `keep` decided.
        start: number of the first row.
        stop: number after the last row.
        lacks: see `find_missing`.
        why: says why a picture or an article is missing, if that is known.
    """
    count = stop - start
    incomplete = np.logical_or.reduce([*lacks.values()])
    written = int(rows.keep[start:stop].sum())
    captions, images = rows.caption_row[start:stop], rows.image_row[start:stop]
    outlets = rows.corpus["source"].combine_chunks().dictionary_encode()
    broken = count_broken_pairs(rows.matches.slice(start, count))
    return JoinReport(
        rows=count,
        written=written,
        resolved=int((~incomplete).sum()),
        dropped_pairs=(count - written + 1) // 2,
        broken_pairs=broken,
        missing={
            kind: _by_outlet((captions if kind == "article" else images)[lack], outlets, kind)
            for kind, lack in lacks.items()
        },
        first_missing=_first(rows, start, lacks, why),
        needed=_by_outlet(images[images >= 0], outlets, "picture"),
        first=start if count < len(rows) else None,
        whole=int(_find_whole(incomplete).sum()),
    )


def count_broken_pairs(matches: pa.Table) -> int:
    """Count the pairs of rows (2k, 2k+1) that are not a pristine row and its falsified twin."""
    ids, images = int64s(matches["id"]), int64s(matches["image_id"])
    falsified = values_of(matches["falsified"])
    pairs = len(ids) // 2
    first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    twins = (ids[first] == ids[second]) & (ids[first] == images[first]) & ~falsified[first] & falsified[second]
    return int((~twins).sum()) + len(ids) % 2


def _by_outlet(records: Int32s, outlets: pa.DictionaryArray, kind: str) -> dict[str, int]:
    """Count rows by the outlet of their record; `unknown` for rows without a record."""
    if kind in ("caption", "picture_record"):
        return {"unknown": len(records)} if len(records) else {}
    codes = values_of(outlets.indices)[records]
    totals = np.bincount(codes, minlength=len(outlets.dictionary)).tolist()
    counts = {printable(name): n for name, n in zip(outlets.dictionary.to_pylist(), totals, strict=True) if n}
    order = {outlet: k for k, outlet in enumerate(OUTLETS)}
    return dict(sorted(counts.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _first(rows: JoinedRows, start: int, lacks: dict[str, Bools], why: Why) -> list[str]:
    named = []
    for kind, lack in lacks.items():
        for row in (np.flatnonzero(lack)[:SHOWN] + start).tolist():
            match = {name: rows.matches[name][row].as_py() for name in ("id", "image_id")}
            record = int((rows.caption_row if kind == "article" else rows.image_row)[row])
            if kind == "caption":
                what = f"no record of caption {match['id']}"
            elif kind == "picture_record":
                what = f"no record of picture {match['image_id']}"
            elif kind in ("picture", "undecodable"):
                what = rows.corpus["image_path"][record].as_py()
            else:
                what = rows.corpus["article_path"][record].as_py() or f"no original article of caption {match['id']}"
            reason = why(kind, record) if kind in ("picture", "article") else None
            named.append((row, f"{what} (row {row}{f': {printable(reason)}' if reason else ''})"))
    return [text for _, text in sorted(named)[:SHOWN]]
