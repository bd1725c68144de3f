"""Where each input of a build comes from: below data_dir, where visual_news= points to, or the Hub."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _newsclippings.errors import ConfigError, DataNotFoundError, no_pictures, not_fetched
from _newsclippings.files import fingerprint, is_url
from _newsclippings.schema import (
    ENV_DATA_DIR,
    HUB_FILES,
    MATCHES_ROOTS,
    OUTLETS,
    SPLITS,
    VERSION,
    VISUAL_NEWS_ROOTS,
    VISUAL_NEWS_TREE,
)

_NO_EFFECT_ON_ROWS = {"cli.py", "hub.py", "infos.py", "preview.py", "sample.py"}


@dataclass(frozen=True)
class Sources:
    """Locations (local paths or URLs) of the inputs of one config.

    Attributes:
        config: name of the config.
        matches: split -> data/<config>/<split>.json.
        metadata: split -> metadata/<split>.json, for captions where there is no data.json.
        data_json: VisualNews data.json as a file; None where there is none (one may lie in the tar).
        pictures: folder `origin` or origin.tar that the pictures come from; None if there is neither.
        tar: origin.tar, also where the pictures come from the folder; None if there is none.
        looked: places where VisualNews was looked for, and whether something was there.
    """

    config: str
    matches: dict[str, str]
    metadata: dict[str, str]
    data_json: str | None
    pictures: str | None
    tar: str | None
    looked: tuple[tuple[str, bool], ...]

    def only(self, split: str) -> "Sources":
        """The sources of one split."""
        return replace(self, matches={split: self.matches[split]}, metadata={split: self.metadata[split]})

    def fetched(self, fetch: Callable[[str], str], metadata: bool) -> "Sources":
        """The same with local copies of what is remote.

        Args:
            fetch: URL -> local path of a copy.
            metadata: whether the metadata are needed, too.

        Raises:
            DataNotFoundError: a file could not be fetched.
        """

        def local(location: str) -> str:
            if not is_url(location):
                return location
            try:
                return fetch(location)
            except Exception as error:  # whatever the Hub client and the network raise
                raise not_fetched(location, error) from error

        return replace(
            self,
            matches={split: local(location) for split, location in self.matches.items()},
            metadata={split: local(location) if metadata else location for split, location in self.metadata.items()},
        )

    def require_pictures(self) -> None:
        """Raise `DataNotFoundError` if VisualNews is nowhere."""
        if self.pictures is None:
            raise no_pictures(self.looked)

    def key(self) -> str:
        """A digest of the content of all inputs and of the code that makes rows of them."""
        digest = hashlib.sha256(f"{VERSION} {code_digest()} {self.config}".encode())
        inputs = [*self.matches.values(), self.data_json, self.pictures, self.tar]
        if self.data_json is None:
            inputs += self.metadata.values()
        for location in inputs:
            digest.update(
                f"{location} {fingerprint(location) if location else ''}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()


def find_sources(
    config: str, splits: Sequence[str], data_dir: str | None = None, visual_news: str | None = None
) -> Sources:
    """Find the inputs of a config. Only looks whether files are there; opens and fetches nothing.

    Args:
        config: name of the config.
        splits: names of the splits that are asked for.
        data_dir: folder with the official tree; None for the environment variable NEWSCLIPPINGS_DATA_DIR, then the Hub.
        visual_news: folder `origin`, a folder that holds one, or an origin.tar; None to look below data_dir.

    Raises:
        DataNotFoundError: data_dir or visual_news does not exist, or holds nothing of the tree.
        ConfigError: they are URLs.
    """
    data_dir = data_dir or os.environ.get(ENV_DATA_DIR) or None
    for name, value in (("data_dir", data_dir), ("visual_news", visual_news)):
        if value is not None and is_url(value):
            message = f"{name}={value!r} is a URL; expected a local path. Download it first."
            raise ConfigError(message)
    data_dir = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
    if visual_news is not None:
        looked = _visual_news_at(os.path.abspath(os.path.expanduser(visual_news)))
    elif data_dir is not None:
        looked = [
            (f"{_join(data_dir, root)}/{name}") for root in VISUAL_NEWS_ROOTS for name in ("origin", "origin.tar")
        ]
    else:
        looked = []
    folders = [place for place in looked if os.path.isdir(place)]
    with_pictures = [f for f in folders if any(os.path.isdir(os.path.join(f, outlet)) for outlet in OUTLETS)]
    tar = next((place for place in looked if os.path.isfile(place)), None)
    records = [os.path.join(folder, "data.json") for folder in folders]
    if visual_news is not None and data_dir is not None:  # the tar elsewhere, data.json where it belongs
        records += [f"{_join(data_dir, root)}/origin/data.json" for root in VISUAL_NEWS_ROOTS]

    matches: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for split in splits:
        for kind, name in (
            (matches, f"data/{config}/{SPLITS[split]}.json"),
            (metadata, f"metadata/{SPLITS[split]}.json"),
        ):
            places = [f"{_join(data_dir, root)}/{name}" for root in MATCHES_ROOTS] if data_dir else []
            here = next((place for place in places if os.path.isfile(place)), None)
            kind[split] = here or f"{HUB_FILES}/{name}"
    data_json = next((place for place in records if os.path.isfile(place)), None)
    if data_dir is not None and not any([*folders, tar, data_json]) and all(map(is_url, [*matches.values()])):
        raise _nothing_there(data_dir)
    return Sources(
        config=config,
        matches=matches,
        metadata=metadata,
        data_json=data_json,
        pictures=with_pictures[0] if with_pictures else tar,
        tar=tar,
        looked=tuple((place, os.path.exists(place)) for place in looked)
        or (("data_dir= and visual_news= are not set, nor is the variable " + ENV_DATA_DIR, False),),
    )


def _join(folder: str, root: str) -> str:
    return f"{folder}/{root}" if root else folder


def _visual_news_at(path: str) -> list[str]:
    """What visual_news= may mean: a tar, the folder origin, or the folder around either."""
    if not os.path.exists(path):
        message = (
            f"visual_news={path!r} does not exist. Expected the folder origin of VisualNews or its origin.tar:\n"
            f"{VISUAL_NEWS_TREE}"
        )
        raise DataNotFoundError(message)
    if os.path.isfile(path):
        return [path, os.path.join(os.path.dirname(path), "origin")]
    inner = [os.path.join(path, name) for name in ("origin", "origin.tar")]
    return inner if any(map(os.path.exists, inner)) else [path]


def _nothing_there(data_dir: str) -> DataNotFoundError:
    if os.path.isdir(data_dir):
        names = sorted(entry.name for entry in os.scandir(data_dir))
        found = (
            f"a folder with {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "an empty folder"
        )
    else:
        found = "no such folder"
    return DataNotFoundError(
        f"data_dir={data_dir!r}: expected some of this tree, found {found}.\n{VISUAL_NEWS_TREE}\n"
        "  Correct the path, or leave data_dir out to fetch the matches from the Hub (images='none', or visual_news=)."
    )


@functools.cache
def code_digest() -> str:
    """A digest of the source code that makes rows."""
    folder = Path(__file__).parent
    files = [file for file in folder.glob("*.py") if file.name not in _NO_EFFECT_ON_ROWS]
    digest = hashlib.sha256()
    for file in [*sorted(files), folder.parent / "newsclippings.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
