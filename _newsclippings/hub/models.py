"""Runs of `newsclippings train` on the Hugging Face Hub: one is pushed as a model repository, or fetched from it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from _newsclippings.errors import ConfigError, DataNotFoundError, RemoteReadError
from _newsclippings.hub.failures import find_hub_error, status_of
from _newsclippings.hub.upload import HubInTime, require_token, try_push
from _newsclippings.storage import call_with_timeout
from _newsclippings.text import describe_error, remember_token

KIND: Final = "model"
CARD: Final = "README.md"


def push_model(files: Mapping[str, Path], repo_id: str, mark: bytes, *, public: bool) -> str:
    """Upload the files of a run as one commit, and return the address of the repository.

    Args:
        files: name in the repository -> file; README.md is among them.
        repo_id: OWNER/NAME on the Hub.
        mark: what the README.md of every run has in it. A repository with another one is refused.
        public: whether everybody may see the repository. If not, it is made private, and a public one is refused.

    Raises:
        ConfigError: there is no token, or it may not write there; or the repository is public without `public`, or has
            files of another program.
        HubError: the Hub refuses the upload, cannot be reached, or failed again and again.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    token = require_token()
    api = HubInTime(HfApi(token=token))

    def push() -> str:
        api.create_repo(repo_id, repo_type=KIND, private=True, exist_ok=True)
        info = api.repo_info(repo_id, repo_type=KIND)
        _check_repository(api, repo_id, info, mark, public=public)
        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        api.preupload_lfs_files(repo_id, added, repo_type=KIND, free_memory=False)
        title = "Upload a run of newsclippings train"
        api.create_commit(repo_id, added, repo_type=KIND, parent_commit=info.sha, commit_message=title)
        if info.private and public:
            api.update_repo_settings(repo_id, repo_type=KIND, private=False)
        return f"{api.endpoint}/{repo_id}"

    return try_push(push, repo_id, token)


def _check_repository(api: Any, repo: str, info: Any, mark: bytes, *, public: bool) -> None:
    if not info.private and not public:
        message = (
            f"{repo} is public: pass --hub_private_repo false if that is meant, make it private, or choose another "
            "name. Nothing was uploaded."
        )
        raise ConfigError(message)
    names = [sibling.rfilename for sibling in info.siblings if sibling.rfilename != ".gitattributes"]
    if not names:
        return
    card = api.hf_hub_download(repo, CARD, repo_type=KIND, revision=info.sha) if CARD in names else None
    if card is None or mark not in Path(card).read_bytes():
        message = (
            f"{repo}: expected a new repository, or one with a run of newsclippings train, found {names[0]}. Nothing "
            "was uploaded: choose another name."
        )
        raise ConfigError(message)


def fetch_model(repo_id: str, patterns: Iterable[str], **where: Any) -> Path:
    """Fetch files of a model repository into the cache of the Hub's client, and return their folder.

    Args:
        repo_id: OWNER/NAME on the Hub.
        patterns: of the names of the files.
        where: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`, as of `snapshot_download`.

    Raises:
        DataNotFoundError: there is no such repository, or the Hub refuses access.
        RemoteReadError: the Hub does not answer.
    """
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    remember_token(get_token())
    try:
        return Path(call_with_timeout(lambda: snapshot_download(repo_id, allow_patterns=list(patterns), **where)))
    except Exception as error:
        cause = find_hub_error(error)
        status = None if cause is None else status_of(cause)
        if status in (401, 403, 404):
            message = (
                f"{repo_id}: there is no such folder here, and the Hub has no such model, or does not let you read it "
                f"({status}). Check the name; if it is private, set HF_TOKEN or log in by `hf auth login`."
            )
            raise DataNotFoundError(message) from error
        if cause is None and not isinstance(error, LocalEntryNotFoundError):
            raise
        why = describe_error(cause or error)
        message = (
            f"{repo_id}: there is no such folder here, and the Hub could not be asked ({why}). Try it again, or pass "
            "the folder of a run."
        )
        raise RemoteReadError(message) from error
