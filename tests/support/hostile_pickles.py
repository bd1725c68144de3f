"""Hand-assembled pickles that must be refused: each attack puts a few opcodes where an array should be."""

# ruff: noqa: E501  (an attack a line)

from __future__ import annotations

import struct
from collections.abc import Callable

MANY = 50_000  # the limit on entries in these tests


def num(n: int) -> bytes:
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -(2**31) <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    width = n.bit_length() // 8 + 1
    return b"\x8a" + bytes([width]) + n.to_bytes(width, "little", signed=True)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def blob(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def tup(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


CORE = "numpy.core.multiarray"
RECONSTRUCT, NDARRAY, DTYPE = name(CORE, "_reconstruct"), name("numpy", "ndarray"), name("numpy", "dtype")
SCALAR, FROMBUFFER, ENCODE = name(CORE, "scalar"), name("numpy.core.numeric", "_frombuffer"), name("_codecs", "encode")
NEW = RECONSTRUCT + tup(NDARRAY, num(0) + b"\x85", blob(b"b")) + b"R"
PLAIN = b"NNN" + num(-1) + num(-1) + num(0)


def dtype(code: str = "f4", order: str = "<", state: bytes | None = None, flags: bytes = b"\x89\x88") -> bytes:
    state = tup(num(3), text(order), PLAIN) if state is None else state
    return DTYPE + text(code) + flags + b"\x87R" + state + b"b"


def array(
    shape: bytes = tup(num(2)),
    kind: bytes | None = None,
    data: bytes = blob(bytes(8)),
    version: bytes = num(1),
    fortran: bytes = b"\x89",
) -> bytes:
    return NEW + tup(version, shape, dtype() if kind is None else kind, fortran, data) + b"b"


def frombuffer(*arguments: bytes) -> bytes:
    return FROMBUFFER + tup(*arguments) + b"R"


def pickled(*entries: bytes, proto: int = 4, before: bytes = b"", after: bytes = b"") -> bytes:
    """A dict of the entries (keys and values), with opcodes before it or between it and STOP."""
    return b"\x80" + bytes([proto]) + before + b"}(" + b"".join(entries) + b"u" + after + b"."


def framed(body: bytes, size: int | None = None) -> bytes:
    return b"\x95" + struct.pack("<Q", len(body) if size is None else size) + body


GOOD = num(1) + array()


def calls(canary: str) -> dict[str, tuple[str, str, list[str]]]:
    """Callables, each with arguments that create the canary file."""
    code = f"open({canary!r}, 'w').close()"
    shell = f"touch {canary}"
    return {
        "os.system": ("os", "system", [shell]),
        "posix.system": ("posix", "system", [shell]),
        "nt-like os.popen": ("os", "popen", [shell]),
        "subprocess.getoutput": ("subprocess", "getoutput", [shell]),
        "subprocess.getstatusoutput": ("subprocess", "getstatusoutput", [shell]),
        "subprocess.call": ("subprocess", "call", ["true"]),
        "builtins.exec": ("builtins", "exec", [code]),
        "builtins.eval": ("builtins", "eval", [code]),
        "__builtin__.eval": ("__builtin__", "eval", [code]),
        "builtins.open": ("builtins", "open", [canary, "w"]),
        "io.open": ("io", "open", [canary, "w"]),
        "_io.open": ("_io", "open", [canary, "w"]),
        "_io.FileIO": ("_io", "FileIO", [canary, "w"]),
        "codecs.open": ("codecs", "open", [canary, "w"]),
        "os.mkdir": ("os", "mkdir", [canary]),
        "os.mkfifo": ("os", "mkfifo", [canary]),
        "os.symlink": ("os", "symlink", ["/dev/null", canary]),
        "shutil.copy": ("shutil", "copy", [__file__, canary]),
        "cProfile.run": ("cProfile", "run", [code]),
        "pdb.run": ("pdb", "run", ["pass"]),
        "sqlite3.connect": ("sqlite3", "connect", [canary]),
        "tarfile.open": ("tarfile", "open", [canary, "w"]),
        "zipfile.ZipFile": ("zipfile", "ZipFile", [canary, "w"]),
        "numpy.save": ("numpy", "save", [canary, "x"]),
        "numpy.fromfile": ("numpy", "fromfile", [canary]),
        "numpy.load": ("numpy", "load", [canary]),
        "pkgutil.resolve_name": ("pkgutil", "resolve_name", ["os:system"]),
        "importlib.import_module": ("importlib", "import_module", ["this"]),
        "pickle.loads": ("pickle", "loads", ["x"]),
        "torch rebuild": ("torch._utils", "_rebuild_tensor_v2", ["x"]),
        "collections.OrderedDict": ("collections", "OrderedDict", []),
        "copyreg._reconstructor": ("copyreg", "_reconstructor", ["x"]),
    }


def call_pickles(canary: str) -> dict[str, bytes]:
    """Call every callable through every opcode that calls, in every place where a value may be."""
    styles: dict[str, Callable[[str, str, list[bytes]], bytes]] = {
        "REDUCE": lambda m, n, a: name(m, n) + tup(*a) + b"R",
        "STACK_GLOBAL": lambda m, n, a: stack_name(m, n) + tup(*a) + b"R",
        "INST": lambda m, n, a: b"(" + b"".join(a) + f"i{m}\n{n}\n".encode(),
        "OBJ": lambda m, n, a: b"(" + name(m, n) + b"".join(a) + b"o",
        "NEWOBJ": lambda m, n, a: name(m, n) + tup(*a) + b"\x81",
        "NEWOBJ_EX": lambda m, n, a: name(m, n) + tup(*a) + b"}\x92",
        "BUILD": lambda m, n, a: name(m, n) + tup(*a) + b"b",
    }
    files = {}
    for title, (module, attribute, arguments) in calls(canary).items():
        made = {style: make(module, attribute, [text(a) for a in arguments]) for style, make in styles.items()}
        for style, opcodes in made.items():
            files[f"{title} by {style}"] = pickled(GOOD, num(2), opcodes)
        opcodes = made["REDUCE"]
        files[f"{title} as key"] = pickled(opcodes, array())
        files[f"{title} before"] = pickled(GOOD, before=opcodes + b"0")
        files[f"{title} after"] = pickled(GOOD, after=opcodes + b"0")
        files[f"{title} popped"] = pickled(num(2), opcodes + b"0", array())
        files[f"{title} in a list"] = pickled(num(2), b"](" + opcodes + b"e")
        files[f"{title} as data"] = pickled(num(2), array(data=opcodes))
        files[f"{title} as shape"] = pickled(num(2), array(shape=opcodes))
        files[f"{title} as dtype"] = pickled(num(2), array(kind=opcodes))
        files[f"{title} second pickle"] = pickled(GOOD) + pickled(num(2), opcodes)
        files[f"{title} only"] = b"\x80\x04" + opcodes + b"."
    return files


def name_pickles() -> dict[str, bytes]:
    """Names that look like the known ones."""
    pairs = [
        ("numpy.core.multiarray", "_reconstruct "), ("numpy.core.multiarray", "_Reconstruct"), (" numpy", "ndarray"),
        ("numpy", "ndarray.__class__"), ("numpy", "dtype.type"), ("numpy", "ndarray.tofile"), ("numpy.", "ndarray"),
        ("numpy", "__builtins__"), ("numpy", "f2py.crackfortran.eval"), ("numpy.f2py", "os"), ("NumPy", "ndarray"),
        ("numpy.core", "multiarray._reconstruct"), ("numpy.core._multiarray", "_reconstruct"), ("numpy\0", "ndarray"),
        ("numpy.core.multiarray._reconstruct", ""), ("", "ndarray"), ("", ""), ("numpy", ""), ("numpy", "array"),
        ("numpy", "nd\u0430rray"), ("numpy", "recarray"), ("numpy", "memmap"), ("numpy", "matrix"), ("numpy", "void"),
        ("numpy.matrixlib.defmatrix", "matrix"), ("numpy.ma.core", "_mareconstruct"), ("numpy", "core"),
        ("numpy.core.multiarray", "frombuffer"), ("numpy.core.multiarray", "fromstring"), ("_codecs", "decode"),
        ("numpy.core.multiarray", "scalar.__call__"), ("_codecs", "lookup"), ("codecs", "encode"),
        ("_codecs", "encode.__self__"), ("__builtin__", "bytes.fromhex"), ("__builtin__", "bytearray"),
        ("builtins", "bytes"), ("__builtin__", "object"), ("__builtin__", "getattr"), ("numpy.core.numeric", "frombuffer"),
        ("numpy.core.numeric", "_frombuffer.__code__"), ("numpy._core.numeric", "_frombuffer.__globals__"),
        ("numpy._core", "_reconstruct"), ("numpy.__core.multiarray", "scalar"), ("a" * 5000, "b"), ("a", "b" * 5000),
    ]  # fmt: skip
    files = {}
    for module, attribute in pairs:
        title = f"{module[:40]}:{attribute[:40]}"
        files[f"GLOBAL {title}"] = pickled(num(1), name(module, attribute) + tup() + b"R")
        files[f"STACK_GLOBAL {title}"] = pickled(num(1), stack_name(module, attribute) + tup() + b"R")
        files[f"bare {title}"] = pickled(num(1), name(module, attribute))
    files["STACK_GLOBAL of numbers"] = pickled(num(1), num(1) + num(2) + b"\x93")
    files["STACK_GLOBAL of bytes"] = pickled(num(1), blob(b"numpy") + blob(b"ndarray") + b"\x93")
    files["STACK_GLOBAL of nothing"] = pickled(num(1), b"\x93")
    files["GLOBAL without an end"] = b"\x80\x04}(K\x01cnumpy"
    files["GLOBAL on one line"] = pickled(num(1), b"cnumpy\n")
    return files


def numpy_pickles() -> dict[str, bytes]:
    """Numpy's own constructors, with arguments and states that numpy never writes."""
    two = tup(num(2))
    states = {
        "flags": tup(num(3), text("<"), b"NNN", num(-1), num(-1), num(63)),
        "flags of objects": tup(num(3), text("|"), b"NNN", num(-1), num(-1), num(0x3F)),
        "size": tup(num(3), text("<"), b"NNN", num(4096), num(-1), num(0)),
        "alignment": tup(num(3), text("<"), b"NNN", num(-1), num(0), num(0)),
        "subarray": tup(num(3), text("<"), tup(DTYPE, num(9)), b"NN", num(-1), num(-1), num(0)),
        "fields": tup(num(3), text("<"), b"N", tup(text("a")), b"}", num(4), num(4), num(0)),
        "metadata": tup(num(4), text("<"), PLAIN, b"}"),
        "version 2": tup(num(2), text("<"), PLAIN),
        "version true": tup(b"\x88", text("<"), PLAIN),
        "zero is false": tup(num(3), text("<"), b"NNN", num(-1), num(-1), b"\x89"),
        "byte order": tup(num(3), text("?"), PLAIN),
        "byte order |": tup(num(3), text("|"), PLAIN),
        "no byte order": tup(num(3), b"N", PLAIN),
        "short": tup(num(3), text("<"), b"NNN"),
        "empty": b")",
        "number": num(3),
        "dict": b"}",
    }
    files = {f"dtype state: {title}": pickled(num(1), array(kind=dtype(state=s))) for title, s in states.items()}
    codes = [
        "O",
        "O8",
        "|O",
        "V8",
        "S4",
        "U4",
        "M8",
        "m8",
        "c8",
        "c16",
        "f16",
        "f12",
        "f4,f4",
        "(2,)f4",
        "<f4",
        "f",
        "i",
    ]
    for code in [
        *codes,
        "",
        "float32",
        "i16",
        "b8",
        "?",
        "P",
        "object",
        "a8",
        "f4" * 50,
        "numpy",
        "latin1",
        "T",
        "f\u0664",
    ]:
        files[f"dtype {code[:12]!r}"] = pickled(num(1), array(kind=dtype(code)))
        files[f"dtype {code[:12]!r} in _frombuffer"] = pickled(
            num(1), frombuffer(blob(bytes(8)), dtype(code), two, text("C"))
        )
    kinds = {
        "of a list": DTYPE + tup(b"](e", b"\x89", b"\x88") + b"R",
        "of a dict": DTYPE + tup(b"}", b"\x89", b"\x88") + b"R",
        "of a number": DTYPE + tup(num(4), b"\x89", b"\x88") + b"R",
        "without state": DTYPE + text("f4") + b"\x89\x88\x87R",
        "one argument": DTYPE + text("f4") + b"\x85R",
        "flags of 2": dtype(flags=num(2) + num(2)),
        "twice built": dtype() + tup(num(3), text("<"), PLAIN) + b"b",
        "the class": DTYPE,
        "none": b"N",
        "text": text("f4"),
        "BUILD of the class": DTYPE + tup(num(3), text("<"), PLAIN) + b"b",
        "NEWOBJ": DTYPE + text("f4") + b"\x85\x81",
    }
    files |= {f"dtype {title}": pickled(num(1), array(kind=kind)) for title, kind in kinds.items()}
    big = 2**62
    shapes = {
        "negative": num(-2), "two negatives": num(-2) + num(-1), "overflow": num(big) + num(4), "huge": num(big),
        "overflow to 2": num(2**32) + num(2**32) + num(2), "zero and huge": num(0) + num(2**40) + num(2**40),
        "bool": b"\x88" + num(2), "none": b"N", "text": text("2"), "nested": tup(num(2)), "float": b"G" + bytes(8),
        "5 dimensions": num(1) * 4 + num(2), "too small": num(1), "too large": num(3), "empty": b"", "zero": num(0),
        "20 dimensions": num(1) * 20,
    }  # fmt: skip
    for title, shape in shapes.items():
        files[f"shape {title}"] = pickled(num(1), array(shape=tup(shape)))
        files[f"shape {title} in _frombuffer"] = pickled(
            num(1), frombuffer(blob(bytes(8)), dtype(), tup(shape), text("C"))
        )
    data = {
        "text": text("12345678"), "none": b"N", "list": b"](" + blob(b"x") * 8 + b"e", "number": num(8), "short": blob(b"1234567"),
        "long": blob(b"123456789"), "latin1 short": ENCODE + text("1234567") + text("latin1") + b"\x86R",
        "latin1 of others": ENCODE + text("1234567\u0100") + text("latin1") + b"\x86R",
        "utf-8": ENCODE + text("12345678") + text("utf-8") + b"\x86R", "rot13": ENCODE + text("12345678") + text("rot13") + b"\x86R",
        "latin1 of invalid": ENCODE + b"X" + struct.pack("<I", 8) + b"\xff" * 8 + text("latin1") + b"\x86R",
        "encode of bytes": ENCODE + blob(bytes(8)) + text("latin1") + b"\x86R",
        "encode with errors": ENCODE + text("12345678") + text("latin1") + text("ignore") + b"\x87R",
        "encode of nothing": ENCODE + b")R", "bytes(n)": name("__builtin__", "bytes") + num(8) + b"\x85R",
        "bytes()": name("__builtin__", "bytes") + b")R", "array": array(), "out of band": b"\x97", "read-only": b"\x97\x98",
    }  # fmt: skip
    for title, opcodes in data.items():
        files[f"data {title}"] = pickled(num(1), array(data=opcodes))
        files[f"data {title} in _frombuffer"] = pickled(num(1), frombuffer(opcodes, dtype(), two, text("C")), proto=5)
    files |= {
        f"values: {title}": pickled(num(1), opcodes)
        for title, opcodes in {
            "new array without state": NEW,
            "ndarray itself": NDARRAY,
            "ndarray called": NDARRAY + tup(two) + b"R",
            "NEWOBJ of ndarray": NDARRAY + tup(two) + b"\x81",
            "BUILD of ndarray": NDARRAY + tup(num(1), two, dtype(), b"\x89", blob(bytes(8))) + b"b",
            "BUILD of _frombuffer": FROMBUFFER + b"}" + text("__defaults__") + b"Nsb",
            "BUILD of _reconstruct": RECONSTRUCT + b"}" + text("x") + b"Nsb",
            "BUILD with two": NEW + b"N}\x86b",
            "BUILD twice": array() + tup(num(1), two, dtype(), b"\x89", blob(bytes(8))) + b"b",
            "state version 0": array(version=num(0)),
            "state version true": array(version=b"\x88"),
            "state version none": array(version=b"N"),
            "fortran 2": array(fortran=num(2)),
            "fortran none": array(fortran=b"N"),
            "state of 4": NEW + tup(two, dtype(), b"\x89", blob(bytes(8))) + b"b",
            "reconstruct of shape 5": RECONSTRUCT + tup(NDARRAY, tup(num(5)), blob(b"b")) + b"R",
            "reconstruct of false": RECONSTRUCT + tup(NDARRAY, tup(b"\x89"), blob(b"b")) + b"R",
            "reconstruct of O": RECONSTRUCT + tup(NDARRAY, tup(num(0)), blob(b"O")) + b"R",
            "reconstruct of dtype": RECONSTRUCT + tup(DTYPE, tup(num(0)), blob(b"b")) + b"R",
            "reconstruct of nothing": RECONSTRUCT + b")R",
            "reconstruct without a tuple": RECONSTRUCT + b"NR",
            "frombuffer order A": frombuffer(blob(bytes(8)), dtype(), two, text("A")),
            "frombuffer order K without axes": frombuffer(blob(bytes(8)), dtype(), two, text("K")),
            "frombuffer axes of C": frombuffer(blob(bytes(8)), dtype(), two, text("C"), tup(num(0))),
            "frombuffer axes repeated": frombuffer(blob(bytes(8)), dtype(), num(2) + num(1) + b"\x86", text("K"), num(0) * 2 + b"\x86"),
            "frombuffer axes missing": frombuffer(blob(bytes(8)), dtype(), num(2) + num(1) + b"\x86", text("K"), num(0) + b"\x85"),
            "frombuffer axes negative": frombuffer(blob(bytes(8)), dtype(), num(2) + num(1) + b"\x86", text("K"), num(-1) + num(0) + b"\x86"),
            "frombuffer axes many": frombuffer(blob(bytes(8)), dtype(), two, text("K"), num(0) + num(1) + b"\x86"),
            "frombuffer of nothing": frombuffer(),
            "scalar": SCALAR + dtype("i8") + blob(bytes(8)) + b"\x86R",
            "scalar of float": SCALAR + dtype() + blob(bytes(4)) + b"\x86R",
            "bytes": blob(b"x"), "REDUCE of none": b"N)R", "REDUCE of text": text("os.system") + b")R",
            "REDUCE of an array": array() + b")R", "REDUCE of the dict": b"}" + b")R",
        }.items()
    }  # fmt: skip
    for title, key in {
        "float": SCALAR + dtype("f8") + blob(bytes(8)) + b"\x86R",
        "object": SCALAR + dtype("O") + blob(bytes(8)) + b"\x86R",
        "short": SCALAR + dtype("i8") + blob(bytes(7)) + b"\x86R",
        "long": SCALAR + dtype("i8") + blob(bytes(9)) + b"\x86R",
        "no bytes": SCALAR + dtype("i8") + b"\x85R",
        "without state": SCALAR + DTYPE + text("i8") + b"\x89\x88\x87R" + blob(bytes(8)) + b"\x86R",
        "of text": SCALAR + dtype("i8") + text("12345678") + b"\x86R",
        "of another": SCALAR + tup(num(1)) + blob(bytes(8)) + b"\x86R",
        "unsigned of 64 bits": SCALAR + dtype("u8") + blob(b"\xff" * 8) + b"\x86R",
        "latin1 of others": SCALAR + dtype("i1") + ENCODE + text("\u0100") + text("latin1") + b"\x86R\x86R",
    }.items():
        files[f"scalar key {title}"] = pickled(key, array())
    return files


def machine_pickles() -> dict[str, bytes]:
    """Opcodes, frames, memo, exhaustion, structure."""
    opcodes = {
        "POP": b"0", "POP_MARK": b"(1", "DUP": b"2", "FLOAT": b"F1\n", "BINFLOAT": b"G" + bytes(8), "LONG": b"L1L\n",
        "PERSID": b"Px\n", "BINPERSID": b"NQ", "STRING": b"S'x'\n", "UNICODE": b"Vx\n", "DICT": b"(d", "GET": b"g0\n",
        "INST": b"(ios\nsystem\n", "LIST": b"(l", "OBJ": b"(o", "PUT": b"p0\n", "PROTO": b"\x80\x04", "NEWOBJ": b"N)\x81",
        "EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00", "LONG4": b"\x8b\x01\x00\x00\x00\x01",
        "EMPTY_SET": b"\x8f", "ADDITEMS": b"\x8f(\x90", "FROZENSET": b"(\x91", "NEWOBJ_EX": b"N)}\x92",
        "NEXT_BUFFER": b"\x97", "READONLY_BUFFER": b"N\x98", "zero": b"\x00", "0xff": b"\xff", "0x99": b"\x99",
    }  # fmt: skip
    files = {f"opcode {title}": pickled(GOOD, num(2), op) for title, op in opcodes.items()}
    for title, key in {
        "float": b"G" + bytes(8), "true": b"\x88", "false": b"\x89", "none": b"N", "text": text("1"), "bytes": blob(b"1"),
        "str": b"U\x011", "tuple": tup(num(1)), "array": array(), "65 bits": num(2**64), "2**63": num(2**63),
        "INT 01": b"I01\n", "INT 00": b"I00\n", "INT of 2**64": b"I18446744073709551616\n", "INT of nothing": b"I\n",
        "INT of hex": b"I0x1\n", "INT of 1_0": b"I1_0\n", "INT without an end": b"I1111111111111111111111111111111\n",
        "list": b"]", "huge LONG1": b"\x8a\xff" + b"\xff" * 255, "nested tuples": b")" + b"\x85" * 60,
    }.items():  # fmt: skip
        files[f"key {title}"] = pickled(key, array())
    for title, value in {
        "number": num(1), "true": b"\x88", "text": text("x"), "tuple": tup(array()), "empty tuple": b")", "dict": b"}",
        "dict of arrays": b"}(" + GOOD + b"u", "list of numbers": b"](" + num(1) + b"e", "list of none": b"]Na",
        "list of lists": b"]]a", "list of list of arrays": b"](](" + array() + b"ee", "dtype": dtype(), "name": DTYPE,
        "list of tuples": b"])a", "empty append": b"](e", "append to none": b"NNa", "append to array": array() + array() + b"a",
        "append to the dict": b"N" + b"a", "list of new arrays": b"]" + NEW + b"a",
    }.items():  # fmt: skip
        files[f"value {title}"] = pickled(num(1), value)
    header = b"\x80\x04"
    files |= {
        "no dict": header + num(1) + b".",
        "an array only": header + array() + b".",
        "a list only": header + b"](" + array() + b"e.",
        "nothing": header + b".",
        "two dicts": header + b"}}.",
        "dict in the stack": header + b"N}.",
        "left over": header + b"}(" + GOOD + b"uN.",
        "mark left over": header + b"}(.",
        "key without value": pickled(GOOD, num(2)),
        "SETITEM without value": header + b"}" + num(1) + b"s.",
        "SETITEM of a name": header + b"}" + DTYPE + num(1) + b"Ns.",
        "SETITEM of an array": header + b"}" + num(1) + array() + num(1) + b"Nss.",
        "SETITEMS without a mark": header + b"}u.",
        "SETITEMS on nothing": header + b"(u.",
        "TUPLE without a mark": header + b"t.",
        "TUPLE3 of two": header + num(1) + num(2) + b"\x87.",
        "BUILD on nothing": header + b"b.",
        "REDUCE on nothing": header + b"R.",
        "MEMOIZE of nothing": header + b"\x94.",
        "BINPUT of nothing": header + b"q\x00.",
        "trailing byte": pickled(GOOD) + b"\n",
        "trailing zeros": pickled(GOOD) + bytes(4096),
        "two pickles": pickled(GOOD) * 2,
        "an id twice": pickled(GOOD, num(7), b"N", GOOD),
        "an id twice as numpy integer": pickled(num(5), b"N", SCALAR + dtype("i4") + blob(b"\5\0\0\0") + b"\x86R", b"N"),
        "second dict after STOP of a frame": header + framed(b"}.") + b"}.",
        # frames
        "frame longer than the file": header + framed(b"}(" + GOOD + b"u.", 10**6),
        "frame of 2**64 - 1": header + framed(b"}.", 2**64 - 1),
        "frame shorter than an opcode": header + framed(b"}(" + GOOD + b"u.", 10),
        "frame in a frame": header + framed(b"}" + framed(b"(" + GOOD + b"u.")),
        "frame cut": header + b"\x95\x01",
        "literal over the end of a frame": header + framed(b"}(K\x01" + blob(bytes(100)), 12) + b".",
        "frame divergence": header + framed(b"}(" + num(1) + b"N" + b"X\x10", 8) + b"\0\0\0" + b"cos\nsystem\n" + b"u.",
        # memo
        "GET of nothing": pickled(num(1), b"h\x00"),
        "LONG_BINGET of much": pickled(num(1), b"j\xff\xff\xff\xff"),
        "memo overwritten": pickled(num(1), DTYPE + b"q\x05" + b"q\x05"),
        "memo falls": pickled(num(1), array() + b"q\x05", num(2), array() + b"q\x04"),
        "memo twice": pickled(num(1), array() + b"\x94\x94"),
        "MEMOIZE over a PUT": pickled(num(1), array() + b"q\x01", num(2), array() + b"\x94", num(3), array() + b"\x94"),
        "GET of the dict": header + b"}\x94(" + num(1) + b"h\x00u.",
        "GET of a tuple": pickled(num(1), NEW + tup(num(1), tup(num(2)) + b"\x94", dtype(), b"\x89", blob(bytes(8))) + b"b", num(2), b"h\x00"),
        "GET of an unfinished array": pickled(num(1), NEW + b"\x94" + tup(num(1), b"h\x00", dtype(), b"\x89", blob(bytes(8))) + b"b"),
        "GET of a list": pickled(num(1), b"]\x94(" + array() + b"e", num(2), b"h\x00"),
        "a list in itself": pickled(num(1), b"]\x94h\x00a"),
        "GET of data as shape": pickled(num(1), array(data=blob(bytes(8)) + b"\x94"), num(2), array(shape=b"h\x00")),
        # exhaustion
        **{
            f"forged length of {title}": pickled(num(1), op + b"\xff" * width)
            for title, op, width in [
                ("SHORT_BINBYTES", b"C", 1), ("BINBYTES", b"B", 4), ("BINBYTES8", b"\x8e", 8), ("BYTEARRAY8", b"\x96", 8),
                ("SHORT_BINUNICODE", b"\x8c", 1), ("BINUNICODE", b"X", 4), ("BINUNICODE8", b"\x8d", 8), ("BINSTRING", b"T", 4),
                ("SHORT_BINSTRING", b"U", 1), ("LONG1", b"\x8a", 1), ("LONG4", b"\x8b", 4), ("BININT", b"J", 3),
            ]
        },
        "length of 2**31": pickled(num(1), b"T\x00\x00\x00\x80"),
        "deep marks": header + b"}" + b"(" * 100_000,
        "deep lists": pickled(num(1), b"](" * 50_000),
        "deep tuples": pickled(num(1), b")" + b"\x85" * 100_000),
        "deep dicts": header + b"}" * 100_000,
        "hash bomb": pickled(b")" + b"\x94h\x00\x86\x94" * 60, b"N"),
        "billion laughs of tuples": pickled(num(1), b")\x94" + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86\x94" for k in range(60))),
        "billion laughs of lists": pickled(num(1), b"]\x94" + b"".join(b"](h" + bytes([k]) + b"h" + bytes([k]) + b"e\x94" for k in range(60))),
        "huge tuple": pickled(num(1), b"(" + b"N" * 200_000 + b"t"),
        "huge list": pickled(num(1), b"](" + array() + b"\x94" + b"h\x00" * 5000 + b"e"),
        "huge list in pieces": pickled(num(1), array() + b"\x94", num(2), b"]" + (b"(" + b"h\x00" * 1000 + b"e") * 6),
        "lists of one shared array": pickled(
            num(1), array() + b"\x94", *(num(k + 2) + b"](" + b"h\x00" * 4000 + b"e" for k in range(MANY // 4000 + 2))
        ),
        "values pile up": header + b"}(" + b"N" * 1_000_000,
        "empty batches": header + b"}" + b"(u" * 500_000 + b".",
        "empty frames": header + b"}" + framed(b"") * 100_000 + b".",
        "keys and none beyond measure": header + b"}(" + b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(MANY + 1)) + b"u.",
        "puts without end": header + b"}" + b"".join(b"r" + struct.pack("<I", k) for k in range(50_000)) + b".",
        "array of more than 64 MiB": pickled(num(1), array(shape=tup(num(2**24 + 1)), data=blob(bytes(64)))),
    }  # fmt: skip
    return files


def other_files() -> dict[str, bytes]:
    """Files that are no pickles of protocol 2 to 5; the error names the format they look like."""
    return {
        "an empty file": b"",
        "an HTML page": b"<!DOCTYPE html><html></html>",
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "gzip": b"\x1f\x8b\x08" + bytes(20),
        "a zip archive": b"PK\x03\x04" + bytes(20),
        "a .npy file": b"\x93NUMPY\x01\x00" + bytes(20),
        "protocol 0 or 1": b"(dp0\nI1\nN.",
        "protocol 0 or": b"}q\x00.",
        "no opcode PROTO": b"\x00" * 50,
        "protocol 1": b"\x80\x01}.",
        "protocol 6": b"\x80\x06}.",
        "one byte": b"\x80",
        "0 before the end": b"\x80\x04",
    }
