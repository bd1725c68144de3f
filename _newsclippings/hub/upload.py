"""Publishing a folder that `newsclippings build` wrote, as a dataset repository on the Hugging Face Hub."""

import contextlib
import copy
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any

from tqdm.auto import tqdm

from _newsclippings.errors import ConfigError, HubError, NewsCLIPpingsError
from _newsclippings.facts import CONFIGS, UNIQUE
from _newsclippings.folder import (
    CROISSANT,
    FOLDER,
    LARGEST_CARD,
    MAKERS,
    MANIFEST,
    NUMBERS,
    PICTURE,
    SUMS,
    check_shard,
    other_content,
)
from _newsclippings.hub.plan import MAIN, Upload
from _newsclippings.storage import (
    CARD,
    PAUSE,
    TRIES,
    PlainFile,
    allow_open_files,
    in_time,
    map_ahead,
    read_file,
    write_text,
)
from _newsclippings.text import printable, without_secrets

KIND = "dataset"
THREADS = 2  # hashing releases the lock of the interpreter; more only make a disk seek
OURS = ["*.parquet", f"*/{MANIFEST}", PICTURE, f"{FOLDER}/*", CROISSANT]  # what an earlier push may have left behind
UPLOADS = ("preupload_lfs_files", "create_commit")  # which take as long as they take
MAY_PASS = (408, 409, 412, 429, 500, 502, 503, 504)  # another commit came first, or the server is busy
XET_STATUS = re.compile(r"HTTP status client error \((\d{3})")  # in the text is all that hf_xet tells
# Libraries whose errors are the network's
CLIENTS = ("hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
# What tells of the data, and has no picture or article in it
TEXTS = {".gitattributes", "README.md", "dataset_infos.json", SUMS, CROISSANT, f"{FOLDER}/{NUMBERS}"}
TEXTS |= {f"{config}/{MANIFEST}" for config in (*CONFIGS, UNIQUE)}


def push(upload: Upload, *, public: bool, gated: bool) -> dict[str, Any]:
    """Upload a folder, and tag it with the version of the data if it is uploaded to the branch main.

    Called again after an interruption it uploads only what is not there yet. Files of an earlier push that are no
    longer in the folder are deleted. The card in the folder is written at the end, if the folder may be written to.

    Args:
        upload: what to upload.
        public: whether everybody may see the repository. If not, it is made private, and one that is public refused.
        gated: whether its owner decides who may see the files.

    Returns:
        `url`, `commit`, `branch`, `tag` (None: not tagged), `tag_moved`, and `new`: whether anything was uploaded.

    Raises:
        BadFileError: a file is not what `newsclippings build` wrote.
        ConfigError: nobody is logged in; or the repository has other files in it; or it is public and should not be,
            or should be, and has a history that may hold pictures or articles.
        HubError: the Hub refuses it, cannot be reached, or failed again and again.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        message = "HF_HUB_OFFLINE is set, and nothing can be uploaded: unset it. Nothing was uploaded."
        raise ConfigError(message)
    token = get_token()
    if token is None:
        message = "No token of the Hugging Face Hub: log in by `hf auth login`, or set HF_TOKEN. Nothing was uploaded."
        raise ConfigError(message)
    api = _InTime(HfApi(token=token))
    heads: list[str] = []  # where the branch stood before each try
    tries = 1
    with contextlib.ExitStack() as opened:
        allow_open_files(len(upload.shards))
        shards = {
            name: opened.enter_context(contextlib.closing(PlainFile(upload.folder, name))) for name in upload.shards
        }
        additions = _checked(upload, shards)
        while True:
            try:
                about = _push(api, upload, shards, additions, heads, public=public, gated=gated)
                break
            except NewsCLIPpingsError:
                raise
            except Exception as error:
                cause = _of_hub(error)
                if cause is None:
                    raise
                status = _status(cause)
                passes = status in MAY_PASS if status is not None else not isinstance(cause, TimeoutError)
                if tries == TRIES or not passes:
                    raise _not_pushed(upload.repo_id, status, cause, tries, token) from None
                time.sleep(PAUSE * 3 ** (tries - 1))
                tries += 1
    with contextlib.suppress(OSError):  # of a medium that is read-only
        for name, text in upload.texts.items():
            write_text(upload.folder / name, text, MAKERS[name])
    return {**about, "new": about["commit"] != heads[0]}


class _InTime:
    """The Hub's client; each of its calls that does not upload ends in time."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)
        if name in UPLOADS or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            result = found(*args, **kwargs)
            return list(result) if isinstance(result, Iterator) else result  # page by page, in that time too

        return lambda *args, **kwargs: in_time(lambda: call(*args, **kwargs))


def _checked(upload: Upload, shards: Mapping[str, PlainFile]) -> list[Any]:
    """What is sent, as operations of the Hub's client, which hold its digests: of texts in memory and of open files.

    Raises:
        BadFileError: a file is not, byte by byte, what its manifest says; or has other columns, which might be those
            of pictures.
    """
    from huggingface_hub import CommitOperationAdd

    def operation(name: str) -> Any:
        if name in upload.texts or name in upload.contents:
            data = upload.texts[name].encode() if name in upload.texts else upload.contents[name]
            return CommitOperationAdd(name, data)
        about, features = upload.shards[name], upload.columns[name.partition("/")[0]]
        check_shard(upload.folder / name, about, features, shards[name].path)
        added = CommitOperationAdd(name, shards[name].path)
        found = added.upload_info.sha256.hex()  # of all that is in the file
        shards[name].check_unchanged()
        if found != about["sha256"]:
            raise other_content(upload.folder / name, about["sha256"], found)
        return added

    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=sum(upload.files.values()), desc="SHA-256", unit="B", unit_scale=True, disable=None) as bar,
    ):
        additions = []
        for _, added in map_ahead(pool, operation, list(upload.files), 2 * THREADS):
            additions.append(added)
            bar.update(added.upload_info.size)
    return additions


def _push(
    api: Any,
    upload: Upload,
    shards: Mapping[str, PlainFile],
    additions: list[Any],
    heads: list[str],
    *,
    public: bool,
    gated: bool,
) -> dict[str, Any]:
    from huggingface_hub import CommitOperationDelete

    repo, branch, tag = upload.repo_id, upload.branch, upload.version
    api.create_repo(repo, repo_type=KIND, private=True, exist_ok=True)
    info = api.repo_info(repo, repo_type=KIND)
    new_branch = branch not in [one.name for one in api.list_repo_refs(repo, repo_type=KIND).branches]
    before = api.repo_info(repo, repo_type=KIND, revision=None if new_branch else branch)
    heads.append(before.sha)
    _check_ours(api, repo, before.sha, [file.rfilename for file in before.siblings])
    if not info.private and not public:
        message = f"{repo} is public: pass --public if that is meant, make it private, or choose another name."
        raise ConfigError(message)
    if info.private and public and not upload.rights:
        _check_history(api, upload)
    if gated and not info.gated:  # first, so that nobody sees it in between
        api.update_repo_settings(repo, repo_type=KIND, gated="manual")
        if not api.repo_info(repo, repo_type=KIND).gated:
            message = f"{repo}: {api.endpoint} took the setting but does not gate repositories. Nothing was uploaded."
            raise ConfigError(message)
    if new_branch:
        api.create_branch(repo, repo_type=KIND, branch=branch, exist_ok=True)
    added = [copy.copy(one) for one in additions]  # the client notes in them what it did, in vain where a try failed
    api.preupload_lfs_files(repo, added, repo_type=KIND, revision=branch, free_memory=False)
    for shard in shards.values():  # else the commit might name what was read a moment later
        shard.check_unchanged()
    there = (file.rfilename for file in before.siblings)
    old = [name for name in there if name not in upload.files and any(fnmatchcase(name, one) for one in OURS)]
    api.create_commit(
        repo,
        [*(CommitOperationDelete(name) for name in old), *added],
        repo_type=KIND,
        revision=branch,
        parent_commit=before.sha,  # what was looked at; if somebody else was faster, it is looked at again
        commit_message=f"NewsCLIPpings {tag}: {sum(sum(rows.values()) for rows in upload.rows.values()):,} rows",
    )
    sha = api.repo_info(repo, repo_type=KIND, revision=branch).sha
    moved = _tag(api, repo, tag, sha) if branch == MAIN else False
    if info.private and public:  # last, when all is as it should be
        api.update_repo_settings(repo, repo_type=KIND, private=False)
    return {
        "url": f"{api.endpoint}/datasets/{repo}",
        "commit": sha,
        "branch": branch,
        "tag": tag if branch == MAIN else None,
        "tag_moved": moved,
    }


def _tag(api: Any, repo: str, tag: str, sha: str) -> bool:
    """Tag the head of main; whether the tag was elsewhere. Some servers tag the heads of branches only, by name."""
    tags = {one.name: one.target_commit for one in api.list_repo_refs(repo, repo_type=KIND).tags}
    moved = bool(tags.get(tag, sha) != sha)
    if moved:
        api.delete_tag(repo, repo_type=KIND, tag=tag)
    if tags.get(tag) == sha:
        return False
    try:
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=sha, exist_ok=True)
    except Exception as error:
        if _of_hub(error) is None or api.repo_info(repo, repo_type=KIND, revision=MAIN).sha != sha:
            raise
        api.create_tag(repo, repo_type=KIND, tag=tag, revision=MAIN, exist_ok=True)
    return moved


def _check_history(api: Any, upload: Upload) -> None:
    """Refuse to open a repository where some commit has more than texts and the very files that are uploaded now.

    All of its branches, tags and pull requests are looked at; what the Hub converts by itself is made of these.
    """
    from huggingface_hub.hf_api import RepoFile

    repo = upload.repo_id
    try:
        refs = api.list_repo_refs(repo, repo_type=KIND, include_pull_requests=True)
    except KeyError:  # a server that has none
        refs = api.list_repo_refs(repo, repo_type=KIND)
    heads = {ref.target_commit for ref in (*refs.branches, *refs.tags, *(refs.pull_requests or ()))}
    commits = {one.commit_id for head in heads for one in api.list_repo_commits(repo, repo_type=KIND, revision=head)}
    known = {line[:64] for line in upload.texts[SUMS].splitlines()}
    for commit in sorted(commits):
        for file in api.list_repo_tree(repo, recursive=True, repo_type=KIND, revision=commit):
            if isinstance(file, RepoFile) and file.path not in TEXTS and (not file.lfs or file.lfs.sha256 not in known):
                message = (
                    f"{repo} is private, and --public would show its whole history. Commit {commit[:8]} has "
                    f"{printable(file.path)} in it, which is not uploaded now, as old pictures and articles might be. "
                    "Nothing was uploaded: choose another name, or make it public on the Hub yourself."
                )
                raise ConfigError(message)


def _check_ours(api: Any, repo: str, revision: str, files: list[str]) -> None:
    """Refuse a repository with the files of somebody else, which would be overwritten or deleted."""
    known = {".gitattributes"}
    folders: tuple[str, ...] = ()
    if "README.md" in files:  # which is in the first commit of every push
        card = api.hf_hub_download(repo, "README.md", repo_type=KIND, revision=revision)
        if not all(mark in read_file(card, LARGEST_CARD) for mark in CARD.marks):
            raise _not_ours(repo, "a README.md of somebody else")
        known |= {"README.md", "dataset_infos.json", PICTURE, SUMS, CROISSANT}
        folders = (*CONFIGS, UNIQUE, FOLDER)
    other = [file for file in files if file not in known and file.partition("/")[0] not in folders]
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
