"""Encoded pictures by path, and what they decode to."""

from _newsclippings.pictures.check import USUAL_MODES, DecodeCheck, look_at_all
from _newsclippings.pictures.decoding import decode, decode_small, import_decoder
from _newsclippings.pictures.folder import FolderPictures, Pictures, pictures_state
from _newsclippings.pictures.picture_end import FEW, TAIL, ends_so, has_end, is_cut_by_zeros, is_last_before

__all__ = [
    "FEW",
    "TAIL",
    "USUAL_MODES",
    "DecodeCheck",
    "FolderPictures",
    "Pictures",
    "decode",
    "decode_small",
    "ends_so",
    "has_end",
    "import_decoder",
    "is_cut_by_zeros",
    "is_last_before",
    "look_at_all",
    "pictures_state",
]
