"""Upload a built folder, or a folder of vectors, to the Hugging Face Hub, as a dataset repository."""

import contextlib
import copy
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from _newsclippings.errors import ConfigError, HubError, NewsCLIPpingsError
from _newsclippings.folder import (
    CHARTS_FOLDER,
    CROISSANT,
    EVAL,
    LARGEST_CARD,
    MAKERS,
    MANIFEST,
    PAIRS_FILE,
    README,
    STATS_FILE,
    SUMS,
    other_content,
)
from _newsclippings.hub.failures import find_hub_error, may_pass, status_of
from _newsclippings.hub.plan import MAIN, Kind, Upload
from _newsclippings.storage import (
    PAUSE,
    TRIES,
    PlainFile,
    allow_open_files,
    call_with_timeout,
    map_ahead,
    progress_bar,
    read_file,
    write_text,
)
from _newsclippings.text import printable, without_secrets
from _newsclippings.vectors import PLAN

KIND = "dataset"
THREADS = 2  # hashing releases the lock of the interpreter; more threads only make a disk seek
OLD_FILES = [
    "*.parquet",
    f"*/{MANIFEST}",
    PAIRS_FILE,
    f"{CHARTS_FOLDER}/*",
    CROISSANT,
    EVAL,
]  # that an earlier push may leave
UPLOADS = ("preupload_lfs_files", "create_commit")  # calls without a time limit
# Files that describe the data, without pictures or articles
TEXTS = {".gitattributes", README, "dataset_infos.json", SUMS, CROISSANT, EVAL, PLAN, f"{CHARTS_FOLDER}/{STATS_FILE}"}
_Value = TypeVar("_Value")
_MANIFEST = re.compile(rf"[a-z][a-z0-9_]{{0,62}}/{re.escape(MANIFEST)}")


def push(upload: Upload, *, public: bool, gated: bool) -> dict[str, Any]:
    """Upload a folder, and tag it with the version of the data, if it has one, on the branch main.

    After an interruption, the same call uploads only the files that the repository lacks. Files of an earlier push that
    are no longer in the folder are deleted. The card in the folder is written at the end, if the folder is writable.

    Args:
        upload: the files to upload.
        public: whether everybody may see the repository. If not, it is made private, and a public one is refused.
        gated: whether its owner decides who may see the files.

    Returns:
        `url`, `commit`, `branch`, `tag` (None: not tagged), `tag_moved`, and `new`: whether anything was uploaded.

    Raises:
        BadFileError: a file is not what this package wrote.
        ConfigError: there is no token, or it may not write there; or the repository is public without `public`; or with
            `public`, its history may hold pictures or articles.
        HubError: the Hub refuses the upload, cannot be reached, or failed again and again.
    """
    from huggingface_hub import HfApi

    token = require_token()
    api = HubInTime(HfApi(token=token))
    heads: list[str] = []  # the commit of the branch before each try
    with contextlib.ExitStack() as opened:
        allow_open_files(len(upload.data))
        files = {name: opened.enter_context(contextlib.closing(PlainFile(upload.root, name))) for name in upload.data}
        additions = _checked(upload, files)

        def push_once() -> dict[str, Any]:
            return _push(api, upload, files, additions, heads, public=public, gated=gated)

        pushed = try_push(push_once, upload.repo_id, token)
    with contextlib.suppress(OSError):  # of a medium that is read-only
        for name, text in upload.texts.items():
            write_text(upload.root / name, text, MAKERS[name])
    return {**pushed, "new": pushed["commit"] != heads[0]}


def try_push(push: Callable[[], _Value], repo_id: str, token: str) -> _Value:
    """Return what `push` returns; call it again after an error of the Hub that may pass.

    Raises:
        HubError: the Hub refuses the upload, cannot be reached, or failed again and again.
    """
    tries = 1
    while True:
        try:
            return push()
        except NewsCLIPpingsError:
            raise
        except Exception as error:
            cause = find_hub_error(error)
            if cause is None:
                raise
            if tries == TRIES or not may_pass(cause):
                raise _not_pushed(repo_id, status_of(cause), cause, tries, token) from None
        time.sleep(PAUSE * 3 ** (tries - 1))
        tries += 1


def require_token() -> str:
    """Return the token of the Hub, for an upload.

    Raises:
        ConfigError: there is none, or the Hub's client is offline.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        message = "HF_HUB_OFFLINE is set, and nothing can be uploaded: unset it. Nothing was uploaded."
        raise ConfigError(message)
    token: str | None = get_token()
    if token is None:
        message = "No token of the Hugging Face Hub: log in by `hf auth login`, or set HF_TOKEN. Nothing was uploaded."
        raise ConfigError(message)
    return token


class HubInTime:
    """The Hub's client, with a time limit on every call that does not upload."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._api, name)
        if name in UPLOADS or not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            return list(result) if isinstance(result, Iterator) else result  # all pages within the limit

        return lambda *args, **kwargs: call_with_timeout(lambda: call(*args, **kwargs))


def _checked(upload: Upload, files: Mapping[str, PlainFile]) -> list[Any]:
    """Check all files, right before they are sent.

    Returns:
        Operations of the Hub's client, which hold the digests of texts in memory and of open files.

    Raises:
        BadFileError: a file differs from its manifest or plan, or has other columns, which might be pictures.
    """
    from huggingface_hub import CommitOperationAdd

    def operation(name: str) -> Any:
        if name in upload.texts or name in upload.contents:
            data = upload.texts[name].encode() if name in upload.texts else upload.contents[name]
            return CommitOperationAdd(name, data)
        expected, opened = upload.data[name], files[name]
        expected.check(opened.path)
        added = CommitOperationAdd(name, opened.path)
        sha256 = added.upload_info.sha256.hex()  # of the whole file
        opened.check_unchanged()
        if sha256 != expected.sha256:
            raise other_content(opened.place, expected.sha256, sha256, upload.kind.again)
        return added

    sizes = upload.files
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress_bar(total=sum(sizes.values()), desc="SHA-256", unit="B", unit_scale=True) as bar,
    ):
        additions = []
        for _, added in map_ahead(pool, operation, list(sizes), 2 * THREADS):
            additions.append(added)
            bar.update(added.upload_info.size)
    return additions


def _push(
    api: Any,
    upload: Upload,
    files: Mapping[str, PlainFile],
    additions: list[Any],
    heads: list[str],
    *,
    public: bool,
    gated: bool,
) -> dict[str, Any]:
    from huggingface_hub import CommitOperationDelete

    repo, branch = upload.repo_id, upload.branch
    api.create_repo(repo, repo_type=KIND, private=True, exist_ok=True)
    info = api.repo_info(repo, repo_type=KIND)
    new_branch = branch not in [ref.name for ref in api.list_repo_refs(repo, repo_type=KIND).branches]
    before = api.repo_info(repo, repo_type=KIND, revision=None if new_branch else branch)
    heads.append(before.sha)
    remote = [sibling.rfilename for sibling in before.siblings]
    _refuse_foreign_files(api, repo, before.sha, remote, upload.kind)
    if not info.private and not public:
        message = f"{repo} is public: pass --public if that is meant, make it private, or choose another name."
        raise ConfigError(message)
    if info.private and public and not upload.rights:
        _check_history(api, upload)
    if gated and not info.gated:  # before the upload, so that nobody sees the files ungated
        api.update_repo_settings(repo, repo_type=KIND, gated="manual")
        if not api.repo_info(repo, repo_type=KIND).gated:
            message = f"{repo}: {api.endpoint} took the setting but does not gate repositories. Nothing was uploaded."
            raise ConfigError(message)
    if new_branch:
        api.create_branch(repo, repo_type=KIND, branch=branch, exist_ok=True)
    added = [
        copy.copy(addition) for addition in additions
    ]  # the client notes in them what it did, also in failed tries
    api.preupload_lfs_files(repo, added, repo_type=KIND, revision=branch, free_memory=False)
    for file in files.values():  # else the commit might name bytes that were written after the check
        file.check_unchanged()
    sent = upload.files
    old = [name for name in remote if name not in sent and any(fnmatchcase(name, glob) for glob in OLD_FILES)]
    api.create_commit(
        repo,
        [*(CommitOperationDelete(name) for name in old), *added],
        repo_type=KIND,
        revision=branch,
        parent_commit=before.sha,  # that was checked; if another commit came first, the next try checks that
        commit_message=upload.title,
    )
    sha = api.repo_info(repo, repo_type=KIND, revision=branch).sha
    tag = upload.version if branch == MAIN else None
    moved = _tag(api, repo, tag, sha) if tag else False
    if info.private and public:  # last, when everything is in place
        api.update_repo_settings(repo, repo_type=KIND, private=False)
    return {
        "url": f"{api.endpoint}/datasets/{repo}",
        "commit": sha,
        "branch": branch,
        "tag": tag,
        "tag_moved": moved,
    }


def _tag(api: Any, repo: str, tag: str, sha: str) -> bool:
    """Tag the head of main. Some servers tag the heads of branches only, by name.

    Returns:
        Whether the tag was at another commit before.
    """
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo, repo_type=KIND).tags}
    moved = bool(tags.get(tag, sha) != sha)
    if moved:
        api.delete_tag(repo, repo_type=KIND, tag=tag)
    if tags.get(tag) == sha:
        return False
    try:
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=sha, exist_ok=True)
    except Exception as error:
        if find_hub_error(error) is None or api.repo_info(repo, repo_type=KIND, revision=MAIN).sha != sha:
            raise
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=MAIN, exist_ok=True)
    return moved


def _check_history(api: Any, upload: Upload) -> None:
    """Refuse to make a repository public if a commit has more than texts and the files that are uploaded now.

    Covers all branches, tags and pull requests; files that the Hub converts by itself are made of these.
    """
    from huggingface_hub.hf_api import RepoFile

    repo = upload.repo_id
    try:
        refs = api.list_repo_refs(repo, repo_type=KIND, include_pull_requests=True)
    except KeyError:  # a server without pull requests
        refs = api.list_repo_refs(repo, repo_type=KIND)
    heads = {ref.target_commit for ref in (*refs.branches, *refs.tags, *(refs.pull_requests or ()))}
    commits = {c.commit_id for head in heads for c in api.list_repo_commits(repo, repo_type=KIND, revision=head)}
    known = {*upload.sums.values()}
    for commit in sorted(commits):
        for file in api.list_repo_tree(repo, recursive=True, repo_type=KIND, revision=commit):
            if isinstance(file, RepoFile) and not is_text(file.path) and (not file.lfs or file.lfs.sha256 not in known):
                message = (
                    f"{repo} is private, and --public would show its whole history. Commit {commit[:8]} has "
                    f"{printable(file.path)} in it, which is not uploaded now, as old pictures and articles might be. "
                    "Nothing was uploaded: choose another name, or make it public on the Hub yourself."
                )
                raise ConfigError(message)


def is_text(name: str) -> bool:
    """Check whether a file describes the data, without pictures or articles."""
    return name in TEXTS or _MANIFEST.fullmatch(name) is not None


def _refuse_foreign_files(api: Any, repo: str, revision: str, files: list[str], kind: Kind) -> None:
    """Refuse a repository with files that no push of this kind wrote, which would be overwritten or deleted."""
    known: tuple[str, ...] = (".gitattributes",)
    if README in files:  # the first commit of every push has it
        card = api.hf_hub_download(repo, README, repo_type=KIND, revision=revision)
        if not all(mark in read_file(card, LARGEST_CARD) for mark in kind.card.marks):
            raise _not_ours(repo, "a README.md that it did not write")
        known += kind.names
    other = [file for file in files if not any(fnmatchcase(file, name) for name in known)]
    if other:
        raise _not_ours(repo, other[0])


def _not_ours(repo: str, found: str) -> ConfigError:
    return ConfigError(
        f"{repo}: the repository has other files in it: expected a new one, or one that `newsclippings push` filled, "
        f"found {found}. Nothing was uploaded; choose another name."
    )


def _not_pushed(repo: str, status: int | None, error: BaseException, tries: int, token: str) -> HubError:
    """The error of an upload that the Hub refused, or that failed too often."""
    if status == 401:
        return HubError(
            f"{repo}: the Hub does not accept your token: log in again by `hf auth login`, or set HF_TOKEN."
        )
    # Asked of a server that stores files another way; the address, too, hf_xet gives in its text only
    if status == 404 and "/xet-write-token/" in str(error):
        return HubError(
            f"{repo}: this Hub does not store files by Xet, as the client expects: set HF_HUB_DISABLE_XET=1 and run it "
            "again."
        )
    if status in (403, 404):
        return HubError(
            f"{repo}: your token may not write there ({status}): use one with write access, of the repository's owner."
        )
    last = " ".join(without_secrets(str(error).replace(token, "***")).split())[:300]
    why = f"tried {tries} times; the last time: {last}" if status is None or tries > 1 else last
    return HubError(
        f"{repo}: could not be uploaded ({why}). Run it again when the Hub answers: files that arrived are not sent "
        "again."
    )
