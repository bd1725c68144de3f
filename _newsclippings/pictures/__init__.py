"""Encoded pictures by path: find, read, check and decode them."""

from _newsclippings.encoded import (
    SUSPICIOUS_ZEROS,
    TAIL,
    decode,
    decode_small,
    ends_at_zeros,
    has_end,
    import_decoder,
    is_cut_by_zeros,
    may_be_whole,
)
from _newsclippings.pictures.check import USUAL_MODES, DecodeCheck, inspect_images
from _newsclippings.pictures.folder import FolderPictures, Pictures, pictures_state
from _newsclippings.pictures.layout import Layout
from _newsclippings.pictures.sources import PictureSources
from _newsclippings.pictures.tar import TarPictures, read_whole
from _newsclippings.pictures.union import UnionPictures, folders_of
from _newsclippings.pictures.zip import ZipPictures

__all__ = [
    "SUSPICIOUS_ZEROS",
    "TAIL",
    "USUAL_MODES",
    "DecodeCheck",
    "FolderPictures",
    "Layout",
    "PictureSources",
    "Pictures",
    "TarPictures",
    "UnionPictures",
    "ZipPictures",
    "decode",
    "decode_small",
    "ends_at_zeros",
    "folders_of",
    "has_end",
    "import_decoder",
    "inspect_images",
    "is_cut_by_zeros",
    "may_be_whole",
    "pictures_state",
    "read_whole",
]
