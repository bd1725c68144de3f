"""Messages have no secrets and no control characters, and are otherwise unchanged."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from _newsclippings import text as foreign_text
from _newsclippings.storage.remote import describe_read_failure
from _newsclippings.text import (
    ForeignError,
    option,
    options_as_flags,
    printable,
    redact,
    remember_secrets,
    without_secrets,
)
from newsclippings import ConfigError, NewsCLIPpingsError, NoSpaceError, RemoteReadError

SECRET = "SeCrEt"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the secrets of other tests."""
    monkeypatch.setattr(foreign_text, "_known", {})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"http://user:{SECRET}@host/a.tar", "http://host/a.tar"),
        (f"http://{SECRET}@host/a.tar", "http://host/a.tar"),
        (f"http://me@mail.com:{SECRET}@host:80/a.tar", "http://host:80/a.tar"),
        (f"http://user:{SECRET}%2FPW@host/a.tar", "http://host/a.tar"),
        (f"http://user:{SECRET}/{SECRET}@host/a.tar", "http://host/a.tar"),
        (f"http://user:12/{SECRET}@host/a.tar", "http://host/a.tar"),
        (f"http://user:{SECRET}?{SECRET}#{SECRET}@host/a.tar", "http://host/a.tar"),
        (f"s3://AKIA:ab/{SECRET}+/x@bucket/a.tar", "s3://bucket/a.tar"),
        (f"https://host/a.tar?X-Amz-Signature={SECRET}&X=1", "https://host/a.tar"),
        (f"https://host/a.tar#{SECRET}", "https://host/a.tar"),
        (f"https://host/a.tar?sig={SECRET})'{SECRET}", "https://host/a.tar"),
        (f"https://host/a.tar?next=http://b?sig={SECRET}", "https://host/a.tar"),
        (
            f"zip://a.tar::https://user:{SECRET}@host/b.zip?sig={SECRET}::x",
            "zip://a.tar::https://host/b.zip",
        ),
        (f"simplecache::s3://k:{SECRET}@b/a.tar", "simplecache::s3://b/a.tar"),
        (f"one http://u:{SECRET}@h/a, two", "one http://h/a, two"),
        (f"['http://h/x?y={SECRET}','ftp://u:{SECRET}@h/b']", "['http://h/x','ftp://h/b']"),
        (f"URL('http://u:{SECRET}@h/a?b={SECRET}')", "URL('http://h/a')"),
        (f"(FileNotFoundError: http://h/a?b={SECRET}).", "(FileNotFoundError: http://h/a)."),
        (f"with url: /a.tar?sig={SECRET} (Caused by X)", "with url: /a.tar (Caused by X)"),
        (f'"GET /a.tar?sig={SECRET} HTTP/1.1" 403', '"GET /a.tar HTTP/1.1" 403'),
        (f"proxy user:{SECRET}@proxy.local:3128 failed", "proxy proxy.local:3128 failed"),
        (f"Authorization: Basic {SECRET}==", "Authorization: ***"),
        (f"'Authorization': 'Bearer hf_{SECRET}{SECRET}'", "'Authorization': '***'"),
        (f"headers=(authorization={SECRET})", "headers=(authorization=***)"),
        (f"Bearer {SECRET}{SECRET}", "Bearer ***"),
        (f"the token hf_{SECRET}{SECRET} is no more", "the token *** is no more"),
        (f"token={SECRET}, b", "token=***, b"),
        (f"https://host/a.tar;jsessionid={SECRET}", "https://host/a.tar;jsessionid=***"),
        (f"{{'secret': '{SECRET}', 'key': 'a'}}", "{'secret': '***', 'key': 'a'}"),
        (f'"aws_secret_access_key": "{SECRET}"', '"aws_secret_access_key": "***"'),
    ],
)
def test_secrets_are_removed(text: str, left: str) -> None:
    """What may be a secret is removed, the rest is kept; a second pass changes nothing."""
    assert without_secrets(text) == left
    assert without_secrets(left) == left
    assert str(NewsCLIPpingsError(text)) == left


@pytest.mark.parametrize(
    "text",
    [
        "/data/a#b/c?d=1/e@f/g:h@i/origin.tar: expected a file",
        "./a:b@c/origin.tar",
        "file:///data/a#b?c/origin.tar",
        "http://127.0.0.1:8000/a@b/origin.tar",
        "http://localhost:8000/a@b/origin.tar",
        "http://[::1]:8000/a@b/origin.tar",
        "https://example.org/a@b/origin.tar",
        "hf://datasets/me/news@main/origin.tar",
        "s3://bucket/a@b.tar",
        "data_dir='C:\\\\data\\\\x' is not known. Allowed: 'a', 'b'.",
        "the Hub does not accept your token: log in again by `hf auth login`, or set HF_TOKEN.",
        "basic information, no bearer of news; a signature: none",
        "two\n  lines of ours, é, 中文, \u05d0",
        "token=***",
        "/data/token=abc/origin.tar",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    """Paths, plain URLs and sentences are unchanged."""
    assert without_secrets(text) == redact(text) == str(NewsCLIPpingsError(text)) == text


def test_control_characters_are_escaped() -> None:
    """Control characters, bidi overrides, separators and zero-width characters are escaped in messages."""
    forbidden = [chr(c) for c in (*range(32), *range(127, 160), *range(0x200B, 0x2010), *range(0x2028, 0x202F))]
    forbidden += [chr(c) for c in (*range(0x2060, 0x2070), 0xFEFF, 0xAD, 0xD800, 0xE0001)]
    for char in forbidden:
        shown = printable(f"a\\{char}'\"b")
        assert shown == f"a\\{repr(char)[1:-1]}'\"b"
        assert shown.isprintable()
        if char != "\n":
            assert str(NewsCLIPpingsError(f"x: {char}")) == f"x: {repr(char)[1:-1]}"


@pytest.mark.parametrize("kind", [NewsCLIPpingsError, *NewsCLIPpingsError.__subclasses__()])
def test_errors_cross_processes(kind: type[NewsCLIPpingsError]) -> None:
    """A message is the same after pickling, and if an error is created from another's message."""
    error = kind(f"http://u:{SECRET}@h/x: line\n  line \x1b[2J")
    assert error.args == ("http://h/x: line\n  line \\x1b[2J",)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), twin.args, str(twin)) == (kind, error.args, str(error))
    assert str(kind(str(error))) == str(error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_the_number_of_a_full_disk_crosses_processes(number: int) -> None:
    """Which limit was reached is the same after pickling, as is a note that somebody added."""
    error = NoSpaceError("/data: the disk is full.", number)
    error.add_note("of train")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.errno) == (NoSpaceError, "/data: the disk is full.", number)
    assert twin.__notes__ == ["of train"]
    assert NoSpaceError("/data: the disk is full.").errno == errno.ENOSPC


def test_known_secrets_are_taken_out_in_any_form() -> None:
    """What a URL in use holds is not shown where a library repeats it outside a URL, decoded or encoded."""
    remember_secrets(f"zip://x::http://user:{SECRET}%2Fpw/and more@host/x?sig={SECRET}%2Bsignature&a=1")
    for text in (
        f"Port could not be cast to integer value as '{SECRET}%2Fpw'",
        f"bad {SECRET}/pw or {SECRET}+signature or {SECRET}%2Bsignature",
    ):
        assert SECRET not in str(ConfigError(text))
    assert str(ConfigError("user, host, x and a=1 stay")) == "user, host, x and a=1 stay"


def test_a_cleaned_cause_keeps_types_and_texts() -> None:
    """The chain of causes stays readable, without secrets in the traceback or the attributes."""
    failure: NewsCLIPpingsError
    try:
        try:
            raise OSError(99, f"no http://u:{SECRET}@h/")
        except OSError as error:
            raise FileNotFoundError(f"http://h/?sig={SECRET}") from error
    except FileNotFoundError as error:
        failure = describe_read_failure(f"http://u:{SECRET}@h/x?sig={SECRET}", error)
    with pytest.raises(RemoteReadError) as caught:
        raise failure
    text = "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    first = caught.value.__cause__
    assert isinstance(first, ForeignError)
    assert str(first) == "FileNotFoundError: http://h/"
    assert str(first.__cause__) == "OSError: [Errno 99] no http://h/"
    assert SECRET not in text
    assert "OSError: [Errno 99] no http://h/" in text


def test_cleaning_takes_linear_time() -> None:
    """Cleaning a long text takes time proportional to its length."""
    began = time.perf_counter()
    for part in (",", "token", "a:", "http://", "http://a@", "'secret':'", "?x=", "hf_", "a,b:/", '"GET /'):
        without_secrets(part * (200_000 // len(part)))
    assert time.perf_counter() - began < 10


def test_the_module_imports_little() -> None:
    """text.py can be imported without loading fsspec or `datasets`."""
    code = "import sys, _newsclippings.text; print('fsspec' in sys.modules, 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_options_are_named_as_their_user_writes_them() -> None:
    """A message names Python arguments in Python, and flags on the command line, in every thread."""
    assert [option("missing", "null"), option("check_images", True), option("visual_news")] == [
        "missing='null'",
        "check_images=True",
        "visual_news=",
    ]
    with options_as_flags(), ThreadPoolExecutor(1) as pool:
        flags = pool.submit(lambda: [option("missing", "null"), option("check_images", True), option("visual_news")])
        assert flags.result() == ["--missing null", "--check-images", "--visual-news"]
    assert option("missing", "null") == "missing='null'"
