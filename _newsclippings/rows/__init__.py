"""The join: matches, records, pictures and vectors become rows, and a report counts what is missing."""

from _newsclippings.rows.joined import ROWS_OF_PICTURES, TABLES_AHEAD, JoinedSplit
from _newsclippings.rows.joiner import Joiner, join_config, part_ranges, split_parts, stream_rows
from _newsclippings.rows.joining import count_broken_pairs, join, wanted_ids
from _newsclippings.rows.report import ADVICE, JoinReport, log_report, raise_if_incomplete

__all__ = [
    "ADVICE",
    "ROWS_OF_PICTURES",
    "TABLES_AHEAD",
    "JoinReport",
    "JoinedSplit",
    "Joiner",
    "count_broken_pairs",
    "join",
    "join_config",
    "log_report",
    "part_ranges",
    "raise_if_incomplete",
    "split_parts",
    "stream_rows",
    "wanted_ids",
]
