"""Which files of a folder are uploaded to the Hugging Face Hub, and whether they may be."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from _newsclippings.errors import ConfigError, DataNotFoundError, bad_file
from _newsclippings.folder import (
    AGAIN,
    ALL_CONFIGS,
    CHARTS_FOLDER,
    CROISSANT,
    EVAL,
    LARGEST_BESIDE,
    MANIFEST,
    PAIRS_FILE,
    README,
    SUMS,
    BuiltFolder,
    ShardEntry,
    card_texts,
    check_card,
    croissant_text,
    eval_text,
    find_configs,
    other_content,
)
from _newsclippings.storage import CARD, Maker, Place, PlainFile, changed_file
from _newsclippings.text import printable
from _newsclippings.vectors import PLAN, check_part, parse_plan, parse_sums

EVIDENCE = "web evidence"  # of CCN; all else that is restricted is of VisualNews
# Column -> what it holds that is given out on request only
RESTRICTED = {"image": "pictures", "article": "articles", "article_full": "original articles", "evidence": EVIDENCE}
MAIN = "main"  # the branch that is loaded where none is named
VECTORS_README = Maker("embed", (b"Written by `newsclippings embed`",))


class Kind(NamedTuple):
    """A kind of folders that are uploaded.

    Attributes:
        card: the marks of its README.md.
        names: patterns of all files that it may have on the Hub.
        again: what to do about a file that changed, for errors.
    """

    card: Maker
    names: tuple[str, ...]
    again: str


BUILT = Kind(
    CARD,
    (
        README,
        "dataset_infos.json",
        PAIRS_FILE,
        SUMS,
        CROISSANT,
        EVAL,
        *(f"{folder}/*" for folder in (*ALL_CONFIGS, CHARTS_FOLDER)),
    ),
    AGAIN,
)
VECTORS = Kind(
    VECTORS_README,
    (README, SUMS, PLAN, "part-*.parquet"),
    "Remove it, and run the same `newsclippings embed` again.",
)


class DataFile(NamedTuple):
    """A Parquet file to upload.

    Attributes:
        bytes: its size.
        sha256: SHA-256 of its content.
        check: raises `BadFileError` if the footer of the file at a path is not that of this file.
    """

    bytes: int
    sha256: str
    check: Callable[[str], Any]


@dataclass(frozen=True)
class Upload:
    """The files to upload, and where to.

    Attributes:
        root: the folder.
        kind: of the folder.
        repo_id: the repository.
        branch: the branch.
        rights: whether the user has declared that pictures, articles and evidence may be passed on.
        texts: name -> content of the card's files, which name the repository and are not in the folder yet.
        contents: name -> content of the other small files, as they were read.
        data: name -> Parquet file.
        rows: config -> split -> number of rows.
        title: of the commit.
        version: of the data, with which they are tagged; None for no tag.
        left_out: what is not uploaded, because the user has not declared the right to pass it on.
    """

    root: Path
    kind: Kind
    repo_id: str
    branch: str
    rights: bool
    texts: dict[str, str]
    contents: dict[str, bytes]
    data: dict[str, DataFile]
    rows: dict[str, dict[str, int]]
    title: str
    version: str | None
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, int]:
        """Name -> size in bytes, of all files."""
        sizes = {name: len(text.encode()) for name, text in self.texts.items()}
        sizes |= {name: len(data) for name, data in self.contents.items()}
        return sizes | {name: file.bytes for name, file in self.data.items()}

    @property
    def described_left_out(self) -> str:
        """`left_out` with its owners."""
        return describe_restricted(self.left_out)

    @property
    def sums(self) -> dict[str, str]:
        """Name -> SHA-256, as in SHA256SUMS."""
        text = self.texts[SUMS].encode() if SUMS in self.texts else self.contents[SUMS]
        return parse_sums(text, str(self.root / SUMS))


def plan_upload(
    folder: BuiltFolder, repo_id: str, *, with_images: bool, have_the_rights: bool, revision: str | None = None
) -> Upload:
    """Collect the files to upload, and check whether they may be uploaded.

    Args:
        folder: the built folder.
        repo_id: the repository.
        with_images: whether pictures, articles and evidence are to be uploaded, too.
        have_the_rights: whether they may be.
        revision: branch to upload to. Default: main.

    Raises:
        BadFileError: a file is not what `newsclippings build` wrote.
        ConfigError: there are pictures, articles or evidence, and the user has not declared that they may be passed
            on; or the name of the repository or of the branch is not usable; or croissant.json or eval.yaml describes
            other files.
    """
    check_target(repo_id, revision, folder.version)
    root, branch = folder.local_root, MAIN if revision is None else revision
    folder.require_shared_pictures()
    rights = with_images and have_the_rights
    if (restricted := list_restricted(folder)) and not rights:
        message = f"{root} holds {describe_restricted(restricted.values())}, which is given out on request only."
        raise ConfigError(message)
    charts = folder.find_charts()
    texts = card_texts(folder, charts, repo_id)
    check_card(folder)  # it is written into the folder after the upload, with the name of the repository
    contents = _read_contents(folder, charts, texts[SUMS])
    for shard in folder.shards:
        _check_size(root, shard)
    data = {
        shard.path: DataFile(shard.bytes, shard.sha256, functools.partial(folder.check_shard, shard))
        for shard in folder.shards
    }
    manifests = folder.manifests.items()
    rows = {config: {name: split.rows for name, split in m.splits.items()} for config, m in manifests}
    title = f"NewsCLIPpings {folder.version}: {sum(sum(by_split.values()) for by_split in rows.values()):,} rows"
    kind = BUILT._replace(names=(*BUILT.names, *(f"{config}/*" for config in folder.manifests)))
    return Upload(root, kind, repo_id, branch, rights, texts, contents, data, rows, title, folder.version)


def is_of_vectors(folder: Path) -> bool:
    """Whether a folder is one that `newsclippings embed` wrote or began, and not a built one."""
    built = bool(find_configs(folder))
    return os.path.lexists(folder / PLAN) and not built


def plan_vectors(root: Path, repo_id: str, revision: str | None = None) -> Upload:
    """Collect the files of a folder of vectors to upload, and check that it is complete.

    Args:
        root: the folder, which `newsclippings embed` wrote.
        repo_id: the repository.
        revision: branch to upload to. Default: main.

    Raises:
        BadFileError: a file is not what `newsclippings embed` wrote, or not the one that SHA256SUMS names.
        ConfigError: the name of the repository or of the branch is not usable.
        DataNotFoundError: the folder is not complete.
    """
    check_target(repo_id, revision)

    def read(name: str) -> bytes:
        with contextlib.closing(PlainFile(root, name)) as file:
            return file.read(LARGEST_BESIDE)

    plan = parse_plan(first := read(PLAN), f"{root / PLAN}")
    if missing := [name for name in (*plan.parts, README, SUMS) if not os.path.lexists(root / name)]:
        message = f"{root} is not complete: it has no {missing[0]}. Finish it by the same `newsclippings embed` again."
        raise DataNotFoundError(message)
    contents = {README: read(README), PLAN: first, SUMS: read(SUMS)}
    sums = parse_sums(contents[SUMS], str(root / SUMS))
    if unnamed := [name for name in (README, PLAN, *plan.parts) if name not in sums]:
        raise bad_file(root / SUMS, f"the SHA-256 of {unnamed[0]}", "none", VECTORS.again)
    for name in (README, PLAN):
        if (found := hashlib.sha256(contents[name]).hexdigest()) != sums[name]:
            raise other_content(root / name, sums[name], found, VECTORS.again)
    if not all(mark in contents[README] for mark in VECTORS_README.marks):
        raise bad_file(root / README, "what `newsclippings embed` writes", "something else", VECTORS.again)
    data, rows = {}, 0
    for name in plan.parts:
        check = functools.partial(check_part, shown=str(root / name), plan=plan)
        with contextlib.closing(PlainFile(root, name)) as file:
            rows += check(file.path)
            data[name] = DataFile(file.size, sums[name], check)
    title = f"Vectors of {rows:,} {plan.of}"
    branch = MAIN if revision is None else revision
    counts = {"default": {"train": rows}}  # as `datasets` loads them
    return Upload(root, VECTORS, repo_id, branch, False, {}, contents, data, counts, title, None)


def check_target(repo_id: str, revision: str | None, version: str | None = None) -> None:
    """Raise `ConfigError` if the name of the repository or of the branch is not usable; `version` is the tag."""
    _check_name(repo_id)
    if revision is not None and revision.strip() in ("", version):
        tag = f", and {version} is the tag" if version else ""
        message = f"--revision {revision!r}: expected a branch{tag}. Name another, or none for {MAIN}."
        raise ConfigError(message)


def list_restricted(folder: BuiltFolder) -> dict[str, str]:
    """List the columns of a folder that are given out on request only: name -> what it holds."""
    columns = {column for manifest in folder.manifests.values() for column in manifest.features}
    return {column: what for column, what in RESTRICTED.items() if column in columns}


def describe_restricted(words: Collection[str]) -> str:
    """Join values of `RESTRICTED`, and name their owners."""
    of_visual_news = " and ".join(word for word in words if word != EVIDENCE)
    parts = [f"{of_visual_news} of VisualNews"] if of_visual_news else []
    return " and ".join([*parts, *([f"{EVIDENCE} of CCN"] if EVIDENCE in words else [])])


def _read_contents(folder: BuiltFolder, charts: list[Place], sums: str) -> dict[str, bytes]:
    """Read the small files besides the card, and check them: by the sums, or their texts by the manifests.

    The manifests are read again, without following links: what is uploaded are the bytes that are checked here.
    """
    texts = {CROISSANT: (croissant_text, "croissant"), EVAL: (eval_text, "card --benchmark")}
    beside = (*([PAIRS_FILE] if folder.has_pictures else []), *texts)  # a drawing needs rights, too
    names = [name for name in beside if os.path.lexists(folder.local_root / name)]
    names += [f"{CHARTS_FOLDER}/{file.name}" for file in charts]
    names += [f"{config}/{MANIFEST}" for config in folder.manifests]
    contents = {}
    for name in names:
        with contextlib.closing(PlainFile(folder.local_root, name)) as file:
            contents[name] = file.read(LARGEST_BESIDE)
        place, digest = folder.root / name, hashlib.sha256(contents[name]).hexdigest()
        if name not in texts and f"{digest}  {name}" not in sums.splitlines():
            raise changed_file(place)
        if name in texts and contents[name] != texts[name][0](folder).encode():
            message = (
                f"{place}: expected the metadata of the present files, found others. Run `newsclippings "
                f"{texts[name][1]} {folder.root}`, or remove the file."
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
