"""One encoded picture: decode it, and tell from its end whether it is whole."""

from _newsclippings.encoded.decoding import (
    MAX_PIXELS,
    ORIENTATION,
    decode,
    decode_small,
    import_decoder,
    quiet,
    refuse_bomb,
)
from _newsclippings.encoded.ends import (
    SUSPICIOUS_ZEROS,
    TAIL,
    ends_at_zeros,
    has_end,
    is_cut_by_zeros,
    jpeg_has_end,
    may_be_whole,
)

__all__ = [
    "MAX_PIXELS",
    "ORIENTATION",
    "SUSPICIOUS_ZEROS",
    "TAIL",
    "decode",
    "decode_small",
    "ends_at_zeros",
    "has_end",
    "import_decoder",
    "is_cut_by_zeros",
    "jpeg_has_end",
    "may_be_whole",
    "quiet",
    "refuse_bomb",
]
