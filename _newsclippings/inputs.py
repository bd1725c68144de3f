"""Find each input of a config: below data_dir, where visual_news= points to, or on the Hub."""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError
from _newsclippings.facts import (
    EMBEDDINGS,
    ENV_DATA_DIR,
    FULL,
    HUB_FILES,
    MATCHES_ROOTS,
    OUTLETS,
    SPLITS,
    VERSION,
    VISUAL_NEWS_ROOTS,
    VISUAL_NEWS_TREE,
    VISUAL_NEWS_URL,
)
from _newsclippings.storage import check_accessible, identify, is_url, stamp
from _newsclippings.text import option, redacted_repr, without_secrets

_NAMES = ("origin", "origin.tar")  # of VisualNews, extracted and not
_ARTICLES = ("articles", "articles.tar")  # the original articles, beside it
_PACKED = ("articles.tar.gz", "articles.tgz")  # as the authors give them


@dataclass(frozen=True)
class Inputs:
    """Locations (local paths or URLs) of the inputs of one config. They are found once and handed on.

    Attributes:
        config: name of the config.
        matches: split -> data/<config>/<split>.json.
        metadata: split -> metadata/<split>.json; captions come from it if there is no data.json.
        data_json: data.json of VisualNews as a file; None if there is none. It may also be in the tar.
        pictures: the folder `origin` or the origin.tar that pictures come from; None if there is neither.
        tar: origin.tar, even if pictures come from the folder; None if there is none.
        tar_index: index of the tar as Parquet; None to walk its headers.
        embeddings: kind -> split -> pickle, for the kinds that are asked for.
        searched: (place, what is there) for each place where VisualNews was looked for.
        full_articles: the folder `articles` or the articles.tar with the original articles; None if there is neither,
            or if they are not asked for.
        full_searched: places where they were looked for.
        prefetch: whether the needed files of a remote tar are fetched before rows are made, and kept.
        roots: folders for the authors' files, with nothing else in them.
        identities: location -> its `identity`, as far as it was computed.
        stamps: location -> its `storage.stamp` just before that.
    """

    config: str
    matches: dict[str, str]
    metadata: dict[str, str]
    data_json: str | None
    pictures: str | None
    tar: str | None
    tar_index: str | None
    embeddings: dict[str, dict[str, str]]
    searched: tuple[tuple[str, str], ...]
    full_articles: str | None = None
    full_searched: tuple[str, ...] = ()
    prefetch: bool = False
    roots: tuple[str, ...] = ()
    identities: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    stamps: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return redacted_repr(self)

    def list_places(self) -> list[str]:
        """List the local files and folders that are inputs, or would be if they existed. No output may be there."""
        files = [*self.matches.values(), *self.metadata.values(), self.data_json, self.pictures, self.tar]
        files += [self.full_articles, *self.full_searched]
        files += [self.tar_index, *(file for by_split in self.embeddings.values() for file in by_split.values())]
        files += [*(place for place, _ in self.searched), *self.roots]
        return [file for file in dict.fromkeys(files) if file and os.path.isabs(file)]

    def list_read(self, config: Request) -> list[str]:
        """List the inputs that a build of a config reads, each once. A folder stands for all of its pictures."""
        return [place for place in self._places_read(config) if place]

    def take_split(self, split: str) -> "Inputs":
        """Return the inputs of one split."""
        return replace(
            self,
            matches={split: self.matches[split]},
            metadata={split: self.metadata[split]},
            embeddings={kind: {split: files[split]} for kind, files in self.embeddings.items()},
        )

    def require_pictures(self) -> None:
        """Raise `DataNotFoundError` if VisualNews was not found."""
        if self.pictures is None:
            raise _no_pictures(self.searched)

    def require_visual_news(self, config: Request) -> None:
        """Raise `DataNotFoundError` if files of VisualNews that a config needs were not found."""
        if config.needs_origin:
            self.require_pictures()
        if config.articles == FULL and self.full_articles is None:
            raise _no_full_articles(self.full_searched)

    def identity(self, location: str) -> str:
        """Identify the content of an input (see `storage.identify`). Each input is asked once."""
        if location not in self.identities:
            self.stamps[location] = stamp(location)
            known = is_url(location)  # by the same request
            self.identities[location] = self.stamps[location] if known else identify(location, location != self.tar)
        return self.identities[location]

    def stamp(self, location: str) -> str:
        """Return the stamp of an input when its identity was first computed; see `storage.stamp`."""
        self.identity(location)
        return self.stamps[location]

    def check_unchanged(self, locations: Iterable[str]) -> None:
        """Raise `BadFileError` if one of these inputs was touched since its identity was first computed."""
        if any(stamp(location) != self.stamp(location) for location in locations):
            raise changed_inputs(self.config)

    def _places_read(self, config: Request) -> list[str | None]:
        places = [*self.matches.values(), self.data_json]
        places += [file for files in self.embeddings.values() for file in files.values()]
        if self.data_json is None:
            places.append(self.tar)
        if self.data_json is None or config.needs_metadata:
            places += self.metadata.values()
        if config.needs_origin:
            places.append(self.pictures)
        if config.articles == FULL:
            places.append(self.full_articles)
        if self.tar in places:
            places.append(self.tar_index)
        return [*dict.fromkeys(places)]


def build_id(config: Request, inputs: Inputs) -> str:
    """Identify a build by its options, its inputs and `VERSION`: equal ids mean equal rows.

    Inputs count by their content, wherever they are. A folder of pictures has too many: the builder compares them when
    they are needed. It counts by its path if that is in the rows.
    """
    no_paths = inputs.pictures if config.images != "path" and os.path.isdir(inputs.pictures or "") else None
    places = [place if place != no_paths else None for place in inputs._places_read(config)]
    lines = [f"{inputs.identity(place) if place else ''}\n" for place in places]
    content = f"{VERSION} {inputs.config}{''.join(lines)}".encode()
    options = {
        "images": config.images,
        "missing": config.missing,
        "splits": config.wanted_splits(),
        "embeddings": config.wanted_embeddings(),
        "metadata": config.metadata,
        "articles": config.articles,
        "check_images": config.check_images,
        "inputs": hashlib.sha256(content).hexdigest(),
    }
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def find_inputs(config: Request, on_misplaced: Callable[[str, DataNotFoundError], None] | None = None) -> Inputs:
    """Find the inputs of a config. Only checks whether files exist; opens and fetches nothing.

    Args:
        config: what is asked for.
        on_misplaced: called with the place and the error if something else is in the place of a file; other places
            are searched then. Unset: the error is raised.

    Raises:
        DataNotFoundError: data_dir, visual_news or visual_news_index does not exist, or holds nothing of the tree.
        ConfigError: data_dir is a URL, or there is an index but no tar.
    """
    on_misplaced = on_misplaced or _refuse
    splits, paths = config.wanted_splits(), config.paths()
    data_dir, visual_news, visual_news_index = (
        paths[name] for name in ("data_dir", "visual_news", "visual_news_index")
    )
    data_dir = data_dir or os.environ.get(ENV_DATA_DIR) or None

    def name_data_dir(place: str) -> str:
        return option("data_dir", place) if paths["data_dir"] else f"{ENV_DATA_DIR}={place!r}"

    if data_dir is not None and is_url(data_dir):
        given = name_data_dir(without_secrets(data_dir))
        message = f"{given} is a URL; expected a local path. Only visual_news may be remote."
        raise ConfigError(message)
    data_dir, visual_news, visual_news_index = map(_absolute, (data_dir, visual_news, visual_news_index))
    below = [f"{_join(data_dir, root)}/{name}" for root in VISUAL_NEWS_ROOTS for name in _NAMES] if data_dir else []
    searched = below if visual_news is None else _expand_visual_news(visual_news)
    folders = [place for place in searched if os.path.isdir(place)]
    remote = visual_news if visual_news is not None and is_url(visual_news) else None
    tar = remote or _find_file([place for place in searched if place not in folders], on_misplaced)
    if visual_news_index is not None and tar is None:
        given = option("visual_news_index", without_secrets(visual_news_index))
        message = f"{given} is the index of a tar, but no tar was found. Pass {option('visual_news')} as well."
        raise ConfigError(message)
    if visual_news_index is not None and not is_url(visual_news_index) and not os.path.isfile(visual_news_index):
        message = f"{option('visual_news_index', visual_news_index)} is not a file. Correct the path."
        raise DataNotFoundError(message)
    with_pictures = [f for f in folders if any(os.path.isdir(os.path.join(f, outlet)) for outlet in OUTLETS)]
    places = folders if visual_news is None else [*folders, *(f for f in below if os.path.isdir(f))]
    if tar is not None and visual_news == tar and not remote:  # data.json may be extracted beside it
        places.append(os.path.join(os.path.dirname(tar), "origin"))
    data_json = _find_file([os.path.join(folder, "data.json") for folder in places], on_misplaced)

    full_searched = _list_full_articles(data_dir, visual_news) if config.articles == FULL else []

    def find_authors_file(*names: str) -> str:
        """Find a file below data_dir under any of its names, else on the Hub under the first."""
        roots = [_join(data_dir, root) for root in MATCHES_ROOTS] if data_dir else []
        local = _find_file([f"{root}/{name}" for name in names for root in roots], on_misplaced)
        return local or f"{HUB_FILES}/{names[0]}"

    matches = {split: find_authors_file(f"data/{config.name}/{SPLITS[split]}.json") for split in splits}
    if data_dir is not None and not any([*folders, tar, data_json]) and all(map(is_url, matches.values())):
        raise _nothing_there(name_data_dir(data_dir), data_dir)
    return Inputs(
        config=config.name,
        matches=matches,
        metadata={split: find_authors_file(f"metadata/{SPLITS[split]}.json") for split in splits},
        data_json=data_json,
        pictures=with_pictures[0] if with_pictures else tar,
        tar=tar,
        tar_index=visual_news_index,
        embeddings={
            kind: {
                split: find_authors_file(
                    f"embeddings/{EMBEDDINGS[kind].folder}/{EMBEDDINGS[kind].folder}_{SPLITS[split]}.pkl",
                    f"embeddings/{EMBEDDINGS[kind].folder}/{SPLITS[split]}.pkl",  # as in the authors' README
                )
                for split in splits
            }
            for kind in config.wanted_embeddings()
        },
        searched=tuple((place, _describe(place)) for place in searched)
        or ((f"{option('data_dir')} and {option('visual_news')}, and the variable {ENV_DATA_DIR}", "not set"),),
        full_articles=_find_full_articles(full_searched, on_misplaced),
        full_searched=tuple(full_searched),
        roots=tuple(_join(data_dir, root) for root in MATCHES_ROOTS if root) if data_dir else (),
    )


def find_full_matches(config: Request) -> list[str]:
    """List the files data/full/<split>.json below data_dir. The authors' repository has one, which is no config."""
    data_dir = _absolute(config.paths()["data_dir"] or os.environ.get(ENV_DATA_DIR) or None)
    roots = [_join(data_dir, root) for root in MATCHES_ROOTS] if data_dir else []
    places = [f"{root}/data/full/{name}.json" for root in roots for name in SPLITS.values()]
    return [place for place in places if os.path.isfile(place)]


def _list_full_articles(data_dir: str | None, visual_news: str | None) -> list[str]:
    """List the places where the original articles may be: below data_dir, in the folder visual_news=, or beside it."""
    folders = [_join(data_dir, root) for root in VISUAL_NEWS_ROOTS] if data_dir else []
    if visual_news is not None and not is_url(visual_news):
        folders = [visual_news, os.path.dirname(visual_news), *folders]
    return [os.path.join(folder, name) for folder in dict.fromkeys(folders) for name in _ARTICLES]


def _find_full_articles(searched: Sequence[str], on_misplaced: Callable[[str, DataNotFoundError], None]) -> str | None:
    """Return the first of these places that has the original articles: a folder, or a tar that is not compressed."""
    for place in searched:
        if os.path.isdir(place) and os.path.basename(place) == _ARTICLES[0]:
            return place
    return _find_file([place for place in searched if place.endswith(".tar")], on_misplaced)


def _no_full_articles(searched: Sequence[str]) -> DataNotFoundError:
    folders = dict.fromkeys(map(os.path.dirname, searched))
    packed = [place for folder in folders for name in _PACKED if os.path.isfile(place := os.path.join(folder, name))]
    if packed:
        return DataNotFoundError(
            f"{packed[0]} is compressed, and its files cannot be read at a position. Decompress it once, without "
            f"unpacking the tar in it: gunzip --keep {shlex.quote(packed[0])}"
        )
    unset = f" nowhere: {option('data_dir')} and a local {option('visual_news')} are not set"
    places = "".join(f"\n    {place}" for place in searched) or unset
    return DataNotFoundError(
        "The original articles of VisualNews were not found. They cannot be downloaded automatically.\n"
        f"  Searched:{places}\n"
        f"  Ask its authors for articles.tar.gz, and decompress it once with gunzip: {VISUAL_NEWS_URL}\n"
        f"  Their texts alone, as in origin.tar: {option('articles', True)}."
    )


def _absolute(path: str | None) -> str | None:
    """Make a path absolute; return a URL as it is, and None for an empty string."""
    return path if path is None or is_url(path) else os.path.abspath(os.path.expanduser(path)) if path else None


def _refuse(_: str, error: DataNotFoundError) -> None:
    raise error


def _find_file(places: Sequence[str], on_misplaced: Callable[[str, DataNotFoundError], None]) -> str | None:
    """Return the first place where there is a file; report each place before it where there is something else."""
    for place in places:
        if os.path.isfile(place):
            return place
        try:
            check_accessible(place)
        except DataNotFoundError as error:
            on_misplaced(place, error)
        if os.path.lexists(place):
            kind = "a folder" if os.path.isdir(place) else "a broken link or a special file"
            message = f"{place} is {kind}; expected a file. Put the file there, or remove what is in its place."
            on_misplaced(place, DataNotFoundError(message))
    return None


def _describe(place: str) -> str:
    """Describe what is in a place where pictures were looked for."""
    if is_url(place):
        return "not opened yet"
    if os.path.isdir(place):
        return f"a folder without {', '.join(OUTLETS)}"
    return "found" if os.path.exists(place) else "missing"


def _join(folder: str, root: str) -> str:
    return f"{folder}/{root}" if root else folder


def _expand_visual_news(path: str) -> list[str]:
    """List the places that visual_news= may mean: a tar, the folder origin, or inside a folder that has either."""
    if is_url(path):
        return [path]
    check_accessible(path)
    if not os.path.exists(path):
        message = (
            f"{option('visual_news', path)} does not exist. Expected the folder origin of VisualNews or its "
            f"origin.tar:\n{VISUAL_NEWS_TREE}"
        )
        raise DataNotFoundError(message)
    inner = [os.path.join(path, name) for name in _NAMES]
    return inner if any(map(os.path.exists, inner)) else [path]


def _nothing_there(given: str, data_dir: str) -> DataNotFoundError:
    ways = f"{option('images', 'none')}, or {option('visual_news')}"
    do = f"Correct the path, or leave {option('data_dir')} out to fetch the matches from the Hub ({ways})."
    if os.path.isdir(data_dir):
        names = sorted(entry.name for entry in os.scandir(data_dir))
        more = ", ..." if len(names) > 8 else ""
        problem = f"has only {', '.join(names[:8])}{more}" if names else "is an empty folder"
    elif os.path.exists(data_dir):
        problem, do = "is a file", f"Pass the folder that holds visual_news/; a tar goes into {option('visual_news')}."
    else:
        problem = "does not exist"
    return DataNotFoundError(f"{given} {problem}. Expected some of this tree:\n{VISUAL_NEWS_TREE}\n  {do}")


def _no_pictures(searched: Sequence[tuple[str, str]]) -> DataNotFoundError:
    places = "\n".join(f"    {place}: {state}" for place, state in searched)
    return DataNotFoundError(
        "The pictures of VisualNews were not found, nor its articles. They cannot be downloaded automatically.\n"
        f"  Expected:\n{VISUAL_NEWS_TREE}\n"
        f"  Searched:\n{places}\n"
        f"  Ask its authors for VisualNews (a 98 GB tar, which need not be extracted): {VISUAL_NEWS_URL}\n"
        f"  Then pass {option('visual_news', '/path/to/origin.tar')} (or the folder), or put it in one of these "
        "places.\n"
        f"  Without pictures: {option('images', 'none')} builds every other column."
    )


def changed_inputs(config: str) -> BadFileError:
    """Make the error for input files that changed during a build."""
    return BadFileError(
        f"{config}: one of the input files changed since the build began. Nothing was kept: load again when nothing "
        "writes to them."
    )
