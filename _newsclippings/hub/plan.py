"""Which files of a built folder are uploaded to the Hugging Face Hub, and whether they may be."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.folder import (
    CHARTS_FOLDER,
    CROISSANT,
    LARGEST_BESIDE,
    MANIFEST,
    PAIRS_FILE,
    SUMS,
    BuiltFolder,
    ShardEntry,
    card_texts,
    check_card,
    croissant_text,
)
from _newsclippings.storage import PlainFile, changed_file
from _newsclippings.text import printable

RESTRICTED = {"image": "pictures", "article": "articles", "article_full": "original articles"}
MAIN = "main"  # the branch that is loaded where none is named


@dataclass(frozen=True)
class Upload:
    """The files to upload, and where to.

    Attributes:
        folder: the built folder.
        repo_id: the repository.
        branch: the branch.
        rights: whether the user has declared that pictures and articles may be passed on.
        texts: name -> content of the card's files, which name the repository and are not in the folder yet.
        contents: name -> content of the other small files, as they were read.
    """

    folder: BuiltFolder
    repo_id: str
    branch: str
    rights: bool
    texts: dict[str, str]
    contents: dict[str, bytes]

    @property
    def version(self) -> str:
        """The version of the data, with which they are tagged."""
        return self.folder.version

    @property
    def shards(self) -> dict[str, ShardEntry]:
        """Name -> entry in the manifest."""
        return {shard.path: shard for shard in self.folder.shards}

    @property
    def files(self) -> dict[str, int]:
        """Name -> size in bytes, of all files."""
        sizes = {name: len(text.encode()) for name, text in self.texts.items()}
        sizes |= {name: len(data) for name, data in self.contents.items()}
        return sizes | {name: shard.bytes for name, shard in self.shards.items()}

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """Config -> split -> number of rows."""
        manifests = self.folder.manifests.items()
        return {config: {name: split.rows for name, split in m.splits.items()} for config, m in manifests}


def plan_upload(
    folder: BuiltFolder, repo_id: str, *, with_images: bool, have_the_rights: bool, revision: str | None = None
) -> Upload:
    """Collect the files to upload, and check whether they may be uploaded.

    Args:
        folder: the built folder.
        repo_id: the repository.
        with_images: whether pictures and articles are to be uploaded, too.
        have_the_rights: whether they may be.
        revision: branch to upload to. Default: main.

    Raises:
        BadFileError: a file is not what `newsclippings build` wrote.
        ConfigError: there are pictures or articles, and the user has not declared that they may be passed on; or the
            name of the repository or of the branch is not usable; or croissant.json describes other files.
    """
    _check_name(repo_id)
    root, branch = folder.root, MAIN if revision is None else revision
    if branch.strip() in ("", folder.version):
        message = (
            f"--revision {revision!r}: expected a branch, and {folder.version} is the tag. Name another, or none for "
            f"{MAIN}."
        )
        raise ConfigError(message)
    folder.require_shared_pictures()
    columns = {column for manifest in folder.manifests.values() for column in manifest.features}
    restricted = [what for column, what in RESTRICTED.items() if column in columns]
    rights = with_images and have_the_rights
    if restricted and not rights:
        message = (
            f"{root} holds {' and '.join(restricted)} of VisualNews, which is given out on request only. Build one "
            "without (`newsclippings build OUT --images none`: a matter of seconds), or pass --with-images and "
            "--i-have-the-rights."
        )
        raise ConfigError(message)
    charts = folder.find_charts()
    texts = card_texts(folder, charts, repo_id)
    check_card(folder)  # it is written into the folder after the upload, with the name of the repository
    contents = _read_contents(folder, charts, texts[SUMS])
    for shard in folder.shards:
        _check_size(root, shard)
    return Upload(folder, repo_id, branch, rights, texts, contents)


def _read_contents(folder: BuiltFolder, charts: list[Path], sums: str) -> dict[str, bytes]:
    """Read the small files besides the card, and check them: by the sums, and croissant.json by the manifests.

    The manifests are read again, without following links: what is uploaded are the bytes that are checked here.
    """
    beside = (PAIRS_FILE, CROISSANT) if folder.has_pictures else (CROISSANT,)  # a drawing needs rights, too
    names = [name for name in beside if os.path.lexists(folder.root / name)]
    names += [f"{CHARTS_FOLDER}/{file.name}" for file in charts]
    names += [f"{config}/{MANIFEST}" for config in folder.manifests]
    contents = {}
    for name in names:
        with contextlib.closing(PlainFile(folder.root, name)) as file:
            contents[name] = file.read(LARGEST_BESIDE)
        place, digest = folder.root / name, hashlib.sha256(contents[name]).hexdigest()
        if name != CROISSANT and f"{digest}  {name}" not in sums.splitlines():
            raise changed_file(place)
        if name == CROISSANT and contents[name] != croissant_text(folder).encode():
            message = (
                f"{place}: expected the metadata of the present files, found others. Run `newsclippings croissant "
                f"{folder.root}`, or remove the file."
            )
            raise ConfigError(message)
    return contents


def _check_name(repo_id: str) -> None:
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # public, and not in __all__

    owner, slash, name = repo_id.partition("/")
    if not (owner and slash and name) or "/" in name:
        message = f"{repo_id!r}: expected a repository's name with its owner's, such as 'me/news-clippings'."
        raise ConfigError(message)
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        message = (
            f"{repo_id!r}: expected a name that the Hub takes, such as 'me/news-clippings'. {printable(str(error))}"
        )
        raise ConfigError(message) from error
    if name.lower().removesuffix(".py") == "newsclippings":
        message = (
            f"{repo_id!r}: a repository of this name could not be loaded beside a file newsclippings.py, which "
            "`datasets` takes for its script. Choose another, such as 'news-clippings'."
        )
        raise ConfigError(message)


def _check_size(root: Path, shard: ShardEntry) -> None:
    size = "no file"
    if os.path.lexists(root / shard.path):
        with contextlib.closing(PlainFile(root, shard.path)) as file:
            size = f"{file.size:,}"
    if size != f"{shard.bytes:,}":
        expected = f"{shard.bytes:,} bytes, as its manifest says"
        raise bad_file(root / shard.path, expected, size, "Build the folder again.")
