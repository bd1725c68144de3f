"""Kept files: every byte is compared with its checksum before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from _newsclippings.storage.kept import PIECE, DamagedError, open_kept, write_kept


def write(path: Path, content: bytes) -> Path:
    with write_kept(path) as temporary:
        Path(temporary).write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17])
def test_what_was_written_comes_back(tmp_path: Path, size: int) -> None:
    """Content of any size is read back as it was written, and its pieces are sound."""
    content = os.urandom(size)
    file = open_kept(write(tmp_path / "kept", content))
    assert file is not None
    file.check()
    assert file.content.to_pybytes() == content
    assert not list(tmp_path.glob("*.tmp"))


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    """After a bit flip in content, checksums or trailer the file does not open, or the check refuses it."""
    path = write(tmp_path / "kept", bytes(range(256)) * 2)
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        file = open_kept(path)
        if byte >= 512:
            assert file is None, byte
        else:
            assert file is not None
            with pytest.raises(DamagedError):
                file.check()


def test_a_file_that_is_cut_or_longer_does_not_open(tmp_path: Path) -> None:
    """A kept file that is cut at any byte, or has extra bytes, does not open."""
    path = write(tmp_path / "kept", b"content" * 20)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert open_kept(path) is None, size
    path.write_bytes(whole + b"\0")
    assert open_kept(path) is None


def test_only_the_needed_pieces_are_compared(tmp_path: Path) -> None:
    """Damage of one piece leaves the others usable."""
    path = write(tmp_path / "kept", bytes(4 * PIECE))
    whole = bytearray(path.read_bytes())
    whole[2 * PIECE] = 1
    path.write_bytes(whole)
    file = open_kept(path)
    assert file is not None
    file.check(0, 2 * PIECE)
    file.check(3 * PIECE, 4 * PIECE)
    for start, stop in ((2 * PIECE, 2 * PIECE + 1), (2 * PIECE - 1, 2 * PIECE + 1), (0, None)):
        with pytest.raises(DamagedError):
            file.check(start, stop)


def test_many_stretches_are_compared_at_once(tmp_path: Path) -> None:
    """Exactly the pieces that overlap a stretch are compared; an empty stretch needs none."""
    path = write(tmp_path / "kept", bytes(6 * PIECE + 10))
    whole = bytearray(path.read_bytes())
    for piece in (1, 4):
        whole[piece * PIECE + 7] = 1
    path.write_bytes(whole)
    for sound, stretches in {
        True: [(0, PIECE)] * 3 + [(2 * PIECE, 3 * PIECE), (3 * PIECE + 5, 4 * PIECE), (5 * PIECE, 6 * PIECE + 10)],
        False: [(0, 1), (PIECE + 100, PIECE + 101), (5 * PIECE, 5 * PIECE + 1)],
    }.items():
        file = open_kept(path)
        assert file is not None
        starts, stops = np.array(stretches).T
        file.check_many(np.array([4 * PIECE, 6 * PIECE]), np.array([4 * PIECE, 6 * PIECE]))
        if sound:
            file.check_many(starts, stops)
        else:
            with pytest.raises(DamagedError):
                file.check_many(starts, stops)


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """An error while the content is written leaves no file."""

    def fail() -> None:
        with write_kept(tmp_path / "kept") as temporary:
            Path(temporary).write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.glob("kept*"))
    assert open_kept(tmp_path / "kept") is None


def test_a_file_of_another_key_does_not_open(tmp_path: Path) -> None:
    """A valid kept file with another key, copied over this one, does not open."""
    path = tmp_path / "kept"
    with write_kept(path, "of a") as temporary:
        Path(temporary).write_bytes(b"content")
    assert open_kept(path, "of a") is not None
    assert open_kept(path, "of b") is None
    assert open_kept(path) is None


def test_damage_of_an_open_file_is_found(tmp_path: Path) -> None:
    """A piece is compared again after the file was written to, and not read after it was truncated."""
    path = write(tmp_path / "kept", os.urandom(3 * PIECE))
    file = open_kept(path)
    assert file is not None
    file.check()
    os.link(path, tmp_path / "link")  # another modification time, the same content
    file.check()
    with path.open("r+b") as damaged:
        damaged.seek(PIECE + 5)
        damaged.write(b"damage")
    file.check(0, PIECE)
    with pytest.raises(DamagedError):
        file.check()
    with pytest.raises(DamagedError):
        file.check_many(np.array([PIECE]), np.array([PIECE + 9]))
    os.truncate(path, 10)
    for start in (0, 2 * PIECE):
        with pytest.raises(DamagedError, match="10 bytes, and not the 196,664 that were written"):
            file.check(start)


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_an_open_file_outlives_its_name(tmp_path: Path, how: str) -> None:
    """An open file keeps its content even if another process replaces or removes it."""
    path = write(tmp_path / "kept", b"content")
    file = open_kept(path)
    assert file is not None
    path.unlink()
    if how == "replaced":
        write(path, b"other content")
    file.check()
    assert file.content.to_pybytes() == b"content"
