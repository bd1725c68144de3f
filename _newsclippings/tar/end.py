"""Check how a tar ends, to detect interrupted downloads.

A whole tar ends with two zero blocks and zeros up to the end of a record. Programs that preallocate give a file its
full size first and write its content later. If they are interrupted, the rest of the file is zeros: after a member that
looks like the end of the tar, and inside a member it looks like data.
"""

import pyarrow as pa

from _newsclippings.encoded import SUSPICIOUS_ZEROS, ends_at_zeros, has_end, may_be_whole
from _newsclippings.storage import RandomFile, is_remote
from _newsclippings.tar.headers import BLOCK, ZERO, DamageError

# Blocks per record (`tar -b`), as used by tar, star and tape drives. Any tar may be padded to the usual record; padding
# to a larger record is accepted only if the size of the file is a multiple of that record.
USUAL = 20
LARGER = (40, 63, 100, 126, 127, 200, *(1 << k for k in range(5, 15)))
_SAMPLES, _SAMPLE = 64, 64 << 10  # number and size of the samples, if there are too many zeros to read them all
_PIECE = 1 << 20  # bytes read at a time
_LOCAL, _REMOTE = 1 << 30, 16 << 20  # most bytes of a member that are read to find where its zeros begin
_WHOLE = 64 << 20  # most bytes of a picture in which its end marker is searched for
_TEXTS = (".json", ".txt")  # file types that never end in zeros
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")


def longest_end(size: int) -> int:
    """Most zero bytes with which a whole tar of `size` bytes may end: two blocks and the padding of a record."""
    fitting = [blocks for blocks in LARGER if size % (blocks * BLOCK) == 0]
    return (max([USUAL, *fitting]) + 1) * BLOCK


def find_end_damage(file: RandomFile, byte: int) -> DamageError | None:
    """Check the end of a tar.

    Args:
        file: the tar.
        byte: position of the zero block where the end marker should begin.

    Returns:
        What is wrong with the end; None if it is right.
    """
    if file.read_at(byte + BLOCK, BLOCK) != ZERO:
        return DamageError(byte, "a single zero block where a header or the end marker was expected")
    zeros, allowed = file.size - byte, longest_end(file.size)
    places, length = range(byte, file.size, _PIECE), _PIECE
    if zeros > allowed and len(places) > _SAMPLES:
        places, length = range(byte, file.size, zeros // _SAMPLES), _SAMPLE
    if not all(_is_zero(file.read_at(place, length)) for place in (*places, max(byte, file.size - length))):
        what = "a second archive was appended, or damage, such as a hole that a download left"
        return DamageError(byte, f"data after the end marker ({what})")
    if zeros > allowed:
        why = f"{zeros:,} bytes of zeros up to the end of the file, where a tar has at most {allowed:,}"
        return DamageError(byte, f"{why} (an interrupted download into a preallocated file)")
    return None


def _is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)


def find_unwritten_data(file: RandomFile, member: dict[str, int | str], damaged: bool) -> DamageError | None:
    """Check whether the data of the last member before a run of zeros were only partly written.

    Args:
        file: the tar.
        member: `name`, `offset` and `size` of the member.
        damaged: whether the tar is damaged right after the member. If it is, a member that ends in zeros counts as
            damaged, unless it is a picture with its end marker; if not, only a member that cannot be whole does.

    Returns:
        From which byte on the data are missing; None if the member is whole.
    """
    name, offset, size = str(member["name"]).lower(), int(member["offset"]), int(member["size"])
    begin = _find_zeros(file, offset, size)
    if begin == offset + size:
        return None
    data = file.read_at(offset, min(size, _WHOLE)) if begin > offset else b""
    begins = 0 if _is_zero(data) else len(data.rstrip(b"\0"))
    if has_end(data) and (ends_at_zeros(data, begins) or not (damaged or offset + size - begin >= SUSPICIOUS_ZEROS)):
        return None
    if not damaged and not has_end(data):
        if name.endswith(_PICTURES):
            sound = may_be_whole(data, begins)
        else:  # some binary formats end in zeros; text files never do
            sound = not name.endswith(_TEXTS) and has_end(data) is None and (begins > 0 or size < BLOCK)
        if sound:
            return None
    why = f"zeros from there to the end of {member['name']} (an interrupted download: the data were not written)"
    return DamageError(begin, why)


def _find_zeros(file: RandomFile, offset: int, size: int) -> int:
    """Find the byte from which the data of a member are zeros; the byte after the data if they do not end in a zero.

    The search is limited, since a sparse file may claim terabytes: in a very long run of zeros it stops at any of them.
    """
    begin, step = offset + size, 4096
    lowest = max(offset, begin - (_REMOTE if is_remote(file) else _LOCAL))
    while begin > lowest:
        low = max(lowest, begin - step)
        data = file.read_at(low, begin - low)
        if not _is_zero(data):
            return low + len(data.rstrip(b"\0"))
        begin, step = low, min(2 * step, 1 << 20)
    return begin


def last_member(tables: list[pa.Table]) -> tuple[int, dict[str, int | str]] | None:
    """Return the last member of a list of tables, and the position of its table; None if all are empty."""
    for k in reversed(range(len(tables))):
        if len(tables[k]):
            row: dict[str, int | str] = tables[k].slice(len(tables[k]) - 1).to_pylist()[0]
            return k, row
    return None
