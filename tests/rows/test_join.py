"""The join by id, and its report, which counts what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from _newsclippings.corpus import records as corpus
from _newsclippings.matches import SCHEMA
from _newsclippings.rows.joined import JoinedSplit
from _newsclippings.rows.joiner import part_ranges
from _newsclippings.rows.joining import JoinedRows, wanted_ids
from _newsclippings.rows.joining import join as look_up
from _newsclippings.rows.report import JoinReport, raise_if_incomplete
from newsclippings import BadFileError, MissingDataError


class Planned:
    """Pictures of which it is known at once whether they are there."""

    def __init__(self, present: np.ndarray[Any, np.dtype[np.bool_]], paths: pa.Array) -> None:
        self.present, self.paths = present, paths
        self.sizes = present.astype(np.int64)

    def look(self, rows: object) -> None:
        """Nothing is left to be asked."""

    def why_absent(self, row: object) -> None:
        """Nothing is known."""

    def read(self, rows: object) -> pa.Array:
        raise NotImplementedError


def join(
    table: pa.Table, corpus: pa.Table, present: np.ndarray[Any, np.dtype[np.bool_]] | None, missing: str
) -> tuple[JoinedRows, JoinReport]:
    """The rows of a split of which all files are looked for, and their report."""
    pictures = None if present is None else Planned(present, corpus["image_path"].combine_chunks())
    split = JoinedSplit("merged_balanced", "test", look_up(table, corpus), "bytes", missing, pictures)
    return (split.report, split.rows)[::-1]


def matches(*pairs: tuple[int, int]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for caption, picture in pairs:
        both = {"id": caption, "source_dataset": 1}
        rows.append({**both, "image_id": caption, "similarity_score": 1.0, "falsified": False})
        rows.append({**both, "image_id": picture, "similarity_score": 0.5, "falsified": True})
    return pa.Table.from_pylist(rows, SCHEMA)


def records(*ids: int, outlets: tuple[str, ...] = ("bbc", "guardian")) -> pa.Table:
    rows = [
        {"id": n, "caption": f"c{n}", "image_path": f"p{n}", "source": outlets[n % len(outlets)], "topic": f"t{n}"}
        for n in sorted(ids)
    ]
    return pa.Table.from_pylist(rows, corpus.SCHEMA)


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), min_size=1, max_size=20), st.randoms())
def test_every_row_gets_its_own_caption_and_picture(pairs: list[tuple[int, int]], random: Any) -> None:
    """Captions are joined by id and pictures by image_id, in order, for any ids; null if no record has the id."""
    ids = sorted({n for pair in pairs for n in pair})
    known = set(random.sample(ids, random.randint(0, len(ids))))
    table = matches(*pairs)
    rows, report = join(table, records(*known), None, "null")
    found = rows.table(0, len(table))[0].to_pylist()
    for row, (k, match) in zip(found, enumerate(table.to_pylist()), strict=True):
        assert row["index"] == k
        assert (row["id"], row["image_id"]) == (match["id"], match["image_id"])
        assert row["caption"] == (f"c{match['id']}" if match["id"] in known else None)
        assert row["image_path"] == (f"p{match['image_id']}" if match["image_id"] in known else None)
        assert row["image_caption"] == (f"c{match['image_id']}" if match["image_id"] in known else None)
    complete = [m["id"] in known and m["image_id"] in known for m in table.to_pylist()]
    assert (report.rows, report.written, report.resolved) == (len(table), len(table), sum(complete))
    assert wanted_ids(table).tolist() == ids


def test_the_report_counts_by_kind_and_outlet() -> None:
    """The report counts rows, not pictures, by the picture's outlet, or as unknown if no record has the id."""
    table = matches((1, 2), (3, 4), (5, 99), (98, 1))
    present = np.array([True, False, True, True, False])  # of records 1 to 5, 2 (bbc) and 5 (guardian) are missing
    _, report = join(table, records(1, 2, 3, 4, 5), present, "null")
    assert report.missing == {
        "caption": {"unknown": 2},
        "picture_record": {"unknown": 2},
        "picture": {"guardian": 1, "bbc": 1},
    }
    assert report.first_missing == [
        "p2 (row 1)",
        "p5 (row 4)",
        "no record of picture 99 (row 5)",
        "no record of caption 98 (row 6)",
        "no record of picture 98 (row 6)",
    ]
    assert (report.rows, report.resolved, report.dropped_pairs, report.broken_pairs) == (8, 3, 0, 0)


def test_drop_pair_drops_twins_together() -> None:
    """A pair with one incomplete row is dropped as a whole; the other rows keep their numbers."""
    rows, report = join(matches((1, 2), (3, 4), (5, 1)), records(1, 3, 4, 5), None, "drop_pair")
    assert rows.table(0, 6)[0]["index"].to_pylist() == [2, 3, 4, 5]
    assert rows.table(1, 3)[0]["index"].to_pylist() == [2]
    assert (report.written, report.dropped_pairs) == (4, 1)


def test_rows_that_are_no_twins_are_counted() -> None:
    """Rows that do not alternate pristine and falsified with the same caption are counted, and none is lost."""
    table = matches((1, 2), (3, 4)).take([1, 0, 2, 3])
    rows, report = join(table, records(1, 2, 3, 4), None, "null")
    assert report.broken_pairs == 1
    assert rows.table(0, 4)[0]["image_id"].to_pylist() == [2, 1, 3, 4]
    assert "1 pairs of rows are no twins" in str(report)
    assert join(table.slice(0, 3), records(1, 2, 3, 4), None, "null")[1].broken_pairs == 2


def test_drop_pair_needs_twins() -> None:
    """If rows are no twins, dropping a pair is an error, because unrelated rows would be dropped."""
    table = matches((1, 2), (3, 4)).slice(1)
    with pytest.raises(BadFileError, match="found 2 pairs of rows that are not"):
        join(table, records(1, 2, 3), None, "drop_pair")
    assert join(table, records(1, 2, 3, 4), None, "drop_pair")[1].written == 3  # no row has to be dropped


def test_the_error_counts_what_is_missing_and_names_a_likely_cause() -> None:
    """The error suggests a truncated download if only bbc is present, and not otherwise."""
    table = matches((2, 3), (4, 1))
    _, complete = join(table, records(1, 2, 3, 4), np.ones(4, bool), "error")
    present = np.array([False, True, False, True])  # records 1 to 4: even ones are bbc
    _, report = join(table, records(1, 2, 3, 4), present, "error")
    with pytest.raises(MissingDataError) as error:
        raise_if_incomplete("merged_balanced", {"test": report}, "pictures /x/origin, records data.json")
    truncated = report
    assert str(error.value).splitlines() == [
        "merged_balanced/test: expected 4 complete rows, found 2.",
        "  In 2 rows the picture is not there, or empty (guardian 2).",
        "  First: p3 (row 1); p1 (row 3).",
        "  Looked in: pictures /x/origin, records data.json.",
        "  Only pictures of bbc are there. bbc comes first in origin.tar: if they come from it, it is "
        "truncated; the complete file has 97,916,641,280 bytes.",
        "  missing='drop_pair' would leave nothing of test: not one pair is complete there.",
        "  Complete the files, or pass missing='null' (keep the rows, with nulls); the join report then counts them.",
    ]
    _, report = join(table, records(1, 2, 3, 4), np.array([False, True, True, True]), "error")
    with pytest.raises(MissingDataError, match=r"(?s)^((?!Only pictures).)*$"):
        raise_if_incomplete("merged_balanced", {"test": report}, "here")
    _, nothing = join(table, records(1, 2, 3, 4), np.zeros(4, bool), "error")
    with pytest.raises(MissingDataError, match=r"(?s)drop_pair' would leave nothing of test:.*or pass missing='null'"):
        raise_if_incomplete("merged_balanced", {"test": nothing}, "here")
    raise_if_incomplete("merged_balanced", {"test": complete}, "here")
    with pytest.raises(MissingDataError, match=r"(?s)^merged_balanced/test: ((?!Only pic).)*$"):  # guardian is in train
        raise_if_incomplete("merged_balanced", {"train": complete, "test": truncated}, "here")


@given(st.integers(0, 400), st.integers(1, 40))
@example(1, 2)
def test_parts_are_disjoint_complete_and_keep_twins_together(rows: int, parts: int) -> None:
    """Every row is in exactly one part, parts begin at even rows, and neighbouring parts merge into one range."""
    ranges = [part_ranges(rows, [(k, parts)]) for k in range(parts)]
    seen = [row for part in ranges for start, stop in part for row in range(start, stop)]
    assert seen == list(range(rows))
    assert all(start % 2 == 0 for part in ranges for start, stop in part if start < stop)
    assert part_ranges(rows, [(k, parts) for k in range(parts)]) == [(0, rows)]
