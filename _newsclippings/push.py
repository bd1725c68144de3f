"""Publishing a folder that `newsclippings build` wrote, as a dataset repository on the Hugging Face Hub."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _newsclippings.card import PICTURE, TITLE, manifests, write_card
from _newsclippings.croissant import CROISSANT, croissant_text
from _newsclippings.errors import ConfigError, NewsCLIPpingsError, not_ours, not_pushed
from _newsclippings.network import PAUSE, TRIES
from _newsclippings.parquet_folder import MANIFEST
from _newsclippings.schema import CONFIGS, UNIQUE, VERSION

KIND = "dataset"
OURS = ["*.parquet", f"*/{MANIFEST}", PICTURE, CROISSANT]  # what an earlier push may have left behind
MAY_PASS = (408, 409, 412, 429, 500, 502, 503, 504)  # another commit came first, or the server is busy
RESTRICTED = {"image": "pictures", "article": "articles"}


@dataclass(frozen=True)
class Upload:
    """What is going to be uploaded.

    Attributes:
        folder: what `newsclippings build` wrote.
        repo_id: where to.
        files: name -> bytes.
        rows: config -> split -> rows.
    """

    folder: Path
    repo_id: str
    files: dict[str, int]
    rows: dict[str, dict[str, int]]


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
    names = ["README.md", "dataset_infos.json", *(name for name in (PICTURE, CROISSANT) if (folder / name).exists())]
    names += [f"{config}/{file}" for config, manifest in built.items() for file in (MANIFEST, *manifest["files"])]
    files = {name: (folder / name).stat().st_size for name in names}
    rows = {
        config: {split: about["rows"] for split, about in manifest["splits"].items()}
        for config, manifest in built.items()
    }
    return Upload(folder, repo_id, files, rows)


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
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if token is None:
        message = "No token of the Hugging Face Hub: log in by `hf auth login`, or set HF_TOKEN. Nothing was uploaded."
        raise ConfigError(message)
    write_card(upload.folder, upload.repo_id)
    api = HfApi(token=token)
    tries = 1
    while True:
        try:
            return _push(api, upload, public=public, gated=gated, revision=revision)
        except NewsCLIPpingsError:
            raise
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if not _of_network(error) and status is None:
                raise
            if tries == TRIES or (status is not None and status not in MAY_PASS):
                raise not_pushed(upload.repo_id, status, str(error).replace(token, "***"), tries) from None
            time.sleep(PAUSE * 3 ** (tries - 1))
            tries += 1


def _push(api: Any, upload: Upload, *, public: bool, gated: bool, revision: str | None) -> dict[str, Any]:
    repo = upload.repo_id
    api.create_repo(repo, repo_type=KIND, private=not public, exist_ok=True)
    info = api.repo_info(repo, repo_type=KIND)
    _check_ours(api, repo, [file.rfilename for file in info.siblings])
    if not info.private and not public:
        message = f"{repo} is public: pass --public if that is meant, make it private, or choose another name."
        raise ConfigError(message)
    if info.private and public:
        _settings(api, repo, private=False)
    if gated and not info.gated:
        _settings(api, repo, gated="manual")
    if revision is not None:
        api.create_branch(repo, repo_type=KIND, branch=revision, exist_ok=True)
    before = api.repo_info(repo, repo_type=KIND, revision=revision).sha
    api.upload_folder(
        repo_id=repo,
        repo_type=KIND,
        folder_path=upload.folder,
        revision=revision,
        allow_patterns=list(upload.files),
        delete_patterns=OURS,
        commit_message=f"NewsCLIPpings {VERSION}: {sum(sum(rows.values()) for rows in upload.rows.values()):,} rows",
    )
    sha = api.repo_info(repo, repo_type=KIND, revision=revision).sha
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type=KIND).tags}
    if tags.get(VERSION, sha) != sha:
        api.delete_tag(repo, repo_type=KIND, tag=VERSION)
    if tags.get(VERSION) != sha:
        api.create_tag(repo, repo_type=KIND, tag=VERSION, revision=sha, exist_ok=True)
    return {
        "url": f"{api.endpoint}/datasets/{repo}",
        "commit": sha,
        "new": sha != before,
        "tag": VERSION,
        "tag_moved": tags.get(VERSION, sha) != sha,
    }


def _check_ours(api: Any, repo: str, files: list[str]) -> None:
    """Refuse a repository with the files of somebody else, which would be overwritten or deleted."""
    if "README.md" in files:
        card = Path(api.hf_hub_download(repo, "README.md", repo_type=KIND)).read_text(encoding="utf-8")
        if TITLE not in card:
            raise not_ours(repo, "a README.md that is not ours")
    names = {".gitattributes", "README.md", "dataset_infos.json", PICTURE, CROISSANT}
    other = [file for file in files if file not in names and file.partition("/")[0] not in (*CONFIGS, UNIQUE)]
    if other:
        raise not_ours(repo, other[0])


def _settings(api: Any, repo: str, **settings: Any) -> None:
    if not hasattr(api, "update_repo_settings"):
        message = (
            f"{repo}: to change who may see a repository needs huggingface_hub 0.25 or later. Nothing was uploaded."
        )
        raise ConfigError(message)
    api.update_repo_settings(repo, repo_type=KIND, **settings)


def _of_network(error: BaseException) -> bool:
    """Whether an error comes from the network, whatever library the Hub's client uses for it."""
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in (
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "requests",
        "urllib3",
    )
