"""Pickles of arrays as numpy and other programs write them, and mutations of them."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import pickle
import pickletools
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from _newsclippings.vectors.pickled_arrays import NONE, PickledArrays
from support import hostile_pickles
from support.constants import change_constant

Value = Any  # an array or None
CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def pristine_pickle() -> Any:
    """Import `pickle` again: `dill`, which `datasets` imports, has changed the table of the Python pickler."""
    spec = importlib.util.find_spec("pickle")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PurePickler = pristine_pickle()._Pickler


def dump(values: dict[Any, Value], protocol: int, pure: bool = False) -> bytes:
    stream = io.BytesIO()
    # in Python 3.11 it fails an assertion of its own on two equal small buffers in protocol 5
    pickler = PurePickler(stream, min(protocol, 4)) if pure else pickle.Pickler(stream, protocol)
    pickler.dump(values)
    return stream.getvalue()


def numbers(code: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    dtype = np.dtype(code)
    count = int(np.prod(shape, dtype=int))
    raw = np.random.default_rng(seed).bytes(count * dtype.itemsize)
    if dtype.kind == "b":
        dtype, raw = np.dtype("?"), bytes(byte & 1 for byte in raw)
    array: np.ndarray = np.ndarray(shape, dtype, raw).copy()
    return array


def read(path: Path, patterns: bool = True) -> PickledArrays:
    """Open a pickle, with or without the fast path for entries that look like earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        if not patterns:
            change_constant(patch, "MAX_LEARNT", 0)
        return PickledArrays(str(path))


def values(file: PickledArrays) -> list[Value]:
    """The arrays of a pickle, in file order."""
    made: list[Value] = []
    for k, number in enumerate(file.forms.tolist()):
        if number == NONE:
            made.append(None)
        else:
            form = file.form_table[number]
            out = np.empty((1, form.nbytes), np.uint8)
            file.copy(np.array([k]), out)
            made.append(np.ndarray(form.shape, form.dtype, out.tobytes()))
    return made


def mutants(seeds: list[bytes], count: int, seed: int = 20_260, late: bool = False) -> Iterator[bytes]:
    rng = random.Random(seed)
    opcodes = [ord(op.code) for op in pickletools.opcodes]
    places = {seed: [at or 0 for _, _, at in pickletools.genops(seed)] for seed in seeds}
    for _ in range(count):
        sound = rng.choice(seeds)
        data = bytearray(sound)
        for _ in range(1 if late else rng.choice((1, 1, 1, 2, 4))):
            first = 2 if late else 0  # half of the file is unchanged
            at = rng.choice(places[sound][len(places[sound]) * first // 4 :])
            at = at if rng.random() < 0.6 else rng.randrange(len(data) * first // 4, len(data))
            at = min(at, len(data) - 1)
            how = rng.randrange(8)
            if how == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                data[at] = rng.choice(opcodes)
            elif how == 2:
                data[at : at + rng.choice((1, 2, 8, 30))] = b""
            elif how == 3:
                data[at:at] = bytes([rng.choice(opcodes)])
            elif how == 4:  # a piece of another seed, or of the same
                other = rng.choice(seeds)
                begin, end = sorted(rng.choices(places[other], k=2))
                data[at:at] = other[begin : min(end, begin + 300)]
            elif how == 5:
                data[at + 1 : at + 5] = rng.choice((b"\xff" * 4, bytes(4), struct.pack("<I", rng.randrange(600))))
            elif how == 6:  # swap two entries
                length = rng.choice((40, 90, 130))
                data[at : at + length] = data[at + length : at + 2 * length]
            else:
                data[at : at + 2] = b"h" + bytes([rng.randrange(256)])
            data = data or bytearray(b"\x80")
        yield bytes(data)


def reframed(data: bytes, lengths: list[int]) -> bytes:
    """The same opcodes in other frames: `lengths` opcodes each, in turn; no frame where the length is negative."""
    starts = [(op.name, at or 0) for op, _, at in pickletools.genops(data)] + [("", len(data))]
    pieces = [data[at:end] for (name, at), (_, end) in itertools.pairwise(starts) if name != "FRAME"][1:]
    made, k = data[:2], 0
    while pieces:
        length, k = lengths[k % len(lengths)], k + 1
        body, pieces = b"".join(pieces[: abs(length)]), pieces[abs(length) :]
        made += hostile_pickles.framed(body) if length > 0 else body
    return made


@st.composite
def long_mappings(draw: st.DrawFn) -> dict[Any, Value]:
    """Dozens of entries in runs of a few kinds: keys of all widths, None, faces, number types."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    ids = rng.sample(range(draw(st.sampled_from([400, 70_000, 10**7]))), draw(st.integers(40, 120)))
    width = draw(st.sampled_from([6, 8, 64]))
    every = ["vector", "vector", "row", "faces", "none", "f8", "i4", ">f4"]  # that one has a type of its own
    kinds = draw(st.lists(st.sampled_from(every), min_size=1, max_size=3))
    run = draw(st.sampled_from([1, 3, 30]))
    mapping: dict[Any, Value] = {}
    for k, number in enumerate(ids):
        kind = kinds[k // run % len(kinds)]
        shape = {"row": (1, width), "faces": (rng.randrange(3), width)}.get(kind, (width,))
        array = numbers(kind if kind in CODES or kind == ">f4" else "f4", shape, number)
        mapping[number] = None if kind == "none" else array
    return mapping


def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"x")


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))
