"""Make text from files, servers and libraries safe for messages: escape control characters and remove secrets."""

import base64
import contextlib
import dataclasses
import difflib
import functools
import json
import logging
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
_LONGEST = 2000  # characters kept of a library's error
_SHORTEST = 4  # characters of a secret that is removed from all texts; shorter ones could be words

# A URL, up to a space or the next URL (`zip://x::https://...`). A `file://` URL has no secrets, and `#`, `?` and `@` in
# it are plain characters. Repetitions are bounded, so that no text takes long.
_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])(?!(?:file|local)://)([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(\S*?)(?=[:,;'\"<>|(){}\[\]]{1,3}[A-Za-z][\w+.-]{0,20}:/|\s|\Z)"
)
_CLOSING = re.compile(r"[)\]}>'\",.:;!]*\Z")  # punctuation of the sentence around a URL
_NAMES = (
    r"[\w-]{0,40}(?:secret|token|passw|signature|credential|api_?-?key|access_?-?key|session_?-?id)[\w-]{0,40}|sig|pwd"
)
_ELSEWHERE = (
    (re.compile(rf"(?<![\w/\\-])((?:{_NAMES})=)[^\s&'\",;)]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(['\"](?:{_NAMES})['\"]\s?:\s?)(['\"])(?:(?!\2).){{0,4000}}\2", re.IGNORECASE), rf"\1\2{HIDDEN}\2"),
    (
        re.compile(
            r"(\b(?:proxy-)?authorization\b['\"]?\s?[:=,]\s?['\"]?)(?:(?:basic|bearer|digest|token)\s)?[^\s'\",;)]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(bearer\s)[\w+/.~=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), HIDDEN),
    (re.compile(r"(?<![\w/.\\-])[\w.+-]+:[^\s/@:'\"]+@(?=[\w.-]+:\d)"), ""),  # of a proxy: user:password@host:port
    (re.compile(r"((?:\burl: |\"(?:GET|HEAD|POST|PUT) )/[^\s?#]*)[?#]\S*?(?=[)'\",.:;]{0,9}(?:\s|\Z))"), r"\1"),
)
_LOGGERS = (  # of all libraries that may read a URL
    "aiohttp.client", "aiohttp.internal", "asyncio", "datasets.builder", "datasets.load", "datasets.utils.file_utils",
    "filelock", "fsspec", "fsspec.asyn", "fsspec.cached", "fsspec.caching", "fsspec.http", "httpcore.connection",
    "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore2.connection", "httpcore2.http11",
    "httpcore2.http2", "httpcore2.proxy", "httpx", "httpx2", "huggingface_hub.file_download",
    "huggingface_hub.hf_file_system", "huggingface_hub.utils._http", "s3fs", "urllib3.connectionpool",
    "urllib3.util.retry",
)  # fmt: skip
_known: dict[str, None] = {}


def printable(text: str) -> str:
    """Escape line breaks and all characters that a terminal would obey or that reorder text."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Make a caption or an article `printable` in one line; every run of whitespace becomes a space."""
    return printable(" ".join(text.split()))


def fold_name(name: str) -> str:
    """Return the form in which names of entities are compared: without case, and with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def redact(text: str) -> str:
    """Remove secrets from a message, and make each of its lines `printable`."""
    text = without_secrets(text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return "\n".join(map(printable, text.split("\n")))


def as_message(text: str) -> str:
    """Redact a message of this package, and escape its line breaks, except before an indented line.

    A message with a traceback keeps all its lines: a DataLoader raises an error again with the traceback of its worker.
    """
    text = redact(text)
    return text if "Traceback (most recent call last):\n" in text else re.sub(r"\n(?!  )", r"\\n", text)


def format_json(value: Any) -> str:
    """Format a value as JSON in lines for people: letters of all languages as they are, control characters escaped."""
    lines = json.dumps(value, indent=1, ensure_ascii=False).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escape, line)) for line in lines) + "\n"


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else json.dumps(character)[1:-1]


def without_secrets(text: str) -> str:
    """Remove everything from the URLs in a text that may be a password, a token or a signature."""
    if "://" in text:
        text = _URL.sub(lambda match: match[1] + _strip_url(match[2]), text)
    for secret, instead in _ELSEWHERE:
        text = secret.sub(instead, text)
    return text


def short_repr(value: object) -> str:
    """Return the `repr` of a value that a caller passed, without secrets and cut at 200 characters."""
    text = without_secrets(repr(value))
    return text if len(text) <= 200 else f"{text[:200]}..."


def format_html(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """Format a table for a notebook. All texts are escaped; numbers are aligned to the right."""

    def cell(text: str, scope: str = "") -> str:
        side = "right" if text[:1].isdigit() or text[:1] in ("+", "-") else "left"
        tag = "th" if scope else "td"
        scoped = f' scope="{scope}"' if scope else ""
        return f'<{tag}{scoped} style="text-align:{side};padding:2px 8px">{escape(printable(text))}</{tag}>'

    lines = [f"<tr>{cell(name, 'row')}{''.join(map(cell, cells))}</tr>" for name, *cells in rows]
    head = f"<tr>{''.join(cell(text, 'col') for text in header)}</tr>"
    caption = f'<caption style="text-align:left">{escape(printable(title))}</caption>' if title else ""
    body = f"<thead>{head}</thead><tbody>{''.join(lines)}</tbody>"
    return f'<table style="margin:0 0 16px">{caption}{body}</table>'


def format_page(title: str, generator: str, body: Iterable[str], style: str = "") -> str:
    """Format an HTML page of tables without scripts and other files, for wide and narrow screens.

    Args:
        title: its title.
        generator: the command that writes it, by which it is recognised.
        body: HTML, in lines. A table is in a div, which scrolls on a narrow screen, and nothing else does.
        style: CSS after that of all such pages.
    """
    common = (
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1f2328}"
        "h1{font-size:1.5rem;line-height:1.2}div{overflow-x:auto}"
        "table{border-collapse:collapse;width:100%}thead th{vertical-align:bottom;line-height:1.2}"
        "td,tbody th{vertical-align:top;font-weight:400}"
        "th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}"
    )
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta name="generator" content="{generator}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{common}{style}</style></head><body><main>",
        *body,
        "</main></body></html>",
    ]
    return "\n".join(lines) + "\n"


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Ask whether the closest known name was meant, as text after a space; "" if no name is close."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    name = name.lower()[:100]
    close = difflib.get_close_matches(name, by_lower, 1, likeness)
    if not close and len(name) > 2:  # the start of a name, such as val or merged
        close = [candidate for candidate in by_lower if candidate.startswith(name)]
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


_flag_joint: str | None = None  # between the words of a flag; None where options are Python arguments
_offers: Callable[[str, str | None], bool] | None = None  # as of `options_as_flags`


@contextlib.contextmanager
def options_as_flags(joint: str = "-", offers: Callable[[str, str | None], bool] | None = None) -> Iterator[None]:
    """Name options in messages as flags while the block runs: `--data-dir`, or with another joint `--data_dir`.

    Args:
        joint: between the words of a flag.
        offers: whether the command has an option, and takes a value for it; None: it has all.
    """
    global _flag_joint, _offers
    before = _flag_joint, _offers
    _flag_joint, _offers = joint, offers
    try:
        yield
    finally:
        _flag_joint, _offers = before


def is_offered(name: str, value: str | None = None) -> bool:
    """Whether a message may advise an option: the command that runs has it, and takes the value for it."""
    return _offers is None or _offers(name, value)


def option(name: str, value: str | bool | None = None) -> str:
    """Name an option in a message as its user writes it: `missing='null'`, on the command line `--missing null`."""
    if _flag_joint is None:
        return f"{name}=" if value is None else f"{name}={value!r}"
    flag = f"--{name.replace('_', _flag_joint)}"
    return flag if value is None or value is True else f"{flag} {value}"


def redacted_repr(value: Any) -> str:
    """Return the `repr` of an instance of a dataclass, with each field without secrets."""
    names = [field.name for field in dataclasses.fields(value) if field.repr]
    fields = (f"{name}={without_secrets(repr(getattr(value, name)))}" for name in names)
    return f"{type(value).__qualname__}({', '.join(fields)})"


def _strip_url(rest: str) -> str:
    """Remove userinfo, query and fragment from the part of a URL after `://`; keep punctuation after the URL."""
    _, rest = _split_login(rest)
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    end = _CLOSING.search(rest)
    return place + (end[0] if end and len(place) < len(rest) else "")


def _split_login(rest: str) -> tuple[str, str]:
    """Split the part of a URL after `://` into userinfo and the rest; a password may wrongly have `/`, `?` or `#`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, host = authority.rpartition("@")
    if at:
        return login, host + rest[len(authority) :]
    name, colon, port = authority.rpartition(":")
    host_and_port = port.isdecimal() and (re.search(r"[.\]]", name) or name == "localhost")
    if colon and not host_and_port and not authority.endswith("]") and "@" in rest:
        login, _, rest = rest.rpartition("@")
        return login, rest
    return "", rest


def remember_secrets(url: str) -> None:
    """Remove the secrets of this URL, in all their encodings, from all messages from now on."""
    for part_url in re.split(r"::(?=[A-Za-z][\w+.-]*:/)", url):
        login, rest = _split_login(part_url.partition("://")[2])
        user, colon, password = login.partition(":")
        parts = re.split(r"[/?#@\s]", password if colon else user)
        if login:
            parts += [password if colon else user, base64.b64encode(unquote(login).encode()).decode()]
        query = re.split(r"[?#]", rest, maxsplit=1)[1:]
        parts += query + [value for value in re.split(r"[&=#?]", "".join(query)) if len(value) >= 4 * _SHORTEST]
        for part in parts:
            _known.update(
                (form, None) for form in (part, unquote(part), quote(part, safe="")) if len(form) >= _SHORTEST
            )


def remember_token(token: str | None) -> None:
    """Remove this token from all messages and logs from now on, since a server may repeat it in an answer."""
    if token and len(token) >= _SHORTEST:
        _known[token] = None


def describe_error(cause: BaseException) -> str:
    """Describe a library's error in one line; a FileNotFoundError of fsspec is replaced by its cause."""
    for _ in range(9):
        cause = cause.__cause__ if isinstance(cause, FileNotFoundError) and cause.__cause__ is not None else cause
    return f"{type(cause).__name__}: {printable(' '.join(redact(str(cause)).split()))[:200]}"


class ForeignError(Exception):
    """Stands for a library's error in tracebacks, with its message but without secrets."""


def redact_error(error: BaseException, _depth: int = 0) -> ForeignError:
    """Make a `ForeignError` with the type and message of a library's error and of its causes, to raise errors from."""
    stand_in = ForeignError(f"{type(error).__name__}: {redact(str(error))[:_LONGEST]}")
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and _depth < 8:
        stand_in.__cause__ = redact_error(cause, _depth + 1)
    return stand_in


@functools.cache
def redact_logs() -> None:
    """Remove secrets from the logs of all libraries that read URLs, from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redact_record)


def _redact_record(record: logging.LogRecord) -> bool:
    """Filter log records: keep all, and remove secrets from them."""
    text, trace = record.getMessage(), record.exc_text or ""
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    if redact(text) != text or redact(trace) != trace:
        record.msg, record.args = redact(text), ()
        record.exc_info, record.exc_text = None, redact(trace) or None
    return True
