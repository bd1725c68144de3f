"""Uncompressed tars: walk them, index them, find and read their members."""

from _newsclippings.tar.archive import TarSource, damaged_tar, made_of
from _newsclippings.tar.end import longest_end
from _newsclippings.tar.files import TarPictures, read_whole
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.index import changed_tar, keep, load_kept, walk
from _newsclippings.tar.index_file import write_index
from _newsclippings.tar.walking import check_magic, walk_headers

__all__ = [
    "BLOCK",
    "TarPictures",
    "TarSource",
    "changed_tar",
    "check_magic",
    "damaged_tar",
    "keep",
    "load_kept",
    "longest_end",
    "made_of",
    "read_whole",
    "walk",
    "walk_headers",
    "write_index",
]
