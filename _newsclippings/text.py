"""Text that others wrote (files, servers, libraries), made fit for messages: no control characters, no secrets."""

import base64
import dataclasses
import difflib
import functools
import json
import logging
import re
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
_LONGEST = 2000  # characters of an error of another library
_SHORTEST = 4  # characters of a known secret that is looked for in any text: shorter ones are words

# A URL, up to a blank or the next URL (`zip://x::https://...`). A `file://` names no secrets, and `#`, `?` and `@` are
# plain characters in it. Repetitions are bounded, so that no text takes long.
_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])(?!(?:file|local)://)([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(\S*?)(?=[:,;'\"<>|(){}\[\]]{1,3}[A-Za-z][\w+.-]{0,20}:/|\s|\Z)"
)
_CLOSING = re.compile(r"[)\]}>'\",.:;!]*\Z")  # of the sentence around a URL
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
_LOGGERS = (  # of all that may read a URL
    "aiohttp.client", "aiohttp.internal", "asyncio", "datasets.builder", "datasets.load", "datasets.utils.file_utils",
    "filelock", "fsspec", "fsspec.asyn", "fsspec.cached", "fsspec.caching", "fsspec.http", "httpcore.connection",
    "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore2.connection", "httpcore2.http11",
    "httpcore2.http2", "httpcore2.proxy", "httpx", "httpx2", "huggingface_hub.file_download",
    "huggingface_hub.hf_file_system", "huggingface_hub.utils._http", "s3fs", "urllib3.connectionpool",
    "urllib3.util.retry",
)  # fmt: skip
_known: dict[str, None] = {}


def printable(text: str) -> str:
    """A text for people to read, in one line: what a terminal would obey, or reorder, is shown as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """A caption or an article for people to read: blanks of all kinds are spaces, and the rest `printable`."""
    return printable(" ".join(text.split()))


def harmless(text: str) -> str:
    """A message of any number of lines, each `printable`, without secrets."""
    text = without_secrets(text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return "\n".join(map(printable, text.split("\n")))


def as_message(text: str) -> str:
    """A message of this package, with foreign text in it: `harmless`, with line breaks only before an indent.

    Line breaks of a traceback stay: a DataLoader raises an error again with its worker's traceback as the message.
    """
    text = harmless(text)
    return text if "Traceback (most recent call last):\n" in text else re.sub(r"\n(?!  )", r"\\n", text)


def json_text(value: Any) -> str:
    """A value as JSON in lines, for files that people look at: letters of all languages, the rest as escapes."""
    lines = json.dumps(value, indent=1, ensure_ascii=False).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines) + "\n"


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else json.dumps(character)[1:-1]


def without_secrets(text: str) -> str:
    """A URL, or a text with URLs, without what may be a password, a token or a signature in them."""
    if "://" in text:
        text = _URL.sub(lambda found: found[1] + _bare(found[2]), text)
    for secret, instead in _ELSEWHERE:
        text = secret.sub(instead, text)
    return text


def shown(value: object) -> str:
    """A value that somebody passed, as Python writes it, without secrets and of 200 characters at most."""
    text = without_secrets(repr(value))
    return text if len(text) <= 200 else f"{text[:200]}..."


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A question with the known name that is closest, with a space before it; "" if none is close."""
    by_lower = {one.lower(): one for one in known}
    name = name.lower()[:100]
    close = difflib.get_close_matches(name, by_lower, 1, likeness)
    if not close and len(name) > 2:  # a name that was cut short, such as val or merged
        close = [one for one in by_lower if one.startswith(name)]
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def as_repr(value: Any) -> str:
    """An instance of a dataclass as `dataclasses` writes it, each field without secrets."""
    fields = (f"{one.name}={without_secrets(repr(getattr(value, one.name)))}" for one in dataclasses.fields(value))
    return f"{type(value).__qualname__}({', '.join(fields)})"


def _bare(rest: str) -> str:
    """What follows `://` of a URL, without userinfo, query and fragment; marks of the sentence around it stay."""
    _, rest = _login_of(rest)
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    end = _CLOSING.search(rest)
    return place + (end[0] if end and len(place) < len(rest) else "")


def _login_of(rest: str) -> tuple[str, str]:
    """Userinfo of what follows `://`, and the remainder. A password may hold `/`, `?` or `#`, which it should not."""
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
    """Keep the secrets of a URL that is used, or of a proxy, out of every message, whoever repeats them in any form."""
    for one in re.split(r"::(?=[A-Za-z][\w+.-]*:/)", url):
        login, rest = _login_of(one.partition("://")[2])
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
    """Keep a token out of every message and log: a server may answer with what it was sent."""
    if token and len(token) >= _SHORTEST:
        _known[token] = None


def in_words(cause: BaseException) -> str:
    """The error of another library in one line; fsspec hides what happened behind a FileNotFoundError."""
    for _ in range(9):
        cause = cause.__cause__ if isinstance(cause, FileNotFoundError) and cause.__cause__ is not None else cause
    return f"{type(cause).__name__}: {printable(' '.join(harmless(str(cause)).split()))[:200]}"


class ForeignError(Exception):
    """Stands in for the error of another library in tracebacks: its type and text, without secrets."""


def cleaned(error: BaseException, _depth: int = 0) -> ForeignError:
    """A stand-in for the error of another library, to raise an error from: type and text of it and of its causes."""
    stand_in = ForeignError(f"{type(error).__name__}: {harmless(str(error))[:_LONGEST]}")
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and _depth < 8:
        stand_in.__cause__ = cleaned(cause, _depth + 1)
    return stand_in


@functools.cache
def hide_in_logs() -> None:
    """Take secrets out of what the libraries that read URLs log from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide)


def _hide(record: logging.LogRecord) -> bool:
    """A filter that keeps every record, and changes those with a secret in them."""
    text, trace = record.getMessage(), record.exc_text or ""
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    if harmless(text) != text or harmless(trace) != trace:
        record.msg, record.args = harmless(text), ()
        record.exc_info, record.exc_text = None, harmless(trace) or None
    return True
