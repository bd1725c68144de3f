"""Publishing a folder that `newsclippings build` wrote, as a dataset repository on the Hugging Face Hub."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _newsclippings.card import PICTURE, TITLE, card_files, write_card
from _newsclippings.charts import FOLDER, current_charts
from _newsclippings.checksums import SUMS
from _newsclippings.croissant import CROISSANT, croissant_text
from _newsclippings.errors import ConfigError, NewsCLIPpingsError, bad_file, not_ours, not_pushed
from _newsclippings.manifests import manifests, require_pictures, shows_pictures, version
from _newsclippings.network import PAUSE, TRIES
from _newsclippings.parquet_folder import MANIFEST
from _newsclippings.schema import CONFIGS, UNIQUE

KIND = "dataset"
OURS = ["*.parquet", f"*/{MANIFEST}", PICTURE, f"{FOLDER}/*", CROISSANT]  # what an earlier push may have left behind
MAY_PASS = (408, 409, 412, 429, 500, 502, 503, 504)  # another commit came first, or the server is busy
XET_STATUS = re.compile(r"HTTP status client error \((\d{3})")  # in the text is all that hf_xet tells
# Libraries whose errors are the network's
CLIENTS = ("hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
RESTRICTED = {"image": "pictures", "article": "articles"}


@dataclass(frozen=True)
class Upload:
    """What is going to be uploaded.

    Attributes:
        folder: what `newsclippings build` wrote.
        repo_id: where to.
        files: name -> bytes.
        rows: config -> split -> rows.
        version: of the data, by which they are tagged.
    """

    folder: Path
    repo_id: str
    files: dict[str, int]
    rows: dict[str, dict[str, int]]
    version: str


def plan_upload(folder: Path, repo_id: str, *, with_images: bool, have_the_rights: bool) -> Upload:
    """Look what there is to upload, and whether it may be.

    Raises:
        BadFileError: the folder is not one that `newsclippings build` wrote.
        ConfigError: it has pictures or articles, and nobody said that they may be passed on; or the name would not do;
            or its croissant.json describes other files.
    """
    owner, slash, name = repo_id.partition("/")
    if not (owner and slash and name) or "/" in name:
        message = f"{repo_id!r}: expected a repository's name with its owner's, such as 'me/news-clippings'."
        raise ConfigError(message)
    if name.lower().removesuffix(".py") == "newsclippings":
        message = (
            f"{repo_id!r}: a repository of this name could not be loaded where newsclippings.py lies, which `datasets` "
            "takes for its script. Choose another, such as 'news-clippings'."
        )
        raise ConfigError(message)
    built = manifests(folder)
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
    files = {file.name: len(text.encode()) for file, text in card_files(folder, repo_id).items()}
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
    return Upload(folder, repo_id, files, rows, version(built))


def _check_size(file: Path, expected: int) -> None:
    found = f"{file.stat().st_size:,}" if file.is_file() else "no file"
    if found != f"{expected:,}":
        raise bad_file(file, f"{expected:,} bytes, as its manifest says", found, "Build the folder again.")


def push(upload: Upload, *, public: bool, gated: bool, revision: str | None = None) -> dict[str, Any]:
    """Upload a folder, and tag it with the version of the data.

    Called again after an interruption it uploads only what is not there yet. Files of an earlier push that are no
    longer in the folder are deleted.

    Args:
        upload: what to upload.
        public: whether everybody may see the repository. If not, it is made private, and one that is public refused.
        gated: whether its owner decides who may see the files.
        revision: branch to upload to. Default: main.

    Returns:
        `url`, `commit`, `tag` and `tag_moved`.

    Raises:
        ConfigError: nobody is logged in, or may not write there; or the repository is public and should not be.
        DataNotFoundError: the Hub cannot be reached, or failed again and again.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        message = "HF_HUB_OFFLINE is set, and nothing can be uploaded: unset it. Nothing was uploaded."
        raise ConfigError(message)
    token = get_token()
    if token is None:
        message = "No token of the Hugging Face Hub: log in by `hf auth login`, or set HF_TOKEN. Nothing was uploaded."
        raise ConfigError(message)
    write_card(upload.folder, upload.repo_id)
    api = HfApi(token=token)
    heads: list[str] = []  # where the branch stood before each try
    tries = 1
    while True:
        try:
            about = _push(api, upload, heads, public=public, gated=gated, revision=revision)
            return {**about, "new": about["commit"] != heads[0]}
        except NewsCLIPpingsError:
            raise
        except Exception as error:
            cause = _of_hub(error)
            if cause is None:
                raise
            status = _status(cause)
            if tries == TRIES or (status is not None and status not in MAY_PASS):
                raise not_pushed(upload.repo_id, status, str(cause).replace(token, "***"), tries) from None
            time.sleep(PAUSE * 3 ** (tries - 1))
            tries += 1


def _push(
    api: Any, upload: Upload, heads: list[str], *, public: bool, gated: bool, revision: str | None
) -> dict[str, Any]:
    repo, tag = upload.repo_id, upload.version
    api.create_repo(repo, repo_type=KIND, private=not public, exist_ok=True)
    info = api.repo_info(repo, repo_type=KIND)
    branches = [branch.name for branch in api.list_repo_refs(repo, repo_type=KIND).branches]
    new_branch = revision is not None and revision not in branches
    before = api.repo_info(repo, repo_type=KIND, revision=None if new_branch else revision)
    heads.append(before.sha)
    _check_ours(api, repo, before.sha, [file.rfilename for file in before.siblings])
    if not info.private and not public:
        message = f"{repo} is public: pass --public if that is meant, make it private, or choose another name."
        raise ConfigError(message)
    if gated and not info.gated:  # first, so that nobody sees it in between
        _settings(api, repo, gated="manual")
        if not api.repo_info(repo, repo_type=KIND).gated:
            message = f"{repo}: {api.endpoint} took the setting but does not gate repositories. Nothing was uploaded."
            raise ConfigError(message)
    if info.private and public:
        _settings(api, repo, private=False)
    if new_branch:
        api.create_branch(repo, repo_type=KIND, branch=revision, exist_ok=True)
    api.upload_folder(
        repo_id=repo,
        repo_type=KIND,
        folder_path=upload.folder,
        revision=revision,
        parent_commit=before.sha,  # what was looked at; if somebody else was faster, it is looked at again
        allow_patterns=list(upload.files),
        delete_patterns=OURS,
        commit_message=f"NewsCLIPpings {tag}: {sum(sum(rows.values()) for rows in upload.rows.values()):,} rows",
    )
    sha = api.repo_info(repo, repo_type=KIND, revision=revision).sha
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type=KIND).tags}
    if tags.get(tag, sha) != sha:
        api.delete_tag(repo, repo_type=KIND, tag=tag)
    if tags.get(tag) != sha:
        _tag(api, repo, tag, sha, revision or "main")
    return {
        "url": f"{api.endpoint}/datasets/{repo}",
        "commit": sha,
        "tag": tag,
        "tag_moved": tags.get(tag, sha) != sha,
    }


def _tag(api: Any, repo: str, tag: str, sha: str, branch: str) -> None:
    """Tag a commit; where a server tags the heads of branches only, its branch, if that still ends with it."""
    try:
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=sha, exist_ok=True)
    except Exception as error:
        if _of_hub(error) is None or api.repo_info(repo, repo_type=KIND, revision=branch).sha != sha:
            raise
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=branch, exist_ok=True)


def _check_ours(api: Any, repo: str, revision: str, files: list[str]) -> None:
    """Refuse a repository with the files of somebody else, which would be overwritten or deleted."""
    known = {".gitattributes"}
    folders: tuple[str, ...] = ()
    if "README.md" in files:  # which is in the first commit of every push
        card = api.hf_hub_download(repo, "README.md", repo_type=KIND, revision=revision)
        if TITLE not in Path(card).read_text(encoding="utf-8"):
            raise not_ours(repo, "a README.md that is not ours")
        known |= {"README.md", "dataset_infos.json", PICTURE, SUMS, CROISSANT}
        folders = (*CONFIGS, UNIQUE, FOLDER)
    other = [file for file in files if file not in known and file.partition("/")[0] not in folders]
    if other:
        raise not_ours(repo, other[0])


def _settings(api: Any, repo: str, **settings: Any) -> None:
    if not hasattr(api, "update_repo_settings"):
        message = (
            f"{repo}: to change who may see a repository needs huggingface_hub 0.25 or later. Nothing was uploaded."
        )
        raise ConfigError(message)
    api.update_repo_settings(repo, repo_type=KIND, **settings)


def _status(error: BaseException) -> int | None:
    """The status of the answer that an error was made of, if there was one."""
    told = XET_STATUS.search(str(error))
    status: int | None = getattr(getattr(error, "response", None), "status_code", int(told[1]) if told else None)
    return status


def _of_hub(error: BaseException | None) -> BaseException | None:
    """What the Hub or the network said, whatever library the client uses, and whatever it wrapped around the error."""
    while error is not None:
        library = type(error).__module__.partition(".")[0]
        answered = getattr(error, "response", None) is not None
        if answered or isinstance(error, ConnectionError | TimeoutError) or library in CLIENTS:
            return error
        error = error.__cause__
    return None
