"""The join: matches, records, pictures and vectors become rows, and a report says what became of each."""

from _newsclippings.rows.assembly import Assembly, join_config, log_report, part_ranges, split_parts, stream_rows
from _newsclippings.rows.joined import ROWS_OF_PICTURES, TABLES_AHEAD, Split
from _newsclippings.rows.joining import broken_pairs, join, wanted_ids
from _newsclippings.rows.report import JoinReport, refuse_missing

__all__ = [
    "ROWS_OF_PICTURES",
    "TABLES_AHEAD",
    "Assembly",
    "JoinReport",
    "Split",
    "broken_pairs",
    "join",
    "join_config",
    "log_report",
    "part_ranges",
    "refuse_missing",
    "split_parts",
    "stream_rows",
    "wanted_ids",
]
