"""How a tar ends: two zero blocks, and zeros up to the end of a record. More zeros are a download that was broken off.

Programs that preallocate give a file its size first and its content later. Where they were stopped, the rest is zeros:
behind a member it looks like the end of the tar, and inside a member like its data.
"""

import pyarrow as pa

from _newsclippings.pictures import FEW, ends_so, has_end, is_last_before
from _newsclippings.storage import LocalFile, RandomFile
from _newsclippings.tar.headers import BLOCK, ZERO, DamageError

# Blocks of a record, as `tar -b` takes them: what tar, star and tape drives use. Any tar may end as one of the usual
# record does; a larger record is believed if the whole file is made of such records.
USUAL = 20
LARGER = (40, 63, 100, 126, 127, 200, *(1 << k for k in range(5, 15)))
_SAMPLES, _SAMPLE = 64, 64 << 10  # places that are looked at in zeros that are too many to be read, and bytes of each
_PIECE = 1 << 20  # bytes that are read at a time
_LOCAL, _REMOTE = 1 << 30, 16 << 20  # bytes of a member that are read at most to find out where its zeros begin
_WHOLE = 64 << 20  # bytes of a picture that are looked at for its end
_TEXTS = (".json", ".txt")  # which do not end in zeros
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")


def longest_end(size: int) -> int:
    """How many zeros a whole tar of some size may end with, from its end marker on: two blocks, and padding."""
    fitting = [blocks for blocks in LARGER if size % (blocks * BLOCK) == 0]
    return (max([USUAL, *fitting]) + 1) * BLOCK


def end_damage(file: RandomFile, byte: int) -> DamageError | None:
    """What is wrong with the end of a tar.

    Args:
        file: the tar.
        byte: of the zero block where its end marker should be.
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
        return DamageError(byte, f"{why} (a download that was broken off after its file had been given its size)")
    return None


def _is_zero(data: bytes) -> bool:
    return data.count(0) == len(data)


def zeros_in(file: RandomFile, member: dict[str, int | str], damaged: bool) -> DamageError | None:
    """Whether the data of the last member before zeros are zeros themselves from some byte on.

    Args:
        file: the tar.
        member: its `name`, `offset` and `size`.
        damaged: whether the tar is damaged right behind it: then a member that ends in zeros is not believed, unless it
            is a picture and its end is there. In a tar that ends as it should, only what cannot be whole is damage.
    """
    name, offset, size = str(member["name"]).lower(), int(member["offset"]), int(member["size"])
    begin = _zeros_from(file, offset, size)
    if begin == offset + size:
        return None
    data = file.read_at(offset, min(size, _WHOLE)) if begin > offset else b""
    begins = 0 if _is_zero(data) else len(data.rstrip(b"\0"))
    if has_end(data) and (is_last_before(data, begins) or not (damaged or offset + size - begin >= FEW)):
        return None
    if not damaged and not has_end(data):
        if name.endswith(_PICTURES):
            sound = ends_so(data, begins)
        else:  # some programs write files that end in zeros, but no text does
            sound = not name.endswith(_TEXTS) and has_end(data) is None and (begins > 0 or size < BLOCK)
        if sound:
            return None
    why = f"zeros from there to the end of {member['name']} (a download that was broken off: its data were not written)"
    return DamageError(begin, why)


def _zeros_from(file: RandomFile, offset: int, size: int) -> int:
    """The byte from which on the data of a member are zeros; the byte behind them if they do not end in a zero.

    Of very many zeros, a byte among them: a file may say that it has terabytes.
    """
    begin, step = offset + size, 4096
    lowest = max(offset, begin - (_LOCAL if isinstance(file, LocalFile) else _REMOTE))
    while begin > lowest:
        low = max(lowest, begin - step)
        data = file.read_at(low, begin - low)
        if not _is_zero(data):
            return low + len(data.rstrip(b"\0"))
        begin, step = low, min(2 * step, 1 << 20)
    return begin


def last_member(tables: list[pa.Table]) -> tuple[int, dict[str, int | str]] | None:
    """The last member of some tables, and which table has it."""
    for k in reversed(range(len(tables))):
        if len(tables[k]):
            row: dict[str, int | str] = tables[k].slice(len(tables[k]) - 1).to_pylist()[0]
            return k, row
    return None
