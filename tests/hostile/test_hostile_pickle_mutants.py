"""Pickles with shuffled opcodes give what pickle itself reads, or an error that names the byte."""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import hostile_pickles as h
from support.pickles import Value, dump, long_mappings, numbers, read, reframed, values

from newsclippings import BadPickleError

KNOWN = {"_reconstruct", "ndarray", "dtype", "scalar", "encode", "_frombuffer", "bytes"}
# Opcodes to insert: names, calls, numbers, and those that pop, duplicate, mark and memoise
ODD = [
    *(bytes([op]) for op in b"N012(teusabRo.}])\x85\x86\x88\x89\x94\x81\x90"),
    *(b"q\x00", b"q\x63", b"h\x00", b"h\x01", b"h\x02", b"h\x07", b"\x80\x04", b"\x95" + bytes(8)),
    *map(h.num, (0, 1, 2, -1, 300, 2**31, 2**63, 2**70)),
    *map(h.text, ("<", ">", "f8", "O8", "V4")),
    *map(h.blob, (b"b", bytes(8), bytes(7))),
    *(h.name("os", "system"), h.stack_name("builtins", "eval")),
    *(h.NDARRAY, h.DTYPE, h.RECONSTRUCT, h.SCALAR, h.FROMBUFFER),
    *(h.array(), h.dtype(), h.dtype("f8"), h.dtype("i8", ">"), h.dtype(flags=b"\x88\x88"), h.GOOD),
    *(h.tup(h.num(2)), h.tup(h.num(1), h.num(2)), h.tup(h.num(-2)), b"](" + h.array() + b"e"),
]
ways = st.sampled_from(["put", "before", "drop", "swap", "again"])
changes = st.lists(st.tuples(ways, st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=3)
SMALL: dict[Any, Value] = {1: numbers("f4", (2,), 1), 300: None, 7: numbers("f8", (2, 1), 2)}
SMALL |= {70_000: numbers("i2", (3,), 3), 4: numbers("f4", (2,), 4), 5: numbers("u1", (2, 2), 5)}
LONG = {k: numbers("f4", (2,), k) for k in range(30, 60)}


class Restricted(pickle.Unpickler):
    """Python's unpickler, which imports only what numpy's arrays need."""

    def find_class(self, module: str, name: str) -> Any:
        assert name in KNOWN
        assert module.partition(".")[0] in ("numpy", "_codecs", "__builtin__", "builtins")
        return super().find_class(module, name)


def opcodes(data: bytes) -> list[bytes]:
    starts = [at or 0 for _, _, at in pickletools.genops(data)] + [len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(starts)]


def mutant(sound: bytes, made: list[tuple[str, int, int]]) -> bytes:
    pieces = opcodes(sound)
    for how, one, two in made:
        at, other = one % max(1, len(pieces)), two % max(1, len(pieces))
        if how == "put":
            pieces[at : at + 1] = [ODD[two % len(ODD)]]
        elif how == "before":
            pieces[at:at] = [ODD[two % len(ODD)]]
        elif how == "drop":
            pieces[at : at + 1 + two % 3] = []
        elif how == "again":
            pieces[at:at] = pieces[other : other + 1 + one % 30]
        elif pieces:
            pieces[at], pieces[other] = pieces[other], pieces[at]
    return b"".join(pieces)


def alike(found: Value, expected: Value) -> bool:
    """Whether two arrays are equal bit for bit, except for the byte order, which numpy changes for some arrays."""
    if found is None or expected is None:
        return found is expected
    one, other = (a if a.dtype.isnative else a.byteswap() for a in (found, expected))
    kinds = [(a.dtype.newbyteorder("="), a.shape) for a in (found, expected)]
    return bool(kinds[0] == kinds[1] and one.tobytes() == other.tobytes())


def compare(path: Path, data: bytes, patterns: bool) -> bool:
    """Return whether a file is read; if so, assert that the result is what Python reads."""
    path.write_bytes(data)
    refused = ""
    try:
        entries = read(path, patterns)
    except BadPickleError as error:
        refused = str(error)
    if refused:
        assert re.match(rf"{re.escape(str(path))}: byte \d+.*: expected .+, found .+", refused)
        assert refused.isprintable()
        return False
    with entries, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of names that it deprecated
        expected: dict[Any, Value] = Restricted(io.BytesIO(data), encoding="bytes").load()
        assert entries.ids.tolist() == list(expected)
        assert all(map(alike, values(entries), expected.values()))
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([SMALL, LONG, {**SMALL, **LONG}]), st.integers(2, 5), changes, st.booleans())
def test_mutants_are_read_as_by_pickle(
    tmp_path: Path, mapping: dict[Any, Value], protocol: int, made: list[tuple[str, int, int]], patterns: bool
) -> None:
    """If opcodes change, repeat or disappear, the result is pickle's to the bit, or an error."""
    data = reframed(dump(mapping, protocol), [-20])
    assert compare(tmp_path / "x.pkl", data, patterns)
    compare(tmp_path / "x.pkl", mutant(data, made), patterns)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(long_mappings(), st.integers(2, 5), changes)
def test_mutants_of_long_ones(
    tmp_path: Path, mapping: dict[Any, Value], protocol: int, made: list[tuple[str, int, int]]
) -> None:
    """Mutants of long pickles, which are mostly read by pattern, give pickle's result or an error."""
    data = dump(mapping, protocol)
    assert compare(tmp_path / "x.pkl", data, True)
    compare(tmp_path / "x.pkl", mutant(data, made), True)
