"""What a user passes to reach remote files: options of fsspec's clients, and a token of the Hub."""

import uuid
from collections.abc import Mapping
from typing import Any

from _newsclippings.errors import ConfigError
from _newsclippings.facts import HUB_FILES
from _newsclippings.text import option, remember_secrets, remember_token

_HARMLESS = ("endpoint_url", "region_name", "project", "protocol")  # options that messages may show
_KNOWN: dict[str, "Access"] = {}  # handle -> access, of this process; a forked worker has them too


class Access:
    """The user's `storage_options` and `token`.

    They stay in this process and in those that it forks: a pickle holds only a handle, without any of them.
    """

    def __init__(self, storage_options: Mapping[str, Any] | None = None, token: str | bool | None = None) -> None:
        """Remember all values as secrets, which no message shows.

        Args:
            storage_options: arguments of fsspec's file system for the locations that the user passes, as in
                `fsspec.open`. A key that is the name of a protocol (`s3`, `https`, `hf`, ...) holds the arguments of
                that protocol.
            token: of the Hub, for all `hf://` locations. None or True: that of HF_TOKEN or the login; False: none.

        Raises:
            ConfigError: a value has another type.
        """
        if storage_options is not None and not (
            isinstance(storage_options, Mapping) and all(isinstance(key, str) for key in storage_options)
        ):
            wrong = isinstance(storage_options, Mapping)
            found = "has a name that is no text" if wrong else f"is {type(storage_options).__name__}"
            message = f"{option('storage_options')} {found}; expected a dict of fsspec's options by their names."
            raise ConfigError(message)
        if token is not None and not isinstance(token, str | bool):
            message = f"{option('token')} is {type(token).__name__}; expected the text of a token of the Hub."
            raise ConfigError(message)
        self._options = dict(storage_options or {})
        self._token = token
        self._lost = False
        self._handle = ""
        if self:
            self._handle = uuid.uuid4().hex
            _KNOWN[self._handle] = self
        remember_token(token if isinstance(token, str) else None)
        _remember(self._options)

    def __bool__(self) -> bool:
        return bool(self._options or self._token or self._token is False or self._lost)

    def __repr__(self) -> str:
        return "Access(...)" if self else "Access()"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_find, (self._handle,)) if self._handle else (Access, ())

    def options_of(self, protocol: str, url: str) -> dict[str, Any]:
        """Return the arguments of fsspec's file system for one protocol of a URL.

        Args:
            protocol: of the URL or, if it is a chain (`zip://x::https://y`), of one of its parts.
            url: the URL. The authors' files on the Hub are read without options that are not named `hf`.

        Raises:
            ConfigError: this process never got the options, since it was not forked from the one that did.
        """
        if self._lost:
            message = (
                "storage_options= and token= are kept out of pickles, and this process was not forked from the one "
                "that has them. Use workers that are forked, or set HF_TOKEN and fsspec's configuration files, which "
                "every process reads."
            )
            raise ConfigError(message)
        first = url.startswith(f"{protocol}://") and not url.startswith(HUB_FILES)
        options = {key: value for key, value in self._options.items() if first and not _is_protocol(key)}
        options |= dict(self._options.get(protocol) or {})
        if protocol == "hf" and isinstance(self._token, str | bool) and self._token is not True:
            options.setdefault("token", self._token or False)
        return options


def _find(handle: str) -> Access:
    known = _KNOWN.get(handle)
    if known is None:
        known = Access()
        known._lost, known._handle = True, handle
    return known


def _is_protocol(key: str) -> bool:
    from fsspec import available_protocols

    return key in available_protocols()


def _remember(value: Any, key: str = "") -> None:
    """Remove the texts of an option from all messages, unless they are harmless."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _remember(inner, str(name))
    elif isinstance(value, list | tuple | set):
        for inner in value:
            _remember(inner, key)
    elif isinstance(value, str) and "://" in value:
        remember_secrets(value)
    elif isinstance(value, str) and key not in _HARMLESS and len(value) >= 8:
        remember_token(value)


NO_ACCESS = Access()
