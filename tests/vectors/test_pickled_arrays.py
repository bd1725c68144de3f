"""The reader of pickled arrays: compared with pickle on what numpy writes, and tried on everything else."""

from __future__ import annotations

import pickle
import pickletools
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import hostile_pickles
from support.constants import change_constant
from support.pickles import (
    CODES,
    Value,
    append,
    dump,
    long_mappings,
    mutants,
    numbers,
    read,
    reframed,
    touch,
    truncate,
    values,
)

from _newsclippings.vectors.pickled_arrays import WINDOW, Form, PickledArrays
from newsclippings import BadFileError, BadPickleError

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# What numpy writes


def same(found: Value, expected: Value) -> bool:
    """Whether two arrays are equal bit for bit, with the same type and shape."""
    if found is None or expected is None:
        return found is expected
    return bool((found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes()))


def check(path: Path, data: bytes, mapping: dict[int, Value]) -> None:
    """Assert that the values are read as they were written, with and without patterns."""
    path.write_bytes(data)
    places = []
    for patterns in (True, False):
        with read(path, patterns) as entries:
            places.append((entries.offsets.tolist(), entries.forms.tolist()))
            assert len(entries) == len(mapping)
            assert entries.ids.dtype == np.int64
            assert entries.ids.tolist() == list(mapping)
            assert all(map(same, values(entries), mapping.values()))
            for number, value in zip(entries.forms.tolist(), mapping.values(), strict=True):
                form = None if number == -1 else entries.form_table[number]
                if form is None or value is None:
                    assert form is value
                else:
                    assert (form.dtype, form.shape, form.nbytes) == (value.dtype, value.shape, value.nbytes)
    assert places[0] == places[1]


shapes = st.one_of(
    st.tuples(st.integers(0, 9)),
    st.tuples(st.just(1), st.integers(1, 20)),
    st.tuples(st.integers(0, 5), st.integers(0, 12)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 4)),
    st.just(()),
)
arrays = st.builds(
    lambda code, order, shape, seed, step: np.repeat(numbers(order + code, (*shape, 1), seed), step, -1)[..., 0],
    st.sampled_from(CODES),
    st.sampled_from("<>"),
    shapes,
    st.integers(0, 2**32),
    st.integers(1, 2),  # not contiguous
).filter(lambda array: array.nbytes != 1)
keys = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.integers(-(2**31), 2**31 - 1))
mappings = st.dictionaries(keys, st.one_of(arrays, arrays, st.none()), max_size=12)


@QUICK
@given(mappings, st.integers(2, 5), st.booleans())
def test_what_numpy_writes_is_read(tmp_path: Path, mapping: dict[int, Value], protocol: int, pure: bool) -> None:
    """All number types, byte orders and shapes, and 64-bit ids, are read from both picklers."""
    check(tmp_path / "x.pkl", dump(mapping, protocol, pure), mapping)


FEW = [numbers("f4", (6,), k) for k in range(3)]


@pytest.mark.filterwarnings("ignore")  # the suggested line does not close its two files
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("mapping", "found"),
    [
        ({1: FEW[0], 2: FEW[1:], 3: []}, "found EMPTY_LIST"),
        ({np.int64(1): FEW[0], np.int32(2): None}, "expected ids that are integers of Python, found a number of numpy"),
        ({1: FEW[0], 2: FEW[0]}, "expected an array of its own for each id, found one that several ids share"),
        ({1: np.asfortranarray(numbers("f4", (2, 3), 1))}, "expected an array in C order, found one in Fortran order"),
    ],
)
def test_unsupported_arrays_are_refused_with_a_conversion(
    tmp_path: Path, mapping: dict[Any, Any], found: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numpy line in the error converts the file into one that is read, with the same numbers as float32."""
    message = refuse(tmp_path / "x.pkl", dump(mapping, protocol))
    assert found in message
    monkeypatch.chdir(tmp_path)
    Path("old.pkl").write_bytes(dump(mapping, protocol))
    line = message.partition("If you trust the file, convert it: ")[2].removesuffix(".")
    exec(line, {"pickle": pickle, "numpy": np})
    expected = [None if v is None or len(v) == 0 else np.array(v, "f4") for v in mapping.values()]
    with read(Path("new.pkl")) as file:
        assert file.ids.tolist() == [int(k) for k in mapping]
        assert all(map(same, values(file), expected))


@pytest.mark.parametrize("protocol", [3, 4])
def test_single_bytes_are_shared(tmp_path: Path, protocol: int) -> None:
    """Python keeps single bytes once, so arrays of one byte share their data in the pickle."""
    mapping = {k: numbers("u1", (1,), 5) for k in range(2)}
    assert "found one that several ids share" in refuse(tmp_path / "x.pkl", dump(mapping, protocol))


@pytest.mark.parametrize(("protocol", "pure"), [(2, False), (3, False), (4, False), (5, False), (2, True), (4, True)])
@pytest.mark.parametrize("kind", ["vectors", "rows", "faces", "big-endian", "small", "float16"])
def test_many_entries(tmp_path: Path, kind: str, protocol: int, pure: bool) -> None:
    """Thousands of entries in many batches and frames are read, most by their pattern."""
    rng = np.random.default_rng(5)
    ids = rng.permutation(70_000)[:1200].tolist()
    make: dict[str, Callable[[int], Value]] = {
        "vectors": lambda k: rng.standard_normal(64).astype("f4"),
        "rows": lambda k: rng.standard_normal((1, 64)),
        "faces": lambda k: rng.standard_normal((k % 4, 64)).astype("f4") if k % 5 else None,
        "big-endian": lambda k: rng.standard_normal(64).astype(np.dtype(">f4")),
        "small": lambda k: np.arange(k % 3, dtype="u2"),
        "float16": lambda k: rng.standard_normal((3, 30)).astype("f2"),
    }
    mapping = {k: make[kind](k) for k in ids}
    check(tmp_path / "x.pkl", dump(mapping, protocol, pure), mapping)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_shared_number_types_in_groups(tmp_path: Path, protocol: int) -> None:
    """Groups of arrays with a shared number type are read: skipped opcodes can still be referred to."""
    mapping: dict[int, Value] = {}
    for k in range(400):
        pair = numbers(">f4", (2, 16), k)
        mapping |= {3 * k: pair[0], 3 * k + 1: pair[1]}
    check(tmp_path / "x.pkl", dump(mapping, protocol), mapping)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_number_types_that_later_entries_refer_to(tmp_path: Path, protocol: int) -> None:
    """Entries that look alike are read although later entries refer to their types."""
    pairs = [numbers(">f4", (2, 16), k) for k in range(60)]
    mapping = {70_000 + 1000 * row + k: pair[row] for row in (0, 1) for k, pair in enumerate(pairs)}
    check(tmp_path / "x.pkl", dump(mapping, protocol), mapping)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2000])
def test_batches(tmp_path: Path, count: int, protocol: int) -> None:
    """Dicts of no entry, one entry and full thousands are written with other opcodes, and are read."""
    vector = numbers("f4", (8,), 1)
    mappings: list[dict[int, Value]] = [dict.fromkeys(range(count)), {k: vector + k for k in range(count)}]
    for mapping in mappings:
        for pure in (False, True) if count < 3 else (False,):
            check(tmp_path / "x.pkl", dump(mapping, protocol, pure), mapping)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("to", ["numpy.core", "numpy._core"])
def test_both_names_of_numpy(tmp_path: Path, protocol: int, to: str) -> None:
    """The constructors are accepted by the module names of numpy 1 and 2."""
    mapping = {k: numbers("f4", (16,), k) for k in range(40)}
    data = dump(mapping, protocol).replace(b"numpy._core.", b"numpy.core.").replace(b"numpy.core.", to.encode() + b".")
    check(tmp_path / "x.pkl", data, mapping)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("to", [b"numpy.core.", b"numpy._core."])
def test_both_names_of_numpy_in_frames(tmp_path: Path, protocol: int, to: bytes) -> None:
    """Both names are accepted in frames, too, where names are strings with a length."""
    mapping = {k: numbers("f4", (16,), k) for k in range(40)}
    data = dump(mapping, protocol)
    for module in (b"multiarray", b"numeric"):
        for core in (b"numpy.core.", b"numpy._core."):
            old, new = core + module, to + module
            data = data.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
    data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]  # one frame
    check(tmp_path / "x.pkl", data, mapping)


class Python2:
    """A pickler like cPickle of Python 2.7: strings for bytes, memo numbers from 1, for shared objects only."""

    def __init__(self, long_strings: bool) -> None:
        self.memo: dict[object, bytes] = {}
        self.next = 1
        self.long_strings = long_strings

    def put(self, name: object = None) -> bytes:
        number, self.next = self.next, self.next + 1
        low = number < 256
        self.memo[name] = b"h" + bytes([number]) if low else b"j" + struct.pack("<I", number)
        return b"q" + bytes([number]) if low else b"r" + struct.pack("<I", number)

    def once(self, name: object, opcodes: bytes) -> bytes:
        return self.memo[name] if name in self.memo else opcodes + self.put(name)

    def string(self, data: bytes) -> bytes:
        if len(data) < 256 and not self.long_strings:
            return b"U" + bytes([len(data)]) + data
        return b"T" + struct.pack("<i", len(data)) + data

    def integer(self, key: int) -> bytes:
        if 0 <= key < 256:
            return b"K" + bytes([key])
        if 0 <= key < 65536:
            return b"M" + struct.pack("<H", key)
        return b"J" + struct.pack("<i", key)

    def dtype(self, dtype: np.dtype) -> bytes:
        if dtype.str in self.memo:
            return self.memo[dtype.str]
        made = self.once("dtype", b"cnumpy\ndtype\n") + self.string(dtype.str[1:].encode()) + b"K\x00K\x01\x87"
        made += (
            self.put()
            + b"R"
            + self.put(dtype.str)
            + b"(K\x03"
            + self.once(dtype.str[0], self.string(dtype.str[0].encode()))
        )
        return made + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"

    def array(self, array: np.ndarray) -> bytes:
        made = self.once("new", b"cnumpy.core.multiarray\n_reconstruct\n") + self.once("nd", b"cnumpy\nndarray\n")
        made += b"K\x00\x85" + self.put() + self.once("b", self.string(b"b")) + b"\x87" + self.put() + b"R" + self.put()
        shape = b"".join(map(self.integer, array.shape))
        made += b"(K\x01" + shape + bytes([0x84 + array.ndim]) + self.put() + self.dtype(array.dtype)
        return made + b"\x89" + self.string(array.tobytes()) + b"tb"

    def dump(self, mapping: dict[Any, Value]) -> bytes:
        out = b"\x80\x02}" + self.put()
        items = list(mapping.items())
        for k in range(0, len(items), 1000):
            out += b"("
            for key, value in items[k : k + 1000]:
                out += self.integer(key) + (b"N" if value is None else self.array(value))
            out += b"u"
        return out + b"."


@pytest.mark.parametrize("long_strings", [False, True])
def test_python_2(tmp_path: Path, long_strings: bool) -> None:
    """Pickles of Python 2 are read: strings for bytes, numpy 1, memo numbers from one."""
    mapping: dict[Any, Value] = {k * 97: numbers("f4", (12,), k) for k in range(1500)}
    mapping |= {2**30: None, -(2**31): numbers(">f8", (2, 3), 1), 7: numbers("i2", (1, 4), 3)}
    data = Python2(long_strings).dump(mapping)
    loaded = pickle.loads(data, encoding="latin1")
    assert list(loaded) == list(mapping)
    check(tmp_path / "x.pkl", data, mapping)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the places of opcodes that are executed one by one."""
    steps: list[int] = []
    step = PickledArrays._step

    def counted(file: PickledArrays, op: int) -> None:
        steps.append(file._at)
        step(file, op)

    monkeypatch.setattr(PickledArrays, "_step", counted)
    return steps


def test_most_is_read_by_pattern(tmp_path: Path, steps: list[int]) -> None:
    """Most of a file is read by patterns: few opcodes are executed one by one."""
    mapping = {k: numbers("f4", (64,), k) for k in range(3000)}
    path = tmp_path / "x.pkl"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(dump(mapping, protocol))
        steps.clear()
        read(path).close()
        assert len(steps) < 3000, (protocol, len(steps))
    path.write_bytes(Python2(False).dump(mapping))
    steps.clear()
    read(path).close()
    assert len(steps) < 3000


def test_offsets_and_forms_of_the_result(tmp_path: Path) -> None:
    """The result has the columns and forms that other code uses to read in bulk."""
    a, b = np.arange(3, dtype="<f4"), np.arange(6, dtype=">i2").reshape(2, 3)
    path = tmp_path / "x.pkl"
    path.write_bytes(dump({5: a, -1: None, 2**40: b, 7: a[:0], 8: a + 1}, 4))
    with read(path) as entries:
        assert entries.ids.tolist() == [5, -1, 2**40, 7, 8]
        assert entries.forms.tolist() == [0, -1, 1, 2, 0]
        assert entries.forms.dtype == np.int32
        assert entries.form_table == [Form(a.dtype, (3,)), Form(b.dtype, (2, 3)), Form(a.dtype, (0,))]
        assert entries.offsets[[1, 3]].tolist() == [0, 0]
        place = int(entries.offsets[0])
        assert path.read_bytes()[place : place + 12] == a.tobytes()
        assert not any(column.flags.writeable for column in (entries.ids, entries.offsets, entries.forms))
    assert entries.ids.tolist() == [5, -1, 2**40, 7, 8]  # usable after the file is closed
    entries.close()


@pytest.mark.parametrize("most", [100_000, pytest.param(None, marks=pytest.mark.sweep)])
def test_ids_without_an_array(
    tmp_path: Path, steps: list[int], most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest allowed number of entries, two million, is read by pattern, and one more is refused."""
    if most:
        change_constant(monkeypatch, "MAX_ENTRIES", most)
    most = most or 2_000_000
    path = tmp_path / "x.pkl"
    path.write_bytes(dump(dict.fromkeys(range(most)), 4))
    with read(path) as entries:
        assert len(entries) == most
        assert (entries.forms == -1).all()
    assert len(steps) < 1000
    path.write_bytes(dump(dict.fromkeys(range(most + 1)), 4))
    with pytest.raises(BadPickleError, match=f"expected at most {most} entries, found more"):
        read(path)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Memory is some 50 bytes per entry while the file is walked, plus what is read together; no array is kept."""
    path = tmp_path / "x.pkl"
    vectors = np.zeros((20_000, 512), "f4")
    path.write_bytes(dump(dict(enumerate(vectors)), 4))
    tracemalloc.start()
    try:
        with read(path) as entries:
            entries.copy(np.array([19_999]), np.empty((1, 2048), np.uint8))
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000 * 50 + 500_000 + WINDOW


# Refused files


class Watch:
    """Collects audit events while a file is read. A hook cannot be removed, so there is one per process."""

    events: list[str] | None = None
    hooked = False

    @classmethod
    @contextmanager
    def on(cls) -> Iterator[list[str]]:
        if not cls.hooked:
            sys.addaudithook(cls.note)
            cls.hooked = True
        events: list[str] = []
        cls.events = events
        try:
            yield events
        finally:
            cls.events = None

    @classmethod
    def note(cls, event: str, arguments: tuple[object, ...]) -> None:
        if cls.events is not None:
            cls.events.append(f"{event} {arguments[0]}" if event == "open" else event)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cage") / "canary"


def refuse(path: Path, data: bytes, seconds: float = 8, patterns: bool = True) -> str:
    """Assert that a file is refused without side effects, and return the message."""
    path.write_bytes(data)
    modules = set(sys.modules)
    began = time.perf_counter()
    with Watch.on() as events, pytest.raises(BadPickleError) as caught:
        read(path, patterns)
    message = str(caught.value)
    assert set(events) <= {f"open {path}", "array.__new__"}
    assert set(sys.modules) == modules
    assert time.perf_counter() - began < seconds
    assert message.startswith(f"{path}: byte ")
    assert 0 <= int(message.removeprefix(f"{path}: byte ").split(":")[0].split(" ")[0]) <= len(data)
    assert ": expected " in message
    assert ", found " in message
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message


def test_calls_are_refused(tmp_path: Path, canary: Path) -> None:
    """Calls are refused for every callable, every opcode that calls, and every place of a value."""
    files = hostile_pickles.call_pickles(str(canary))
    assert len(files) > 500
    for title, data in files.items():
        for patterns in (True, False):
            refuse(tmp_path / "x.pkl", data, patterns=patterns)
        assert not canary.exists(), title


LOAD = """
import os, pickle, sys, io, contextlib
canary, fired = sys.argv[1], []
for title in sorted(os.listdir(".")):
    try:
        with open(title, "rb") as file, contextlib.redirect_stdout(io.StringIO()):
            while True:
                pickle.load(file)
    except BaseException:
        pass
    if os.path.lexists(canary):
        fired.append(title)
        os.rmdir(canary) if os.path.isdir(canary) else os.remove(canary)
print("\\n".join(fired))
"""


def test_plain_pickle_would_have_run_them(tmp_path: Path, canary: Path) -> None:
    """`pickle.load` would execute these files, so that the tests above mean something."""
    files = hostile_pickles.call_pickles(str(canary))
    harmless = (
        "pdb.run",
        "subprocess.call",
        "torch",
        "collections",
        "copyreg",
        "numpy.load",
        "numpy.fromfile",
        "pickle",
    )
    chosen = [title for title in files if not title.startswith(harmless)]
    for title in chosen:
        (tmp_path / title).write_bytes(files[title])
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(canary)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    fired = done.stdout.splitlines()
    assert len(fired) > 150
    assert {title.partition(" ")[0] for title in fired} >= {"os.system", "builtins.exec", "builtins.eval", "io.open"}
    assert {title.rpartition(" ")[2] for title in fired} >= {
        "REDUCE",
        "INST",
        "OBJ",
        "key",
        "popped",
        "before",
    }


@pytest.mark.parametrize("group", ["name_pickles", "numpy_pickles", "machine_pickles"])
def test_hostile_files_are_refused(tmp_path: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-alike names, misused numpy constructors, bad opcodes, frames, memos and structures are refused."""
    change_constant(monkeypatch, "MAX_ENTRIES", hostile_pickles.MANY)  # to save time; it is two million
    files: dict[str, bytes] = getattr(hostile_pickles, group)()
    assert len(files) > 100
    for data in files.values():
        refuse(tmp_path / "x.pkl", data)


def test_hostile_files_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's claims are compared with its size before memory is allocated."""
    change_constant(monkeypatch, "MAX_ENTRIES", hostile_pickles.MANY)
    path = tmp_path / "x.pkl"
    for title, data in hostile_pickles.machine_pickles().items():
        if len(data) > 1_000_000:
            continue  # some 40 bytes per entry, see above; tracing is slow
        path.write_bytes(data)
        tracemalloc.start()
        try:
            with pytest.raises(BadPickleError):
                read(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000 + 10 * len(data), title


def test_the_corpus_has_valid_parts(tmp_path: Path) -> None:
    """The pieces of the hostile files make valid files if nothing is wrong with them."""
    h = hostile_pickles
    zeros = np.zeros(2, "f4")
    good = {
        1: h.array(),
        2: h.frombuffer(h.blob(bytes(8)), h.dtype(), h.tup(h.num(2)), h.text("C")),
        3: h.array(data=h.ENCODE + h.text("\0" * 8) + h.text("latin1") + b"\x86R"),
        4: h.array(data=b"U\x08" + bytes(8), fortran=h.num(0)),
    }
    check(tmp_path / "x.pkl", h.pickled(*(h.num(k) + v for k, v in good.items())), dict.fromkeys(good, zeros))
    check(tmp_path / "x.pkl", b"\x80\x04" + h.framed(b"}(" + h.GOOD + b"u."), {1: zeros})


def test_other_files_are_recognised(tmp_path: Path) -> None:
    """For files of failed downloads and other programs, the error says what they are and what to do."""
    for says, data in hostile_pickles.other_files().items():
        assert says in refuse(tmp_path / "x.pkl", data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            hostile_pickles.pickled(hostile_pickles.GOOD, b"K\x02cos\nsystem\n"),
            "byte 144 after id 1 (entry 1): expected",
        ),
        (hostile_pickles.pickled(b"K\x02cos\nsystem\n"), "byte 6: expected the names with which numpy writes number"),
        (hostile_pickles.pickled(b"K\x02cos\nsystem\n"), "found the name os.system. Nothing in it was executed."),
        (hostile_pickles.pickled(b"K\x02ctorch._utils\n_rebuild\n"), "Is it a file of PyTorch?"),
        (hostile_pickles.pickled(b"K\x02c\x1b[31m\n\xff\xfe'%s\n"), "the name ?[31m.??'%s."),
        (hostile_pickles.pickled(b"K\x02P0\n"), "found PERSID."),
        (hostile_pickles.pickled(b"K\x02\x97"), "found NEXT_BUFFER"),
        (
            hostile_pickles.pickled(b"K\x02N", b"K\x03N", b"K\x02N"),
            "expected each id once, found id 2 as entries 1 and 3.",
        ),
        (hostile_pickles.pickled(b"K\x02N") + b"12", "byte 8 after id 2 (entry 1): expected the end of the file"),
        (b"\x80\x04}(K\x02N", "(truncated, or a false length)"),
    ],
)
def test_messages(tmp_path: Path, data: bytes, says: str) -> None:
    """The error has byte, last id and entry, what was expected and found, and shows no unchecked text of the file."""
    assert says in refuse(tmp_path / "x.pkl", data)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.sweep)])
def test_truncation_at_every_byte(tmp_path: Path, protocol: int, step: int) -> None:
    """A file that is truncated at any byte is refused. Protocol 0 means Python 2 here."""
    mapping = {
        1: numbers("f4", (3,), 1),
        300: None,
        70_000: numbers("f8", (1, 2), 2),
        9: numbers("i1", (4,), 3),
    }
    data = dump(mapping, protocol) if protocol else Python2(True).dump(mapping)
    for end in range(protocol % step, len(data), step):  # others with each protocol
        refuse(tmp_path / "x.pkl", data[:end])


def outcome(path: Path, patterns: bool) -> object:
    """Return what is read from a file, or that it is refused."""
    try:
        with read(path, patterns) as entries:
            plain = [v if v is None else (v.tobytes(), v.dtype, v.shape) for v in values(entries)[:500]]
            return entries.ids.tolist(), plain, entries.offsets.tolist()
    except BadPickleError:
        return None


@pytest.mark.sweep
def test_mutants(tmp_path: Path) -> None:
    """A mutant is read or refused with our error, in the same way with and without patterns."""
    mapping: dict[Any, Value] = {k * 31: numbers("f4", (8,), k) for k in range(60)}
    mapping |= {5000 + k: numbers(">f4", (8,), k) for k in range(10)} | {6000: None}
    seeds = [dump(mapping, protocol) for protocol in (2, 3, 4, 5)] + [Python2(False).dump(mapping)]
    path, sound = tmp_path / "x.pkl", 0
    for data in mutants(seeds, 1200):
        path.write_bytes(data)
        fast, slow = outcome(path, True), outcome(path, False)
        assert fast == slow
        sound += fast is not None
    assert 40 < sound < 1100  # some mutants are sound


lengths = st.lists(st.one_of(st.integers(1, 300), st.integers(-20, -1)), min_size=1, max_size=4)


@QUICK
@given(long_mappings(), st.integers(2, 5), lengths, st.booleans())
@pytest.mark.sweep
def test_runs_of_entries(
    tmp_path: Path, mapping: dict[Any, Value], protocol: int, lengths: list[int], again: bool
) -> None:
    """Runs of similar entries with exceptions, frames anywhere, and short and long memo numbers are read."""
    data = dump(mapping, protocol)
    check(tmp_path / "x.pkl", reframed(data, lengths) if again and protocol > 3 else data, mapping)
    check(tmp_path / "x.pkl", pickletools.optimize(data), mapping)  # memoises shared objects only


@QUICK
@given(long_mappings(), st.integers(2, 5), lengths, st.integers(0, 2**32))
@pytest.mark.sweep
def test_mutants_of_runs(
    tmp_path: Path, mapping: dict[Any, Value], protocol: int, lengths: list[int], seed: int
) -> None:
    """With damage late in a file of runs, the result is that of reading entry by entry."""
    data = dump(mapping, protocol)
    seeds = [data, reframed(data, lengths) if protocol > 3 else data]
    for mutant in mutants(seeds, 6, seed, late=True):
        (tmp_path / "x.pkl").write_bytes(mutant)
        assert outcome(tmp_path / "x.pkl", True) == outcome(tmp_path / "x.pkl", False)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.sweep
def test_a_flip_anywhere_in_a_run(tmp_path: Path, protocol: int) -> None:
    """A flipped bit of an entry in a run is noticed, except in its numbers."""
    mapping = {70_000 + k: numbers("f4", (16,), k) for k in range(90)}
    data, path = dump(mapping, protocol), tmp_path / "x.pkl"
    begin, end = data.index(struct.pack("<i", 70_070)) - 1, data.index(struct.pack("<i", 70_071)) - 1
    skipped = data.index(mapping[70_070].tobytes())
    for at in {*range(begin, end)} - {*range(skipped, skipped + 64)}:
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            assert outcome(path, True) == outcome(path, False), (at - begin, bit)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("odd", ["f4", "i4"])
@pytest.mark.sweep
def test_a_frame_anywhere_in_a_run(tmp_path: Path, protocol: int, odd: str) -> None:
    """A frame must begin between opcodes and have the stated length, also in the middle of a run."""
    mapping = {70_000 + k: numbers(odd if k in (20, 30) else "f4", (16,), k) for k in range(60)}
    data, path = dump(mapping, protocol), tmp_path / "x.pkl"
    begin, end = data.index(struct.pack("<i", 70_030)) - 1, data.index(struct.pack("<i", 70_031)) - 1
    sound = {at or 0 for _, _, at in pickletools.genops(data)}
    for at in range(begin, end):
        for wrong in (0, 1, -1):
            rest = hostile_pickles.framed(data[at:], len(data) - at + wrong)
            path.write_bytes(data[:2] + hostile_pickles.framed(data[11:at]) + rest)
            found = outcome(path, True)
            assert found == outcome(path, False), (at - begin, wrong)
            assert (found is not None) == (at in sound and wrong <= 0)  # STOP may be after the frame


def test_frames_do_not_slow_a_run_down(tmp_path: Path, steps: list[int]) -> None:
    """Only the entry in which a frame begins is read opcode by opcode."""
    mapping = {70_000 + k: numbers("f4", (64,), k) for k in range(3000)}
    for protocol in (4, 5):
        (tmp_path / "x.pkl").write_bytes(dump(mapping, protocol))
        steps.clear()
        read(tmp_path / "x.pkl").close()
        assert len(steps) < 300


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_from_other_processes_are_read_in_runs(tmp_path: Path, protocol: int, steps: list[int]) -> None:
    """Arrays that were unpickled one by one, each with its own number type, are read in runs."""
    mapping = {70_000 + k: pickle.loads(pickle.dumps(numbers("f4", (64,), k))) for k in range(2000)}
    (tmp_path / "x.pkl").write_bytes(dump(mapping, protocol))
    read(tmp_path / "x.pkl").close()
    assert len(steps) < 1600


def run_with(changed: dict[int, bytes], usual: Callable[[int], bytes], count: int = 60, after: bytes = b"") -> bytes:
    """A dict of many entries, each `usual` with some exceptions."""
    h = hostile_pickles
    names = h.NDARRAY + b"r" + bytes(4)  # memo number 0
    first = h.num(1) + h.RECONSTRUCT + names + h.num(0) + b"\x85" + h.blob(b"b") + b"\x87R"
    first += h.tup(h.num(1), h.tup(h.num(64)), h.dtype("i1"), b"\x89", h.blob(bytes(64))) + b"b"
    return h.pickled(first, *(changed.get(k, usual(k)) for k in range(count)), after)


def plain_entry(k: int, data: bytes = bytes(64), puts: tuple[int, ...] = ()) -> bytes:
    """An array of bytes; values get the memo numbers given (the new array, its shape)."""
    h = hostile_pickles
    put = [b"r" + struct.pack("<I", number) for number in puts] or [b"", b""]
    shape = h.num(len(data)) + b"\x85" + put[1]
    new = h.RECONSTRUCT + h.NDARRAY + h.num(0) + b"\x85" + h.blob(b"b") + b"\x87R" + put[0]
    data = (b"U" + bytes([len(data)]) if len(data) < 9 else b"B" + struct.pack("<I", len(data))) + data
    return b"J" + struct.pack("<i", 70_000 + k) + new + h.tup(h.num(1), shape, h.dtype("i1"), b"\x89", data) + b"b"


def test_what_differs_in_a_run(tmp_path: Path) -> None:
    """An entry that differs is noticed in a run: reading in runs and entry by entry give the same."""
    h, path = hostile_pickles, tmp_path / "x.pkl"

    def two(k: int) -> tuple[int, int]:
        return 1 + 2 * k, 2 + 2 * k

    def counted(k: int) -> bytes:
        return plain_entry(k, puts=two(k))

    def gaps(k: int) -> bytes:
        return plain_entry(k, puts=(1 + 3 * k, 3 + 3 * k))

    def small(k: int) -> bytes:  # a memoised str of Python 2
        return plain_entry(k, b"zz").replace(b"U\x02zz", b"U\x02zzr" + struct.pack("<I", 1 + k))

    def same(k: int) -> bytes:
        return plain_entry(k, puts=two(0))

    of_code_30 = h.DTYPE + b"j\x1f\0\0\0\x89\x88\x87R" + h.tup(h.num(3), h.text("<"), h.PLAIN) + b"b"
    shared = [b"J\xff\xff\xff\x00j" + struct.pack("<I", n) for n in (0, 1, 2, 61, 120, 121, 5000)]
    files: dict[str, tuple[bytes, bool]] = {
        "sound": (run_with({}, counted), True),
        "the same memo numbers": (run_with({}, same), False),
        "one memo number again": (run_with({30: plain_entry(30, puts=two(29))}, counted), False),
        "the same small memo numbers": (
            h.pickled(*(plain_entry(k).replace(b"\x87R", b"\x87Rq\x05", 1) for k in range(60))), False
        ),
        "gaps": (run_with({}, gaps), False),
        "a gap before the run goes on": (run_with({0: plain_entry(0, puts=(0, 2))}, counted), False),
        "MEMOIZE in between": (run_with({30: b"J\0\0\0\1N"}, counted, 60, b"J\0\0\0\2N\x94"), False),
        "a code as numbers, referred to": (
            run_with({30: small(30).replace(b"zz", b"f4")}, small, 60, h.num(9) + h.array(kind=of_code_30)), True
        ),
    }  # fmt: skip
    files |= {f"reference {k}": (run_with({}, counted, 60, s), False) for k, s in enumerate(shared)}
    files |= {
        f"{after!r} at the end": (run_with({}, counted, 60, after), after == b"\x94")
        for after in (b"b", b"R", b"\x94", b"r\xff\0\1\0", b"\x95" + bytes(8) + b"b", b"\x85")
    }
    for change in (b"u(", b"N", b"\x94", b"r\x00\x10\x00\x00", b"h\x00", b"(", b")", b"\x85", b"]"):
        files[f"{change!r} before an entry"] = run_with({30: change + counted(30)}, counted), change == b"u("
    for title, (data, sound) in files.items():
        path.write_bytes(data)
        found = outcome(path, True)
        assert found == outcome(path, False), title
        assert (found is not None) == sound, title


def test_memoize_after_a_put_that_skips_a_number(tmp_path: Path) -> None:
    """A MEMOIZE after a PUT that skips a number is refused, in runs and outside."""
    ids = [*range(300, 320), *range(70_000, 70_020), *range(400, 420)]  # keys of two and of four bytes
    data = dump({k: numbers("f4", (16,), k) for k in ids}, 4)
    last = data.rindex(b"\x94", 0, data.index(b"M" + struct.pack("<H", 400)))
    changed = data[11:last] + b"r\x00\x10\x00\x00" + data[last + 1 :]
    path = tmp_path / "x.pkl"
    refuse(path, data[:2] + hostile_pickles.framed(changed))


# Files that change


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.pkl"
    path.write_bytes(dump({k: numbers("f4", (16,), k) for k in range(1500)}, 4))
    return path


@pytest.mark.parametrize("change", [append, truncate, touch])
def test_a_file_that_changes_is_an_error_at_the_end(file: Path, change: Callable[[Path], None]) -> None:
    """Size and modification time are compared at the end; the file is closed in any case."""
    entries = read(file)
    change(file)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        entries.close()
    entries.close()


@pytest.mark.parametrize("change", [append, truncate])
def test_a_file_whose_size_changed_is_an_error_at_once(file: Path, change: Callable[[Path], None]) -> None:
    """The error comes when a value is read, not only when the file is closed."""
    entries = read(file)
    change(file)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        entries.copy(np.array([1400]), np.empty((1, 64), np.uint8))
    with pytest.raises(BadFileError):
        entries.close()


def test_a_file_that_is_cut_while_it_is_copied(file: Path) -> None:
    """A file that is truncated while it is copied is an error."""
    entries = read(file)
    truncate(file)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        entries.copy(np.arange(1500), np.empty((1500, 64), np.uint8))
    with pytest.raises(BadFileError):
        entries.close()


@pytest.mark.parametrize("block", [1, 200, 1 << 19])
@pytest.mark.parametrize("order", ["as it is", "backwards", "far apart", "one"])
def test_copies(file: Path, block: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are copied in any order, together or one by one."""
    change_constant(monkeypatch, "BLOCK", block, of="pickled_arrays")
    places = {"backwards": np.arange(1500)[::-1], "far apart": np.array([3, 1400, 3, 700]), "one": np.array([9])}
    chosen = places.get(order, np.arange(1500))
    out = np.zeros((len(chosen), 64), np.uint8)
    with read(file) as entries:
        entries.copy(chosen, out)
    assert np.array_equal(out.view("f4"), [numbers("f4", (16,), k) for k in chosen], equal_nan=True)


def test_a_file_that_changes_while_it_is_walked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change between two entries is an error."""
    skip = PickledArrays._skip_known_entries

    def changing(reader: PickledArrays) -> bool:
        touch(file)
        return skip(reader)

    monkeypatch.setattr(PickledArrays, "_skip_known_entries", changing)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        read(file)
