"""Uncompressed tar archives: walk and index them, find and read their members."""

from _newsclippings.tar.archive import TarArchive, damaged_tar, describe_damage
from _newsclippings.tar.end import longest_end
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import TarIndex, changed_tar, describe_others, index_tar, keep_index, load_kept_index
from _newsclippings.tar.index_file import write_index
from _newsclippings.tar.members import Members, TarCopy, read_members
from _newsclippings.tar.segments import check_magic, walk_headers

__all__ = [
    "BLOCK",
    "Members",
    "TarArchive",
    "TarCopy",
    "TarIndex",
    "changed_tar",
    "check_magic",
    "damaged_tar",
    "describe_damage",
    "describe_others",
    "index_tar",
    "keep_index",
    "load_kept_index",
    "longest_end",
    "read_members",
    "walk_headers",
    "write_index",
]
