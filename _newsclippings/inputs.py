"""Where each input of a build comes from: below data_dir, where visual_news= points to, or the Hub."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError
from _newsclippings.facts import (
    EMBEDDINGS,
    ENV_DATA_DIR,
    HUB_FILES,
    MATCHES_ROOTS,
    OUTLETS,
    SPLITS,
    VERSION,
    VISUAL_NEWS_ROOTS,
    VISUAL_NEWS_TREE,
    VISUAL_NEWS_URL,
)
from _newsclippings.storage import check_accessible, identify, is_url
from _newsclippings.text import redacted_repr, without_secrets

_AS_BYTES = ("utf-8", "surrogateescape")  # paths may hold bytes that are no text
_NAMES = ("origin", "origin.tar")  # of VisualNews, extracted or not


@dataclass(frozen=True)
class Inputs:
    """Locations (local paths or URLs) of the inputs of one config, found once and handed on.

    Attributes:
        config: name of the config.
        matches: split -> data/<config>/<split>.json.
        metadata: split -> metadata/<split>.json, for captions where there is no data.json.
        data_json: VisualNews data.json as a file; None where there is none (one may lie in the tar).
        pictures: folder `origin` or origin.tar that the pictures come from; None if there is neither.
        tar: origin.tar, also where the pictures come from the folder; None if there is none.
        tar_index: index of the tar as Parquet; None to walk its headers.
        embeddings: kind -> split -> pickle, of the kinds that are asked for.
        looked: places where VisualNews was looked for, and what was there, in words.
        fetched_before: whether what is needed of a remote tar is fetched before rows are made, and kept.
        roots: folders in which the files of the authors are looked for; nothing else is in them.
        identities: location -> what `identity` gave for it.
    """

    config: str
    matches: dict[str, str]
    metadata: dict[str, str]
    data_json: str | None
    pictures: str | None
    tar: str | None
    tar_index: str | None
    embeddings: dict[str, dict[str, str]]
    looked: tuple[tuple[str, str], ...]
    fetched_before: bool = False
    roots: tuple[str, ...] = ()
    identities: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return redacted_repr(self)

    def places(self) -> list[str]:
        """Local files and folders that are inputs, or would be if they were there: nothing is to be written there."""
        files = [*self.matches.values(), *self.metadata.values(), self.data_json, self.pictures, self.tar]
        files += [self.tar_index, *(file for by_split in self.embeddings.values() for file in by_split.values())]
        files += [*(place for place, _ in self.looked), *self.roots]
        return [file for file in dict.fromkeys(files) if file and os.path.isabs(file)]

    def only(self, split: str) -> "Inputs":
        """The inputs of one split."""
        return replace(
            self,
            matches={split: self.matches[split]},
            metadata={split: self.metadata[split]},
            embeddings={kind: {split: files[split]} for kind, files in self.embeddings.items()},
        )

    def require_pictures(self) -> None:
        """Raise `DataNotFoundError` if VisualNews is nowhere."""
        if self.pictures is None:
            raise _no_pictures(self.looked)

    def identity(self, location: str) -> str:
        """What changes when the content of an input does (see `storage.identify`); each input is asked once."""
        if location not in self.identities:
            self.identities[location] = identify(location)
        return self.identities[location]

    def digest(self, config: Request) -> str:
        """A digest of the content of all inputs that a build reads, and of `VERSION`. Single pictures do not count."""
        lines = [f"{place} {self.identity(place) if place else ''}\n" for place in self._read_by(config)]
        return hashlib.sha256(f"{VERSION} {self.config}{''.join(lines)}".encode(*_AS_BYTES)).hexdigest()

    def check_unchanged(self, config: Request) -> None:
        """Raise `BadFileError` if an input that a build reads is not what it was when its identity was asked first."""
        if replace(self, identities={}).digest(config) != self.digest(config):
            raise changed_inputs(self.config)

    def check_same(self, *locations: str) -> None:
        """The same of some of them."""
        if any(identify(location) != self.identity(location) for location in locations):
            raise changed_inputs(self.config)

    def _read_by(self, config: Request) -> list[str | None]:
        """The inputs that a build of a config reads, each once."""
        read = [*self.matches.values(), self.data_json]
        read += [file for files in self.embeddings.values() for file in files.values()]
        if self.data_json is None:
            read.append(self.tar)
        if self.data_json is None or config.metadata:
            read += self.metadata.values()
        if config.images != "none" or config.articles:
            read.append(self.pictures)
        if self.tar in read:
            read.append(self.tar_index)
        return [*dict.fromkeys(read)]


def inputs_of(config: Request) -> Inputs:
    """Where the inputs of a config are; see `find_inputs`."""
    kinds = config.wanted_embeddings()
    return find_inputs(config.name, config.wanted_splits(), embeddings=kinds, **config.paths())


def build_id(config: Request, inputs: Inputs) -> str:
    """Identifies a build, by its options, its inputs and `VERSION`: equal digests mean equal rows."""
    options = {
        "images": config.images,
        "missing": config.missing,
        "splits": config.wanted_splits(),
        "embeddings": config.wanted_embeddings(),
        "metadata": config.metadata,
        "articles": config.articles,
        "check_images": config.check_images,
        "inputs": inputs.digest(config),
    }
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def find_inputs(
    config: str,
    splits: Sequence[str],
    data_dir: str | None = None,
    visual_news: str | None = None,
    embeddings: Sequence[str] = (),
    visual_news_index: str | None = None,
    odd: Callable[[DataNotFoundError], None] | None = None,
) -> Inputs:
    """Find the inputs of a config. Only looks whether files are there; opens and fetches nothing.

    Args:
        config: name of the config.
        splits: names of the splits that are asked for.
        data_dir: folder with the official tree; None for the environment variable NEWSCLIPPINGS_DATA_DIR, then the Hub.
        visual_news: folder `origin`, a folder that holds one, or an origin.tar, which may be remote; None to look below
            data_dir.
        embeddings: kinds of embeddings that are asked for.
        visual_news_index: index of the tar, a file or a URL.
        odd: what to do about something that is no file where one should be, before looking elsewhere. Unset: raise it.

    Raises:
        DataNotFoundError: data_dir, visual_news or visual_news_index does not exist, or holds nothing of the tree.
        ConfigError: data_dir is a URL, or there is an index and no tar.
    """
    odd = odd or _refuse
    given_by = f"{ENV_DATA_DIR}=" if not data_dir and os.environ.get(ENV_DATA_DIR) else "data_dir="
    data_dir = data_dir or os.environ.get(ENV_DATA_DIR) or None
    if data_dir is not None and is_url(data_dir):
        shown = without_secrets(data_dir)
        message = f"{given_by}{shown!r} is a URL; expected a local path. Only visual_news may be remote."
        raise ConfigError(message)
    data_dir, visual_news, visual_news_index = map(_absolute, (data_dir, visual_news, visual_news_index))
    below = [f"{_join(data_dir, root)}/{name}" for root in VISUAL_NEWS_ROOTS for name in _NAMES] if data_dir else []
    looked = below if visual_news is None else _visual_news_at(visual_news)
    folders = [place for place in looked if os.path.isdir(place)]
    remote = visual_news if visual_news is not None and is_url(visual_news) else None
    tar = remote or _first_file([place for place in looked if place not in folders], odd)
    if visual_news_index is not None and tar is None:
        shown = without_secrets(visual_news_index)
        message = f"visual_news_index={shown!r} is the index of a tar; expected visual_news= to be that tar."
        raise ConfigError(message)
    if visual_news_index is not None and not is_url(visual_news_index) and not os.path.isfile(visual_news_index):
        message = f"visual_news_index={visual_news_index!r}: expected a file, found none. Correct the path."
        raise DataNotFoundError(message)
    with_pictures = [f for f in folders if any(os.path.isdir(os.path.join(f, outlet)) for outlet in OUTLETS)]
    places = folders if visual_news is None else [*folders, *(f for f in below if os.path.isdir(f))]
    if tar is not None and visual_news == tar and not remote:  # data.json may have been extracted beside it
        places.append(os.path.join(os.path.dirname(tar), "origin"))
    data_json = _first_file([os.path.join(folder, "data.json") for folder in places], odd)

    def of_authors(*names: str) -> str:
        """A file of the authors: below data_dir under any of its names, else on the Hub under the first."""
        roots = [_join(data_dir, root) for root in MATCHES_ROOTS] if data_dir else []
        return _first_file([f"{root}/{name}" for name in names for root in roots], odd) or f"{HUB_FILES}/{names[0]}"

    matches = {split: of_authors(f"data/{config}/{SPLITS[split]}.json") for split in splits}
    if data_dir is not None and not any([*folders, tar, data_json]) and all(map(is_url, matches.values())):
        raise _nothing_there(given_by, data_dir)
    return Inputs(
        config=config,
        matches=matches,
        metadata={split: of_authors(f"metadata/{SPLITS[split]}.json") for split in splits},
        data_json=data_json,
        pictures=with_pictures[0] if with_pictures else tar,
        tar=tar,
        tar_index=visual_news_index,
        embeddings={
            kind: {
                split: of_authors(
                    f"embeddings/{EMBEDDINGS[kind].folder}/{EMBEDDINGS[kind].folder}_{SPLITS[split]}.pkl",
                    f"embeddings/{EMBEDDINGS[kind].folder}/{SPLITS[split]}.pkl",  # as the authors' README has it
                )
                for split in splits
            }
            for kind in embeddings
        },
        looked=tuple((place, _state(place)) for place in looked)
        or (("data_dir= and visual_news=, and the variable " + ENV_DATA_DIR, "not set"),),
        roots=tuple(_join(data_dir, root) for root in MATCHES_ROOTS if root) if data_dir else (),
    )


def _absolute(path: str | None) -> str | None:
    """A path as an absolute one; URLs as they are, and nothing for an empty string."""
    return path if path is None or is_url(path) else os.path.abspath(os.path.expanduser(path)) if path else None


def _refuse(error: DataNotFoundError) -> None:
    raise error


def _first_file(places: Sequence[str], odd: Callable[[DataNotFoundError], None]) -> str | None:
    """The first of some places where there is a file; something else there is no reason to look elsewhere."""
    for place in places:
        if os.path.isfile(place):
            return place
        try:
            check_accessible(place)
        except DataNotFoundError as error:
            odd(error)
        if os.path.lexists(place):
            found = "a folder" if os.path.isdir(place) else "a link that leads nowhere, or no plain file"
            message = f"{place}: expected a file, found {found}. Put the file there, or remove what is in its place."
            odd(DataNotFoundError(message))
    return None


def _state(place: str) -> str:
    """What is at a place where pictures were looked for, in words."""
    if is_url(place):
        return "not asked yet"
    if os.path.isdir(place):
        return f"a folder without {', '.join(OUTLETS)}"
    return "found" if os.path.exists(place) else "missing"


def _join(folder: str, root: str) -> str:
    return f"{folder}/{root}" if root else folder


def _visual_news_at(path: str) -> list[str]:
    """What visual_news= may mean: a tar, the folder origin, or the folder around either; a URL is that of a tar."""
    if is_url(path):
        return [path]
    check_accessible(path)
    if not os.path.exists(path):
        message = (
            f"visual_news={path!r} does not exist. Expected the folder origin of VisualNews or its origin.tar:\n"
            f"{VISUAL_NEWS_TREE}"
        )
        raise DataNotFoundError(message)
    inner = [os.path.join(path, name) for name in _NAMES]
    return inner if any(map(os.path.exists, inner)) else [path]


def _nothing_there(given_by: str, data_dir: str) -> DataNotFoundError:
    do = "Correct the path, or leave data_dir out to fetch the matches from the Hub (images='none', or visual_news=)."
    if os.path.isdir(data_dir):
        names = sorted(entry.name for entry in os.scandir(data_dir))
        found = (
            f"a folder with {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "an empty folder"
        )
    elif os.path.exists(data_dir):
        found, do = "a file", "Pass the folder that holds visual_news/; a tar goes into visual_news=."
    else:
        found = "no such folder"
    return DataNotFoundError(
        f"{given_by}{data_dir!r}: expected some of this tree, found {found}.\n{VISUAL_NEWS_TREE}\n  {do}"
    )


def _no_pictures(looked: Sequence[tuple[str, str]]) -> DataNotFoundError:
    found = "\n".join(f"    {place}: {state}" for place, state in looked)
    return DataNotFoundError(
        "The pictures of VisualNews were not found (nor its articles), and they cannot be downloaded for you.\n"
        f"  Expected:\n{VISUAL_NEWS_TREE}\n"
        f"  Looked for:\n{found}\n"
        f"  Ask its authors for VisualNews (a 98 GB tar; there is no need to extract it): {VISUAL_NEWS_URL}\n"
        "  Then pass visual_news='/path/to/origin.tar' (or the folder), or put it where it was looked for.\n"
        "  Without pictures: images='none' builds every other column."
    )


def changed_inputs(config: str) -> BadFileError:
    """The error of input files that are not what they were when a build began."""
    return BadFileError(
        f"{config}: one of the input files changed since the build began. Nothing was kept: load again when nothing "
        "writes to them."
    )
