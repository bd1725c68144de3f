"""What of a folder that `newsclippings build` wrote is uploaded to the Hugging Face Hub, and whether it may be."""

from dataclasses import dataclass
from pathlib import Path

from _newsclippings.card import PICTURE, card_files, check_card
from _newsclippings.charts import FOLDER, current_charts
from _newsclippings.croissant import CROISSANT, croissant_text
from _newsclippings.errors import ConfigError, bad_file, printable
from _newsclippings.manifests import manifests, require_pictures, shows_pictures, version
from _newsclippings.parquet_folder import MANIFEST

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
        rights: whether somebody said that pictures and articles may be passed on.
    """

    folder: Path
    repo_id: str
    files: dict[str, int]
    rows: dict[str, dict[str, int]]
    version: str
    branch: str
    texts: dict[str, str]
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
    croissant = folder / CROISSANT
    if croissant.exists() and croissant.read_bytes() != croissant_text(folder).encode():
        message = (
            f"{croissant}: expected the metadata of what is in the folder now, found others. Run `newsclippings "
            f"croissant {folder}`, or remove the file."
        )
        raise ConfigError(message)
    texts = {file.name: text for file, text in card_files(folder, repo_id).items()}
    check_card(folder)  # which is written at the end, with the repository's name
    files = {name: len(text.encode()) for name, text in texts.items()}
    beside = (PICTURE, CROISSANT) if shows_pictures(built) else (CROISSANT,)  # a picture needs rights, too
    files |= {name: (folder / name).stat().st_size for name in beside if (folder / name).exists()}
    files |= {f"{FOLDER}/{file.name}": file.stat().st_size for file in current_charts(folder)}
    for config, manifest in built.items():
        files[f"{config}/{MANIFEST}"] = (folder / config / MANIFEST).stat().st_size
        files |= {f"{config}/{name}": about["bytes"] for name, about in manifest["files"].items()}
        for name, about in manifest["files"].items():
            _check_size(folder / config / name, about["bytes"])
    rows = {
        config: {split: about["rows"] for split, about in manifest["splits"].items()}
        for config, manifest in built.items()
    }
    return Upload(folder, repo_id, files, rows, tag, branch, texts, with_images and have_the_rights)


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


def _check_size(file: Path, expected: int) -> None:
    found = f"{file.stat().st_size:,}" if file.is_file() else "no file"
    if found != f"{expected:,}":
        raise bad_file(file, f"{expected:,} bytes, as its manifest says", found, "Build the folder again.")
