"""Uncompressed tar archives: walk and index them, find and read their members."""

from _newsclippings.tar.archive import TarArchive, damaged_tar
from _newsclippings.tar.end import longest_end
from _newsclippings.tar.files import TarPictures, read_whole
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import changed_tar, describe_others, index_tar, keep_index, load_kept_index
from _newsclippings.tar.index_file import write_index
from _newsclippings.tar.segments import check_magic, walk_headers

__all__ = [
    "BLOCK",
    "TarArchive",
    "TarPictures",
    "changed_tar",
    "check_magic",
    "damaged_tar",
    "describe_others",
    "index_tar",
    "keep_index",
    "load_kept_index",
    "longest_end",
    "read_whole",
    "walk_headers",
    "write_index",
]
