"""Hostile tars, header by header: the fault, its byte, the members before it; and mutants compared with tarfile."""

from __future__ import annotations

import contextlib
import re
import tarfile
import warnings
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from support.mutants import for_all, mutants
from support.tars import BODY, END, header, walk

from _newsclippings.storage.local import LocalFile
from _newsclippings.storage.paths import normalise_path
from _newsclippings.tar import damaged_tar, walk_headers
from newsclippings import NewsCLIPpingsError

FIRST, NEXT = header(b"first") + BODY, header(b"next") + BODY
NONE = b"0" * 11 + b"\0"  # a size


def pax(**fields: bytes) -> bytes:
    """The records of a PAX header; `__` stands for a dot."""
    made = b""
    for name, value in fields.items():
        record = b" " + name.replace("__", ".").encode() + b"=" + value + b"\n"
        length = next(n for n in range(len(record), len(record) + 12) if len(str(n)) + len(record) == n)
        made += str(length).encode() + record
    return made


def extra(kind: bytes, data: bytes) -> bytes:
    """An extra header before a header."""
    return header(b"x", kind=kind, size=b"%011o\0" % len(data)) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def base256(size: int) -> bytes:
    return b"\x80" + size.to_bytes(11, "big")


A = header(b"a") + BODY
PAST = r"the last member, of {} bytes, runs past the end of the file \(truncated, or a false size\)"
DAMAGE: dict[str, tuple[bytes, int, str]] = {
    "size of 2^50": (header(b"a", size=base256(2**50)), 0, PAST.format("1,125,899,906,842,624")),
    "size of 2^87": (header(b"a", size=base256(2**87)), 0, "the size in a header is negative or absurd"),
    "size of -1": (header(b"a", size=b"\xff" * 12), 0, "the size in a header is negative or absurd"),
    "size of 8 GiB": (header(b"a", size=b"77777777777\0"), 0, PAST.format("8,589,934,591")),
    "size with a sign": (header(b"a", size=b"        +3 \0"), 0, "the size in a header is no octal number"),
    "size as 0o3": (header(b"a", size=b"0o000000003\0"), 0, "the size in a header is no octal number"),
    "size as 1_0": (header(b"a", size=b"00000001_0 \0"), 0, "the size in a header is no octal number"),
    "size of two numbers": (header(b"a", size=b"0000 000003\0"), 0, "the size in a header is no octal number"),
    "size behind a NUL": (header(b"a", size=b"0000000003\0\x37"), 0, "the size in a header is no octal number"),
    "PAX size of 2^50": (extra(b"x", pax(size=b"1125899906842624")) + A, 1024, PAST.format("1,125,899,906,842,624")),
    "PAX size of 2^87": (extra(b"x", pax(size=b"%d" % 2**87)) + A, 1024, "the size in a PAX header is no number"),
    "PAX size of -1": (extra(b"x", pax(size=b"-1")) + A, 1024, "the size in a PAX header is no number"),
    "PAX size of 3.0": (extra(b"x", pax(size=b"3.0")) + A, 1024, "the size in a PAX header is no number"),
    "PAX size of none": (extra(b"x", pax(size=b"0")) + A, 1024, "another size than its own header"),
    "PAX size over others": (extra(b"x", pax(size=b"1536")) + A + NEXT, 1024, "another size than its own header"),
    "global PAX size": (extra(b"g", pax(size=b"1536")) + A + NEXT, 1024, "another size than its own header"),
    "PAX without a length": (extra(b"x", b"path=b\n") + A, 0, "a malformed PAX header"),
    "PAX of length 0": (extra(b"x", b"0 a=b\n") + A, 0, "a malformed PAX header"),
    "PAX of length -6": (extra(b"x", b"-6 a=b\n") + A, 0, "a malformed PAX header"),
    "PAX of a length too short": (extra(b"x", b"5 a=b\n") + A, 0, "a malformed PAX header"),
    "PAX of a length too long": (extra(b"x", b"999999999 a=b\n") + A, 0, "a malformed PAX header"),
    "long name of 2 MB": (extra(b"L", b"a" * (2 << 20)) + A, 0, "a name or PAX header of 2097152 bytes"),
    "long link of 2 MB": (extra(b"K", b"a" * (2 << 20)) + A, 0, "a name or PAX header of 2097152 bytes"),
    "PAX header of 2 MB": (extra(b"x", pax(comment=b"a" * (2 << 20))) + A, 0, "a name or PAX header of 2097169 bytes"),
    "global PAX of 2 MB": (extra(b"g", pax(comment=b"a" * (2 << 20))) + A, 0, "a name or PAX header of 2097169 bytes"),
    "long name beyond the end": (header(b"x", kind=b"L", size=b"%011o\0" % 9999), 0, r"inside a name .*\(truncated\)"),
    "long name without a member": (extra(b"L", b"b\0"), 1024, "a name or PAX header without its member"),
    "long link without a member": (extra(b"K", b"b\0"), 1024, "a name or PAX header without its member"),
    "empty PAX without a member": (header(b"x", kind=b"x", size=NONE), 512, "a name or PAX header without its member"),
    "two long names": (extra(b"L", b"b\0") + extra(b"L", b"c\0") + A, 1024, "two long names for one member"),
    "long name and PAX path": (extra(b"L", b"b\0") + extra(b"x", pax(path=b"c")) + A, 1024, "two long names"),
    "hidden in a name": (header(b"a\0hidden") + BODY, 0, "bytes are hidden after a NUL in a member's name"),
    "a long name longer than its size": (
        header(b"././@LongLink", b"%011o\0" % 3, b"L") + b"b.jpg".ljust(512, b"\0") + A, 0, "goes on after its size",
    ),
    "hidden in a long name": (extra(b"L", b"a\0hidden\0") + A, 0, "bytes are hidden after a NUL in a long name"),
    "folder with a body": (header(b"d/", kind=b"5") + BODY, 512, "the checksum of a header does not match"),
    "one zero block": (bytes(512) + NEXT, 0, "a single zero block where a header or the end marker was expected"),
    "a second archive": (END + FIRST + NEXT, 0, r"data after the end marker \(a second archive was appended, or"),
    "no archive": (b"x" * 512, 0, "the checksum of a header does not match"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_reported_with_its_byte(tmp_path: Path, what: str) -> None:
    """The walk ends at the first invalid header, with its byte, the members before it, and the reason."""
    content, at, says = DAMAGE[what]
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + content + END)
    found = walk(str(path))
    assert found.damage is not None
    assert re.match(rf"it is damaged at byte {1024 + at}, after 1 whole members: .*{says}.*\. The", found.damage)
    assert found.members["name"].to_pylist() == ["first"]
    message = str(damaged_tar(str(path), found.damage))
    assert message.startswith(f"{path}: it is damaged at byte")
    assert "Fetch it again" in message


SPARSE_MORE = header(b"a", kind=b"S")[:482] + b"\1" + bytes(29)  # its map goes on in the next block
SPARSE_MORE = SPARSE_MORE[:148] + b"%06o\0 " % (sum(SPARSE_MORE) - sum(SPARSE_MORE[148:156]) + 256) + SPARSE_MORE[156:]
OTHERS: dict[str, tuple[bytes, str, str]] = {
    "symbolic link": (header(b"a", kind=b"2", size=NONE), "symbolic link", "a"),
    "hard link": (header(b"a", kind=b"1", size=NONE), "hard link", "a"),
    "character device": (header(b"a", kind=b"3", size=NONE), "character device", "a"),
    "block device": (header(b"a", kind=b"4", size=NONE), "block device", "a"),
    "FIFO": (header(b"a", kind=b"6", size=NONE), "FIFO", "a"),
    "FIFO with a size": (header(b"a", kind=b"6"), "FIFO", "a"),  # no reader takes it for data
    "GNU sparse": (header(b"a", kind=b"S") + BODY, "sparse file", "a"),
    "GNU sparse with a long map": (SPARSE_MORE + bytes(512) + BODY, "sparse file", "a"),
    "PAX sparse 0.1": (extra(b"x", pax(GNU__sparse__size=b"1")) + A, "sparse file", "a"),
    "PAX sparse 1.0": (extra(b"x", pax(GNU__sparse__major=b"1", GNU__sparse__name=b"b")) + A, "sparse file", "b"),
    "rest of a volume": (header(b"a", kind=b"M") + BODY, "rest of a file of another volume", "a"),
    "list of names": (header(b"a", kind=b"D") + BODY, "list of a folder", "a"),
    "volume label": (header(b"a", kind=b"V", size=NONE), "volume label", "a"),
    "unknown type": (header(b"a", kind=b"Z") + BODY, "member of type 'Z'", "a"),
    "hostile type": (header(b"a", kind=b"\x1b") + BODY, r"member of type '\x1b'", "a"),
    "link by a long name": (extra(b"L", b"b\0") + header(b"a", kind=b"2", size=NONE), "symbolic link", "b"),
    "a long link": (extra(b"K", b"t" * 9000 + b"\0") + header(b"a", kind=b"2", size=NONE), "symbolic link", "a"),
    "a link with a hostile target": (
        extra(b"K", b"\xff\n\0") + header(b"a", kind=b"2", size=NONE), "symbolic link", "a"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_members_that_are_no_files_are_passed_over(tmp_path: Path, what: str) -> None:
    """Links, devices and sparse files are listed by kind and name, and the files around them are found."""
    content, kind, name = OTHERS[what]
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + content + NEXT + END)
    found = walk(str(path))
    files = {"first": 512, "next": 1024 + len(content) + 512}
    members = found.members.filter(pa.array([row["size"] > 0 for row in found.members.to_pylist()]))
    assert dict(zip(members["name"].to_pylist(), members["offset"].to_pylist(), strict=True)) == files
    assert (found.damage, found.others) == (None, {kind: {"members": 1, "first": [name]}})


def test_a_global_sparse_field(tmp_path: Path) -> None:
    """A global field makes all later members sparse, so none of them is a file."""
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + extra(b"g", pax(GNU__sparse__size=b"1")) + A + NEXT + END)
    assert walk(str(path)).others == {"sparse file": {"members": 2, "first": ["a", "next"]}}


def test_a_sparse_map_without_end(tmp_path: Path) -> None:
    """The map of a sparse file that goes on to the end of the tar is damage."""
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + SPARSE_MORE + b"\1" * 5120)
    assert "byte 1024" in str(walk(str(path)).damage)


NAMES = {
    b"/etc/passwd": "it is absolute",
    b"//a": "it is absolute",
    b"~/a.jpg": "it is absolute",
    b"C:/a.jpg": "it is absolute",
    b"c:a.jpg": "it is absolute",
    b"../a.jpg": "it has '..'",
    b"origin/../../a.jpg": "it has '..'",
    b"origin/bbc/..": "it has '..'",
    b"origin\\a.jpg": "it has a backslash",
    b"..\\..\\a.jpg": "it has a backslash",
    b"a\n.jpg": "it has a control character",
    b"a\x1b[2J.jpg": "it has a control character",
    b"a\x7f.jpg": "it has a control character",
    "a\u0085.jpg".encode(): "it has a control character",
    b"file:///etc/passwd": "it is a URL",
    b"http://host/a.jpg": "it is a URL",
    b"zip://a.jpg::x": "it is a URL",
    b".": "it is empty",
    b"././.": "it is empty",
    b"a\xe9.jpg": "it is not UTF-8",
    b"a\xff\xfe.jpg": "it is not UTF-8",
    b"a\xed\xa0\x80.jpg": "it is not UTF-8",
    b"a\xc0\xaf.jpg": "it is not UTF-8",
}
WAYS = {
    "plain": lambda name: header(name) + BODY,
    "before POSIX": lambda name: header(name, kind=b"\0", magic=b"") + BODY,
    "GNU long name": lambda name: extra(b"L", name + b"\0") + A,
    "PAX": lambda name: extra(b"x", pax(path=name)) + A,
    "global PAX": lambda name: extra(b"g", pax(path=name)) + A,
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("way", WAYS)
def test_hostile_names(tmp_path: Path, way: str, name: bytes) -> None:
    """A name that could leave the root, or is no text, is passed over in every encoding, and shown safely."""
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + WAYS[way](name) + END)
    found = walk(str(path))
    assert found.members["name"].to_pylist() == ["first"]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name.decode("utf-8", "replace"))
    assert (found.damage, found.others) == (None, {"odd name": {"members": 1, "first": [shown]}})


@pytest.mark.parametrize("name", [b"\0", b"a" * 5000, b"n" * 9000, "é".encode() * 9000])
def test_empty_and_very_long_names(tmp_path: Path, name: bytes) -> None:
    """An empty name, and one too long for a picture, are passed over; the list shows the beginning."""
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + extra(b"L", name + b"\0") + A + END)
    found = walk(str(path))
    assert found.members["name"].to_pylist() == ["first"]
    shown = name.rstrip(b"\0").decode()[:80]
    assert (found.damage, found.others) == (None, {"odd name": {"members": 1, "first": [shown]}})


# Mutants with right checksums, so that only the content of headers can be wrong

FIELDS: dict[str, tuple[int, int, list[bytes]]] = {
    "name": (0, 100, [b"b.jpg", b"d/", b"../x", b"./a//b.jpg", b"", b"a\0b", b"a\\b", b"n" * 100, b"\xff", b"/x"]),
    "size": (124, 12, [b"0", b"1", b"77777777777", b"1000", b" 3 ", b"-1", b"3.0", base256(3), base256(2**50)]),
    "type": (156, 1, [b"\0", b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"x", b"g", b"S", b"Z", b"X"]),
    "linkname": (157, 100, [b"first", b"/etc/passwd"]),
    "magic": (257, 8, [b"ustar\x0000", b"ustar  \0", b"", b"USTAR"]),
    "prefix": (345, 155, [b"p", b"..", b"origin", b"p\0q"]),
    "mode": (100, 8, [b"", b"7777777", b"\xff" * 8]),
}  # fmt: skip
BLOCKS = [
    *(bytes(512), BODY, header(b"c.jpg"), header(b"e/", kind=b"5", size=NONE), header(b"a.jpg")),
    *(extra(b"L", b"long/name.jpg\0"), extra(b"x", pax(path=b"pax.jpg")), extra(b"x", pax(size=b"3"))),
    *(extra(b"x", pax(size=b"1027", comment=b"c")), extra(b"g", pax(comment=b"c")), extra(b"g", pax(path=b"all.jpg"))),
]
ways = st.sampled_from([*FIELDS, *FIELDS, "drop", "put", "twice", "swap"])
changes = st.lists(st.tuples(ways, st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=4)


def mutant(sound: bytes, made: list[tuple[str, int, int]]) -> bytes:
    blocks = [sound[at : at + 512] for at in range(0, len(sound), 512)]
    for how, one, two in made:
        at = one % max(1, len(blocks))
        if how in FIELDS and blocks:
            start, length, values = FIELDS[how]
            raw = bytearray(blocks[at][:512])
            if how in ("magic", "prefix"):  # only POSIX headers have a prefix, which tarfile does not check
                raw[257:265], raw[345:500] = b"ustar\x0000", bytes(155)
            raw[start : start + length] = values[two % len(values)].ljust(length, b"\0")
            raw[148:156] = b" " * 8
            raw[148:156] = b"%06o\0 " % sum(raw)
            blocks[at] = bytes(raw) + blocks[at][512:]
        elif how == "drop":
            blocks[at : at + 1 + two % 2] = []
        elif how == "put":
            blocks[at:at] = [BLOCKS[two % len(BLOCKS)]]
        elif blocks:
            other = two % len(blocks)
            blocks[at], blocks[other] = blocks[other], blocks[at] if how == "swap" else blocks[other]
    return b"".join(blocks)


@mutants(500)
def test_mutants_are_read_as_by_tarfile(tmp_path: Path, examples: int) -> None:
    """A mutant gives at least tarfile's members, unchanged, or one of our errors."""

    def check(made: list[tuple[str, int, int]], cut: bool) -> None:
        path = tmp_path / "x.tar"
        sound = b"".join(header(name) + BODY for name in (b"a.jpg", b"bbc/b.jpg", b"z.jpg"))
        data = mutant(sound + END, made)
        path.write_bytes(data[:-700] if cut else data)
        with LocalFile(str(path)) as file:
            members, damage = walk_headers(file)
        with contextlib.suppress(NewsCLIPpingsError):
            walk(str(path))
        if "PAX header of" in (damage or ""):
            return  # tarfile would request so many bytes
        ours = [(m["name"], m["offset"], m["size"]) for m in members.to_pylist() if not m["kind"]]
        # tarfile cuts the name in an old header at its first NUL; here a name with bytes behind it is an odd one
        hidden = [m["offset"] for m in members.to_pylist() if m["kind"] and "\\x00" in m["name"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, given_up = [], ""
            try:
                with tarfile.open(path, ignore_zeros=False) as reference:
                    for member in reference:
                        plain = member.isreg() and not member.issparse() and not member.name.endswith("/")
                        if plain and member.offset_data not in hidden:
                            with contextlib.suppress(ValueError):  # an odd name
                                theirs.append((normalise_path(member.name), member.offset_data, member.size))
            except (tarfile.TarError, ValueError, OSError) as error:
                given_up = str(error)
        assert not given_up or damage is not None or "end of file header" in given_up  # after a global header
        assert ours == (theirs if damage is None else theirs[: len(ours)])

    check([("name", 3, 15), ("drop", 1, 0)], False)
    for_all(check, examples, changes, st.booleans())


def test_fields_that_do_not_matter_fill_no_memory(tmp_path: Path) -> None:
    """Of any number of PAX headers before a member, only the fields that matter are kept in memory."""
    import tracemalloc

    path = tmp_path / "x.tar"
    with open(path, "wb") as out:
        out.write(FIRST)
        for k in range(40):
            out.write(extra(b"x", b"".join(pax(**{f"k{k}_{n}": b"v" * 900}) for n in range(900))))
        out.write(header(b"z.jpg") + BODY + END)
    tracemalloc.start()
    found = walk(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.damage, found.members["name"].to_pylist()) == (None, ["first", "z.jpg"])
    assert path.stat().st_size > 30 << 20
    assert peak < 12 << 20


def test_a_header_of_too_many_fields(tmp_path: Path) -> None:
    """A PAX header of ten thousand fields, more than any program writes, is refused."""
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + extra(b"x", b"".join(pax(**{f"k{n}": b""}) for n in range(10_001))) + END)
    assert "a PAX header of more than 10,000 fields" in str(walk(str(path)).damage)
