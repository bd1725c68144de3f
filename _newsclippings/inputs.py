"""Find each input of a config: below data_dir, where visual_news= points to, or on the Hub."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from _newsclippings.config import Request, unused_option
from _newsclippings.errors import BadFileError, BadTarError, ConfigError, DataNotFoundError
from _newsclippings.evidence import find_evidence, identify_evidence
from _newsclippings.facts import (
    EMBEDDING_FOLDERS,
    EMBEDDINGS,
    ENV_DATA_DIR,
    FULL,
    HUB_FILES,
    MATCHES_ROOTS,
    OUTLETS,
    SOURCE_DATASETS,
    SPLITS,
    VERSION,
    VISUAL_NEWS_ROOTS,
    VISUAL_NEWS_TREE,
    VISUAL_NEWS_URL,
    Vectors,
)
from _newsclippings.generated import OWN, Generated
from _newsclippings.storage import (
    NO_ACCESS,
    Access,
    check_accessible,
    first_part,
    identify,
    is_part,
    is_url,
    stamp,
)
from _newsclippings.text import is_offered, option, redacted_repr, without_secrets
from _newsclippings.vectors import VectorFiles, find_vectors

_NAMES = ("origin", "origin.tar")  # of VisualNews, extracted and not
_ARTICLES = ("articles", "articles.tar")  # the original articles, beside it
_PACKED = ("articles.tar.gz", "articles.tgz")  # as the authors give them


SHOWN = 5  # names of a location in an error
TABLES = (".csv", ".parquet")  # endings of the name of a corpus in a table
_UNSET = "not set"
_DEEPEST = 6  # folders above the outlets that are looked into
_MOST_FOLDERS = 500  # folders that are looked into
AGAIN = "Get the folder again, or make it again with `newsclippings generate`."
_PACKED_TARS = {
    ".gz": "gunzip", ".tgz": "gunzip", ".bz2": "bunzip2", ".tbz2": "bunzip2", ".tbz": "bunzip2", ".xz": "unxz",
    ".txz": "unxz", ".zst": "unzstd", ".tzst": "unzstd", ".lz4": "unlz4", ".7z": "7z x", ".rar": "unrar x",
}  # fmt: skip
_PACKED_NAME = re.compile(r"\.(tar\.\w+|t(gz|bz2?|xz|zst))([._-]|$)", re.IGNORECASE)
_PACKED_PART = re.compile(
    r"(.*\.(?:tar\.\w+|t(?:gz|bz2?|xz|zst)))[._-](?:part[._-]?)?([a-z]{2}|\d{2,5})", re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """A location of pictures.

    Attributes:
        kind: `"folder"`, `"tar"` or `"zip"`.
        location: path or URL; of a tar or zip in parts, that of the first. A folder is the one that has the outlets.
        index: index of the tar as Parquet; None to walk its headers.
    """

    kind: str
    location: str
    index: str | None = None


@dataclass(frozen=True)
class Inputs:
    """Locations (local paths or URLs) of the inputs of one config. They are found once and handed on.

    Attributes:
        config: name of the config.
        matches: split -> data/<config>/<split>.json.
        metadata: split -> metadata/<split>.json; captions come from it if there is no data.json.
        data_json: data.json of VisualNews as a file, or the table of a user's own corpus; None if there is none. It may
            also be in the tar.
        sources: where pictures come from: of each picture the first that has it.
        tar: the first tar, even if pictures come from a folder only; None if there is none.
        tar_index: index of the tar as Parquet; None to walk its headers.
        vectors: column -> its vectors, for those that are asked for, in order.
        embeddings: kind -> split -> pickle, for the authors' kinds among them.
        own_vectors: column -> files, for the others.
        searched: (place, what is there) for each place where VisualNews was looked for.
        full_articles: the folder `articles` or the articles.tar with the original articles; None if there is neither,
            or if they are not asked for.
        full_searched: places where they were looked for.
        evidence: split -> the list of its web evidence; empty if it is not asked for.
        links_root: a folder below which symbolic links of a folder of pictures may lead.
        prefetch: whether the needed files of a remote tar are fetched before rows are made, and kept.
        roots: folders for the authors' files, with nothing else in them.
        generated: the manifest of a config that `newsclippings generate` made; None for an official one.
        access: what the user passed to reach remote inputs.
        identities: location -> its `identity`, as far as it was computed.
        stamps: location -> its `storage.stamp` just before that.
    """

    config: str
    matches: dict[str, str]
    metadata: dict[str, str]
    data_json: str | None
    sources: tuple[Source, ...]
    tar: str | None
    tar_index: str | None
    embeddings: dict[str, dict[str, str]]
    searched: tuple[tuple[str, str], ...]
    vectors: dict[str, Vectors] = field(default_factory=dict)
    own_vectors: dict[str, VectorFiles] = field(default_factory=dict)
    full_articles: str | None = None
    full_searched: tuple[str, ...] = ()
    evidence: dict[str, str] = field(default_factory=dict)
    links_root: str | None = None
    prefetch: bool = False
    roots: tuple[str, ...] = ()
    generated: Generated | None = None
    access: Access = field(default=NO_ACCESS, compare=False, repr=False)
    identities: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    stamps: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return redacted_repr(self)

    def list_places(self) -> list[str]:
        """List the files and folders that are inputs, or would be if they existed. No output may be there."""
        files = [*self.matches.values(), *self.metadata.values(), self.data_json, self.tar]
        files += [*(source.location for source in self.sources), self.links_root]
        files += [self.full_articles, *self.full_searched]
        files += [self.tar_index, *(file for by_split in self.embeddings.values() for file in by_split.values())]
        files += [place for own in self.own_vectors.values() for place in (own.location, *own.files)]
        files += [*(place for place, _ in self.searched), *self.roots, *map(os.path.dirname, self.evidence.values())]
        return [file for file in dict.fromkeys(files) if file and (is_url(file) or os.path.isabs(file))]

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
            evidence={split: self.evidence[split]} if self.evidence else {},
        )

    @property
    def source_datasets(self) -> tuple[str, ...]:
        """The names of the measures: those of a generated config are its methods."""
        return SOURCE_DATASETS if self.generated is None else self.generated.source_datasets

    @property
    def is_own(self) -> bool:
        """Whether the corpus is the user's own, of which the authors' files say nothing."""
        return self._is_made_from_own or (self.data_json is not None and is_table(self.data_json))

    @property
    def _is_made_from_own(self) -> bool:
        return self.generated is not None and self.generated.corpus == OWN

    def require_pictures(self) -> None:
        """Raise `DataNotFoundError` if VisualNews, or the corpus of a generated config, was not found."""
        if not self.sources:
            if self._is_made_from_own:
                raise _no_own_corpus(self.config, self.searched)
            _check_packed_beside(place for place, _ in self.searched if os.path.isabs(place))
            raise _no_pictures(self.searched)

    def require_visual_news(self, config: Request) -> None:
        """Raise `DataNotFoundError` if files of VisualNews that a config needs were not found.

        Raises:
            ConfigError: it needs files that a corpus of one's own does not have.
        """
        if self.is_own and (config.needs_metadata or config.articles):
            named = option("metadata", True) if config.metadata else option("articles", config.articles)
            message = f"{named} is of VisualNews, and this corpus is another. Leave it out."
            raise ConfigError(message)
        if self._is_made_from_own and self.embeddings:
            named = option("embeddings", next(iter(self.embeddings)))
            message = f"{named} is of VisualNews, and this corpus is another. Pass the location of its own vectors."
            raise ConfigError(message)
        if self._is_made_from_own and self.data_json is None:
            raise _no_own_corpus(self.config, self.searched)
        if config.needs_origin:
            self.require_pictures()
        if config.articles == FULL and self.full_articles is None:
            raise _no_full_articles(self.full_searched)

    @property
    def folders(self) -> list[str]:
        """The folders that pictures come from."""
        return [source.location for source in self.sources if source.kind == "folder"]

    @property
    def without_pictures(self) -> list[tuple[str, str]]:
        """The folders that were named, or are below data_dir, and have no pictures; and what they have, in words."""
        used = [source.location for source in self.sources]
        return [
            (place, state)
            for place, state in self.searched
            if state.startswith("a folder") and not any(f"{each}/".startswith(f"{place}/") for each in used)
        ]

    @property
    def archives(self) -> list[Source]:
        """The tars and zips that pictures come from; a tar that only data.json may come from, if there are none."""
        unused = [Source("tar", self.tar, self.tar_index)] if self.tar is not None else []
        return [source for source in self.sources if source.kind != "folder"] or unused

    @property
    def tars(self) -> list[str]:
        """The locations of all tars."""
        of_pictures = (source.location for source in self.sources if source.kind == "tar")
        return [*dict.fromkeys([*([self.tar] if self.tar is not None else []), *of_pictures])]

    @property
    def places(self) -> str:
        """The locations that pictures come from, without secrets, for messages."""
        return ", ".join(without_secrets(source.location) for source in self.sources)

    def identity(self, location: str) -> str:
        """Identify the content of an input (see `storage.identify`). Each input is asked once."""
        if location not in self.identities:
            if location in self.evidence.values():
                self.stamps[location] = self.identities[location] = identify_evidence(location)
                return self.identities[location]
            tar = self._is_tar(location)
            self.stamps[location] = stamp(location, self.access)
            known = is_url(location) and not tar  # by the same request
            self.identities[location] = self.stamps[location] if known else identify(location, not tar, self.access)
        return self.identities[location]

    def stamp(self, location: str) -> str:
        """Return the stamp of an input when its identity was first computed; see `storage.stamp`."""
        self.identity(location)
        return self.stamps[location]

    def check_unchanged(self, locations: Iterable[str]) -> None:
        """Raise `BadFileError` if one of these inputs was touched since its identity was first computed."""
        if not all(map(self._is_unchanged, locations)):
            raise changed_inputs(self.config)

    def _is_unchanged(self, location: str) -> bool:
        if location in self.evidence.values():
            return identify_evidence(location) == self.identity(location)
        if stamp(location, self.access) == self.stamp(location):
            return True
        # Servers that share a name may have ETags of their own for one file
        remote_tar = self._is_tar(location) and is_url(location)
        return remote_tar and identify(location, False, self.access) == self.identity(location)

    def _is_tar(self, location: str) -> bool:
        return location in self.tars

    def _places_read(self, config: Request) -> list[str | None]:
        places = [*self.matches.values(), self.data_json]
        places += [file for files in self.embeddings.values() for file in files.values()]
        places += [file for own in self.own_vectors.values() for file in own.files]
        places += self.evidence.values()
        if self.data_json is None:
            places += [source.location for source in self.archives]
        if self.data_json is None or config.needs_metadata:
            places += self.metadata.values()
        if config.needs_origin:
            places += [source.location for source in self.sources]
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
    no_paths = inputs.folders if config.images != "path" else []
    places = [place if place not in no_paths else None for place in inputs._places_read(config)]
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
    if config.image_file:
        options["image_file"] = True
    if inputs.evidence:
        options["evidence"] = True
    if inputs.own_vectors:
        options["vectors"] = {name: inputs.vectors[name] for name in inputs.own_vectors}
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def find_inputs(
    config: Request,
    on_misplaced: Callable[[str, DataNotFoundError], None] | None = None,
    access: Access = NO_ACCESS,
) -> Inputs:
    """Find the inputs of a config. Only checks whether files exist, and reads the heads of the user's own vectors.

    Args:
        config: what is asked for.
        on_misplaced: called with the place and the error if something else is in the place of a file; other places
            are searched then. Unset: the error is raised.
        access: what the user passed to reach remote inputs; handed on with them.

    Raises:
        DataNotFoundError: data_dir, visual_news or visual_news_index does not exist, or holds nothing of the tree.
        ConfigError: data_dir is a URL, or there is an index but no tar.
    """
    on_misplaced = on_misplaced or _refuse
    splits, paths = config.wanted_splits(), config.paths()
    data_dir, visual_news_index = paths["data_dir"], paths["visual_news_index"]
    data_dir = data_dir or os.environ.get(ENV_DATA_DIR) or None
    generated = config.generated()

    def name_data_dir(place: str) -> str:
        return option("data_dir", place) if paths["data_dir"] else f"{ENV_DATA_DIR}={place!r}"

    if data_dir is not None and is_url(data_dir):
        named = name_data_dir(without_secrets(data_dir))
        message = f"{named} is a URL; expected a local path. Only visual_news may be remote."
        raise ConfigError(message)
    data_dir, visual_news_index, links_root = map(_absolute, (data_dir, visual_news_index, paths["links_root"]))
    given = [place for each in paths["visual_news"] or [] if (place := _absolute(each))]
    data_dirs = [data_dir] if data_dir else []
    if generated is not None and (other := _absolute(os.environ.get(ENV_DATA_DIR))) and not is_url(other):
        data_dirs = [*dict.fromkeys([*data_dirs, other])]  # data_dir has only the matches of a generated config
    below = [f"{_join(folder, r)}/{name}" for folder in data_dirs for r in VISUAL_NEWS_ROOTS for name in _NAMES]
    table = _find_table(given)
    given = [os.path.dirname(table)] if table is not None else given
    expanded = [*dict.fromkeys(place for each in given for place in _expand_visual_news(each))]
    expanded = given if table is not None else expanded
    searched = expanded if given else below
    folders = [place for place in searched if os.path.isdir(place)]
    files = [place for place in searched if place not in folders]
    with_pictures = {place: place for place in folders if table is not None or _is_own(place)}
    if table is None:
        with_pictures |= {place: root for place in folders if (root := _find_outlets(place)) is not None}
    if given:
        present = [place for place in files if is_url(place) or _find_file([place], on_misplaced)]
        kinds = [_make_source(p, with_pictures, None) for p in searched if p in present or p in with_pictures]
        tar = next((source.location for source in kinds if source.kind == "tar"), None)
        beside = {f"{folder}.tar" for folder in with_pictures} - set(given)  # extracted
        sources = [source for source in kinds if source.location not in beside]
    else:
        tar = _find_file(files, on_misplaced)
        sources = [_make_source(place, with_pictures, None) for place in [*with_pictures, *([tar] if tar else [])][:1]]
        if not sources:
            folders_inside = [_join(folder, root) for folder in data_dirs for root in VISUAL_NEWS_ROOTS[:2]]
            inside = [place for folder in folders_inside for place in _list_archives(folder)]
            sources = [_make_source(place, {}, None) for place in inside]
            tar = next((source.location for source in sources if source.kind == "tar"), None)
    sources = [replace(s, index=visual_news_index if s.location == tar else None) for s in sources]
    if visual_news_index is not None and tar is None:
        named = option("visual_news_index", without_secrets(visual_news_index))
        message = f"{named} is the index of a tar, but no tar was found. Pass {option('visual_news')} as well."
        raise ConfigError(message)
    if visual_news_index is not None and not is_url(visual_news_index) and not os.path.isfile(visual_news_index):
        message = f"{option('visual_news_index', visual_news_index)} is not a file. Correct the path."
        raise DataNotFoundError(message)
    places = [with_pictures.get(folder, folder) for folder in folders]
    if given:
        places += [folder for folder in below if os.path.isdir(folder)]
        if len(given) == 1 and given[0] == tar and not is_url(tar):  # data.json may be extracted beside it
            places += [os.path.join(os.path.dirname(tar), "origin"), os.path.dirname(tar)]
    else:
        places += [_join(folder, root) for folder in data_dirs for root in VISUAL_NEWS_ROOTS[:2]]  # beside origin.tar
    data_json = table or _find_file([os.path.join(folder, "data.json") for folder in places], on_misplaced)

    full_searched = _list_full_articles(data_dirs, given) if config.articles == FULL else []

    def find_authors_file(*names: str) -> str:
        """Find a file below data_dir under any of its names, else on the Hub under the first."""
        own = generated is not None and generated.corpus == OWN  # of which the authors' files say nothing
        roots = [_join(folder, root) for folder in data_dirs[: 1 if own else None] for root in MATCHES_ROOTS]
        local = _find_file([f"{root}/{name}" for name in names for root in roots], on_misplaced)
        return local or f"{HUB_FILES}/{names[0]}"

    evidence = _absolute(paths["evidence"])
    if evidence is not None and generated is not None:
        named = option("evidence", without_secrets(evidence))
        message = f"{named} is for the rows of official configs, and {config.name} has others. Leave it out."
        raise ConfigError(message)
    if evidence is not None and is_url(evidence):
        message = f"{option('evidence', without_secrets(evidence))} is a URL; expected a local folder. Copy it here."
        raise ConfigError(message)
    own = {name: find_vectors(name, place, config.vector_dtype, access) for name, place in config.own_vectors().items()}
    if config.vector_dtype == "float16" and not any(files.facts.dtype == "float16" for files in own.values()):
        raise unused_option(option("vector_dtype", "float16"), "None of your own vectors are stored as float16.")
    matches = {split: find_authors_file(f"data/{config.name}/{SPLITS[split]}.json") for split in splits}
    if generated is not None and (absent := [split for split, place in matches.items() if is_url(place)]):
        message = f"{data_dir} has no matches of {config.name}/{absent[0]}, which its manifest.json names. {AGAIN}"
        raise DataNotFoundError(message)
    if data_dir is not None and not any([*folders, *sources, tar, data_json]) and all(map(is_url, matches.values())):
        _check_packed_beside(searched)
        raise _nothing_there(name_data_dir(data_dir), data_dir)
    return Inputs(
        config=config.name,
        matches=matches,
        metadata={split: find_authors_file(f"metadata/{SPLITS[split]}.json") for split in splits},
        data_json=data_json,
        sources=tuple(sources),
        tar=tar,
        tar_index=visual_news_index,
        embeddings={
            kind: {
                split: find_authors_file(
                    f"embeddings/{EMBEDDING_FOLDERS[kind]}/{EMBEDDING_FOLDERS[kind]}_{SPLITS[split]}.pkl",
                    f"embeddings/{EMBEDDING_FOLDERS[kind]}/{SPLITS[split]}.pkl",  # as in the authors' README
                )
                for split in splits
            }
            for kind in config.wanted_embeddings()
            if kind not in own
        },
        vectors={name: own[name].facts if name in own else EMBEDDINGS[name] for name in config.wanted_embeddings()},
        own_vectors=own,
        searched=tuple((place, _describe(place)) for place in searched)
        or ((f"{option('data_dir')} and {option('visual_news')}, and the variable {ENV_DATA_DIR}", _UNSET),),
        links_root=links_root,
        full_articles=_find_full_articles(full_searched, on_misplaced),
        full_searched=tuple(full_searched),
        evidence=find_evidence(evidence, splits) if evidence is not None else {},
        roots=tuple(_join(folder, root) for folder in data_dirs for root in MATCHES_ROOTS if root),
        generated=generated,
        access=access,
    )


def find_full_matches(config: Request) -> list[str]:
    """List the files data/full/<split>.json below data_dir. The authors' repository has one, which is no config."""
    data_dir = _absolute(config.paths()["data_dir"] or os.environ.get(ENV_DATA_DIR) or None)
    roots = [_join(data_dir, root) for root in MATCHES_ROOTS] if data_dir else []
    places = [f"{root}/data/full/{name}.json" for root in roots for name in SPLITS.values()]
    return [place for place in places if os.path.isfile(place)]


def is_table(location: str) -> bool:
    """Check by its name whether a location of VisualNews is the table of a user's own corpus."""
    return location.lower().endswith(TABLES)


def _find_table(given: Sequence[str]) -> str | None:
    """Return the table among the locations of VisualNews; None if there is none.

    Raises:
        ConfigError: there are other locations, too, or it is a URL.
        DataNotFoundError: it does not exist.
    """
    tables = [place for place in given if is_table(place)]
    if not tables:
        return None
    named = option("visual_news", without_secrets(tables[0]))
    if len(given) > 1:
        message = f"{named} is the table of a corpus, so the pictures are beside it. Pass no other location."
        raise ConfigError(message)
    if is_url(tables[0]):
        message = f"{named}: the table of a corpus is read on this machine. Fetch it with its pictures."
        raise ConfigError(message)
    if not os.path.isfile(tables[0]):
        message = f"{named} is not a file. Correct the path."
        raise DataNotFoundError(message)
    return tables[0]


def _is_own(folder: str) -> bool:
    """Check whether a folder has data.json and folders with pictures, as a corpus in VisualNews's form."""
    if not os.path.isfile(os.path.join(folder, "data.json")) or not os.access(folder, os.R_OK):
        return False
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and entry.name != "articles" for entry in entries)


def _list_full_articles(data_dirs: Sequence[str], visual_news: Sequence[str]) -> list[str]:
    """List the places where the original articles may be: below data_dir, in the folder visual_news=, or beside it."""
    folders = [_join(folder, root) for folder in data_dirs for root in VISUAL_NEWS_ROOTS]
    for place in visual_news:
        if not is_url(place):
            folders = [place, os.path.dirname(place), *folders]
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
        names = sorted(entry.name for entry in os.scandir(place)) if os.access(place, os.R_OK) else []
        more = ", ..." if len(names) > SHOWN else ""
        content = f"; it has {', '.join(names[:SHOWN])}{more}" if names else "; it is empty"
        return f"a folder without {', '.join(OUTLETS)}{content}"
    return "found" if os.path.exists(place) else "missing"


def _join(folder: str, root: str) -> str:
    return f"{folder}/{root}" if root else folder


def _expand_visual_news(path: str) -> list[str]:
    """List the places that visual_news= may mean: a tar, the folder origin, or inside a folder that has either."""
    if is_url(path):
        _check_packed(path)
        return [first_part(path)]
    check_accessible(path)
    if not os.path.exists(path):
        message = (
            f"{option('visual_news', path)} does not exist. Expected the folder origin of VisualNews or its "
            f"origin.tar:\n{VISUAL_NEWS_TREE}"
        )
        raise DataNotFoundError(message)
    if os.path.isfile(path):
        _check_packed(path)
        return [first_part(path)]
    inner = [os.path.join(path, name) for name in _NAMES]
    if any(map(os.path.exists, inner)):
        return inner if os.path.isdir(inner[0]) else [place for place in inner if os.path.exists(place)]
    return [path] if _find_outlets(path) is not None else _list_archives(path) or [path]


def _check_packed(path: str) -> None:
    """Raise `BadTarError` for a compressed tar, by its name; others are recognised when they are opened."""
    name = path.partition("::")[0].partition("?")[0]
    file = os.path.basename(name) if is_url(path) else path
    part = _PACKED_PART.fullmatch(name)
    tool = _PACKED_TARS.get(os.path.splitext(part[1] if part else name)[1].lower())
    if tool is not None:
        command = f"{tool} {shlex.quote(file)}"
        if part:
            number, stem = len(part[2]), file[: len(part[1]) - len(name)]
            command = f"cat {shlex.quote(file[:-number])}* | {tool} -c > {shlex.quote(os.path.splitext(stem)[0])}"
        do = f"{'Download it, and decompress' if is_url(path) else 'Decompress'} it once"
        message = (
            f"{without_secrets(path)} is compressed, and its files cannot be read at a position. {do}, without "
            f"unpacking the tar in it: {command}"
        )
        raise BadTarError(message)


def _check_packed_beside(places: Iterable[str]) -> None:
    """Raise `BadTarError` if there is a compressed tar in one of these folders, or beside one of these files."""
    for folder in dict.fromkeys(place if os.path.isdir(place) else os.path.dirname(place) for place in places):
        if os.path.isdir(folder) and os.access(folder, os.R_OK):
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
            for name in names:
                if _PACKED_NAME.search(name) and not name.startswith("articles"):
                    _check_packed(os.path.join(folder, name))


def _make_source(place: str, with_pictures: Mapping[str, str], index: str | None) -> Source:
    """Make the source of a location: a folder that has pictures, or a file by the ending of its name."""
    if place in with_pictures:
        return Source("folder", with_pictures[place])
    name = place.lower().partition("::")[0].partition("?")[0]  # of a chain, the innermost
    return Source("zip" if re.search(r"\.zip([._-]?(part[._-]?)?([a-z]{2,3}|\d+))?$", name) else "tar", place, index)


def _list_archives(folder: str) -> list[str]:
    """List the tars and zips in a folder, sorted; of one in parts the first part. Those of articles do not count."""
    if not os.path.isdir(folder):
        return []
    names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith(("articles", ".")))
    files = [place for name in names if os.path.isfile(place := os.path.join(folder, name))]
    return [*dict.fromkeys(first_part(place) for place in files if place.endswith((".tar", ".zip")) or is_part(place))]


def _find_outlets(folder: str) -> str | None:
    """Find the folder that has the folders of the outlets: this one, or one a few levels below it."""
    level, seen = [folder], 0
    for _ in range(_DEEPEST):
        below: list[str] = []
        for place in level:
            if any(os.path.isdir(os.path.join(place, outlet)) for outlet in OUTLETS):
                return place
            seen += 1
            if seen > _MOST_FOLDERS:
                return None
            with contextlib.suppress(OSError), os.scandir(place) as entries:  # one that may not be listed
                folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
                below += sorted(entry.path for entry in folders if entry.name != "articles")  # has outlets, too
        level = below
    return None


def _nothing_there(given: str, data_dir: str) -> DataNotFoundError:
    ways = ", or ".join([option("images", "none")] * is_offered("images", "none") + [option("visual_news")])
    do = f"Correct the path, or leave {option('data_dir')} out to fetch the matches from the Hub ({ways})."
    if os.path.isdir(data_dir):
        names = sorted(entry.name for entry in os.scandir(data_dir))
        more = ", ..." if len(names) > 8 else ""
        problem = f"has only {', '.join(names[:8])}{more}" if names else "is an empty folder"
        near = [*(os.path.join(data_dir, name) for name in names), *map(str, Path(data_dir).parents[:2])]
        trees = (folder for folder in near for root in (MATCHES_ROOTS[0], VISUAL_NEWS_ROOTS[0]) if _has(folder, root))
        if (tree := next(trees, None)) is not None:
            do = f"Did you mean {tree}? {do}"
    elif os.path.exists(data_dir):
        problem, do = "is a file", f"Pass the folder that holds visual_news/; a tar goes into {option('visual_news')}."
    else:
        problem = "does not exist"
    return DataNotFoundError(f"{given} {problem}. Expected some of this tree:\n{VISUAL_NEWS_TREE}\n  {do}")


def _has(folder: str, name: str) -> bool:
    return os.path.isdir(os.path.join(folder, name))


def _no_pictures(searched: Sequence[tuple[str, str]]) -> DataNotFoundError:
    places = "\n".join(f"    {place}: {state}" for place, state in searched)
    without = sample = ""
    if is_offered("images", "none"):
        without = f"\n  Without pictures: {option('images', 'none')} builds every other column."
    elif is_offered("features"):
        without = f"\n  Without pictures: {option('features', 'clip')} trains on the authors' vectors."
    if [state for _, state in searched] == [_UNSET]:
        try_it = f"`newsclippings sample demo/data`, then {option('data_dir', 'demo/data')}"
        sample = f"\n  To try everything on a sample: {try_it}."
    return DataNotFoundError(
        "The pictures of VisualNews were not found, nor its articles. They cannot be downloaded automatically.\n"
        f"  Expected:\n{VISUAL_NEWS_TREE}\n"
        f"  Searched:\n{places}\n"
        f"  Ask its authors for VisualNews (a 98 GB tar, which need not be extracted): {VISUAL_NEWS_URL}\n"
        f"  Then pass {option('visual_news', '/path/to/origin.tar')} (or the folder), or put it in one of these "
        f"places.{without}{sample}"
    )


def _no_own_corpus(config: str, searched: Sequence[tuple[str, str]]) -> DataNotFoundError:
    places = "".join(f"\n    {place}: {state}" for place, state in searched)
    named = option("visual_news")
    return DataNotFoundError(
        f"The corpus from which {config} was made was not found. Pass its table, or its folder with "
        f"data.json, as {named}.\n  Searched:{places}"
    )


def changed_inputs(config: str) -> BadFileError:
    """Make the error for input files that changed during a build."""
    return BadFileError(
        f"{config}: one of the input files changed since the build began. Nothing was kept: load again when nothing "
        "writes to them."
    )
