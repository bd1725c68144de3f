"""Uncompressed tar archives: walk and index them, find and read their members."""

from _newsclippings.tar.archive import TarArchive, damaged_tar
from _newsclippings.tar.end import longest_end
from _newsclippings.tar.ends import SUSPICIOUS_ZEROS, TAIL, ends_at_zeros, has_end, is_cut_by_zeros, may_be_whole
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import TarIndex, changed_tar, describe_others, index_tar, keep_index, load_kept_index
from _newsclippings.tar.index_file import write_index
from _newsclippings.tar.members import Members, TarCopy, read_members
from _newsclippings.tar.segments import check_magic, walk_headers

__all__ = [
    "BLOCK",
    "SUSPICIOUS_ZEROS",
    "TAIL",
    "Members",
    "TarArchive",
    "TarCopy",
    "TarIndex",
    "changed_tar",
    "check_magic",
    "damaged_tar",
    "describe_others",
    "ends_at_zeros",
    "has_end",
    "index_tar",
    "is_cut_by_zeros",
    "keep_index",
    "load_kept_index",
    "longest_end",
    "may_be_whole",
    "read_members",
    "walk_headers",
    "write_index",
]
