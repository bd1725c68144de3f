"""What of a folder that `newsclippings build` wrote is uploaded to the Hugging Face Hub, and whether it may be."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.folder import (
    CROISSANT,
    FOLDER,
    LARGEST_BESIDE,
    MANIFEST,
    PICTURE,
    SUMS,
    Manifests,
    card_files,
    check_card,
    croissant_text,
    current_charts,
    manifests,
    require_pictures,
    shows_pictures,
    version,
)
from _newsclippings.storage import PlainFile, changed_file
from _newsclippings.text import printable

RESTRICTED = {"image": "pictures", "article": "articles"}
MAIN = "main"  # the branch of which everybody gets the files who names none


@dataclass(frozen=True)
class Upload:
    """What is going to be uploaded.

    Attributes:
        folder: what `newsclippings build` wrote.
        repo_id: where to.
        files: name -> bytes.
        rows: config -> split -> rows.
        version: of the data, by which they are tagged.
        branch: to upload to.
        texts: name -> content of files that are not, or not so, in the folder: the card, by the repository's name.
        contents: name -> content of the other files that are small, as they were read.
        shards: name -> what its manifest says of it.
        columns: config -> columns.
        rights: whether somebody said that pictures and articles may be passed on.
    """

    folder: Path
    repo_id: str
    files: dict[str, int]
    rows: dict[str, dict[str, int]]
    version: str
    branch: str
    texts: dict[str, str]
    contents: dict[str, bytes]
    shards: dict[str, dict[str, Any]]
    columns: dict[str, list[str]]
    rights: bool


def plan_upload(
    folder: Path, repo_id: str, *, with_images: bool, have_the_rights: bool, revision: str | None = None
) -> Upload:
    """Look what there is to upload, and whether it may be.

    Args:
        folder: what `newsclippings build` wrote.
        repo_id: where to.
        with_images: whether pictures and articles are to be uploaded, too.
        have_the_rights: whether they may be.
        revision: branch to upload to. Default: main.

    Raises:
        BadFileError: the folder is not one that `newsclippings build` wrote.
        ConfigError: it has pictures or articles, and nobody said that they may be passed on; or the name would not do,
            or that of the branch; or its croissant.json describes other files.
    """
    _check_name(repo_id)
    built = manifests(folder)
    branch, tag = MAIN if revision is None else revision, version(built)
    if branch.strip() in ("", tag):
        message = f"--revision {revision!r}: expected a branch, and {tag} is the tag. Name another, or none for {MAIN}."
        raise ConfigError(message)
    require_pictures(folder, built)
    columns = {column for manifest in built.values() for column in manifest["features"]}
    restricted = [what for column, what in RESTRICTED.items() if column in columns]
    if restricted and not (with_images and have_the_rights):
        message = (
            f"{folder} holds {' and '.join(restricted)} of VisualNews, which is given out on request only. Build one "
            "without (`newsclippings build OUT --images none`: a matter of seconds), or pass --with-images and "
            "--i-have-the-rights."
        )
        raise ConfigError(message)
    texts = {file.name: text for file, text in card_files(folder, repo_id).items()}
    check_card(folder)  # which is written at the end, with the repository's name
    contents = _contents(folder, built, texts[SUMS])
    shards = {
        f"{config}/{name}": about for config, manifest in built.items() for name, about in manifest["files"].items()
    }
    for name, about in shards.items():
        _check_size(folder, name, about["bytes"])
    files = {name: len(text.encode()) for name, text in texts.items()}
    files |= {name: len(data) for name, data in contents.items()}
    files |= {name: about["bytes"] for name, about in shards.items()}
    rows = {
        config: {split: about["rows"] for split, about in manifest["splits"].items()}
        for config, manifest in built.items()
    }
    of_config = {config: list(manifest["features"]) for config, manifest in built.items()}
    rights = with_images and have_the_rights
    return Upload(folder, repo_id, files, rows, tag, branch, texts, contents, shards, of_config, rights)


def _contents(folder: Path, built: Manifests, sums: str) -> dict[str, bytes]:
    """The small files of a folder, besides its card: as the sums say, and the metadata as they should be."""
    beside = (PICTURE, CROISSANT) if shows_pictures(built) else (CROISSANT,)  # a picture needs rights, too
    names = [name for name in beside if os.path.lexists(folder / name)]
    names += [f"{FOLDER}/{file.name}" for file in current_charts(folder)]
    names += [f"{config}/{MANIFEST}" for config in built]
    contents = {}
    for name in names:
        with contextlib.closing(PlainFile(folder, name)) as file:
            contents[name] = file.read(LARGEST_BESIDE)
        place, digest = folder / name, hashlib.sha256(contents[name]).hexdigest()
        if name != CROISSANT and f"{digest}  {name}" not in sums.splitlines():
            raise changed_file(place)
        if name == CROISSANT and contents[name] != croissant_text(folder).encode():
            message = (
                f"{place}: expected the metadata of what is in the folder now, found others. Run `newsclippings "
                f"croissant {folder}`, or remove the file."
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
            f"{repo_id!r}: a repository of this name could not be loaded where newsclippings.py lies, which `datasets` "
            "takes for its script. Choose another, such as 'news-clippings'."
        )
        raise ConfigError(message)


def _check_size(folder: Path, name: str, expected: int) -> None:
    found = "no file"
    if os.path.lexists(folder / name):
        with contextlib.closing(PlainFile(folder, name)) as file:
            found = f"{file.size:,}"
    if found != f"{expected:,}":
        raise bad_file(folder / name, f"{expected:,} bytes, as its manifest says", found, "Build the folder again.")
