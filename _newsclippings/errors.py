"""The errors a user can meet, and the messages that several modules share.

Each message says what was read, what was expected, what was found, and what to do.

Every class takes its whole message as the only argument, so that errors survive the way back from a worker process.
"""

import difflib
import errno
import os
from collections.abc import Iterable

from _newsclippings.facts import HUB_FILES, VISUAL_NEWS_TREE, VISUAL_NEWS_URL
from _newsclippings.text import ForeignError as ForeignError
from _newsclippings.text import as_message
from _newsclippings.text import cleaned as cleaned
from _newsclippings.text import in_words as in_words
from _newsclippings.text import printable as printable
from _newsclippings.text import without_secrets as without_secrets

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class NewsCLIPpingsError(Exception):
    """Base of all errors raised by this package. Its message holds no secrets, and nothing that a terminal obeys."""

    def __init__(self, *message: object) -> None:
        super().__init__(*(as_message(part) if isinstance(part, str) else part for part in message))


class ConfigError(NewsCLIPpingsError, ValueError):
    """A config field has a value that means nothing, or two fields contradict each other."""


class DataNotFoundError(NewsCLIPpingsError, FileNotFoundError):
    """An input file or folder is not there and cannot be fetched, or may not be read."""


class BadFileError(NewsCLIPpingsError, ValueError):
    """An input file is there but does not hold what it should."""


class UnsafePathError(BadFileError):
    """A file names a path that could leave the picture tree."""


class BadTarError(BadFileError):
    """A tar is damaged, compressed, or holds members that are refused."""


class BadPickleError(BadFileError):
    """A pickle holds anything but a dict of number arrays, or is damaged. Nothing in it was executed."""


class MissingDataError(NewsCLIPpingsError, LookupError):
    """Rows of the official file cannot be completed, and `missing="error"` was asked for."""


def bad_value(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """A config field got a value outside its list."""
    allowed = list(allowed)
    given = value if isinstance(value, list | tuple | set | frozenset) else [value]
    unknown = [one for one in given if isinstance(one, str) and one not in allowed]
    hint = did_you_mean(unknown[0], [name for name in allowed if isinstance(name, str)]) if unknown else ""
    return ConfigError(f"{field}={shown(value)} is not known. Allowed: {', '.join(map(repr, allowed))}.{hint}")


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A question that names what was perhaps meant, with a blank before it; "" if nothing is close."""
    by_lower = {one.lower(): one for one in known}
    name = name.lower()[:100]
    close = difflib.get_close_matches(name, by_lower, 1, likeness)
    if not close and len(name) > 2:  # a name that was cut short, such as val or merged
        close = [one for one in by_lower if one.startswith(name)]
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def as_path(field: str, value: object) -> str | None:
    """The text of a path or a URL that somebody passed; None if none was.

    Raises:
        ConfigError: it is something else.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is not None and not isinstance(path, str):
        message = f"{field}={shown(value)} is a {type(value).__name__}; expected a path or a URL."
        raise ConfigError(message)
    return path


def shown(value: object) -> str:
    """A value that somebody passed, as Python writes it, without secrets and not at length."""
    text = without_secrets(repr(value))
    return text if len(text) <= 200 else f"{text[:200]}..."


def bad_file(location: object, expected: str, found: str, do: str = "") -> BadFileError:
    """A file does not hold what was expected."""
    return BadFileError(f"{location}: expected {expected}, found {found}.{' ' + do if do else ''}")


def too_large(location: object, most: int) -> BadFileError:
    """A file is larger than any of its kind can be."""
    return bad_file(location, f"at most {most:,} bytes", "more", "It is another file, or a server that does not stop.")


AGAIN = "Remove the folder of the config and run the same `newsclippings build` again."


def damaged_shard(file: object, cause: Exception) -> BadFileError:
    """A file of a folder that `newsclippings build` wrote cannot be read any more."""
    found = f"that it cannot be read ({' '.join(str(cause).split())[:200]})"
    return bad_file(file, "Parquet as `newsclippings build` wrote it", found, AGAIN)


def other_content(file: object, expected: str, found: str, do: str = "") -> BadFileError:
    """A file of a folder that `newsclippings build` wrote has another SHA-256."""
    do = do or AGAIN
    return BadFileError(f"{file}: expected the SHA-256 {expected}, found {found}. Its content changed. {do}")


def not_among(config: str, absent: list[int], rows: int) -> MissingDataError:
    """Rows are to be given pictures that are not there."""
    return MissingDataError(
        f"{config}: expected a picture for each of {rows} rows, found none for {len(absent)}, the first of image_id "
        f"{absent[0]}. Pass the same split of the config `{config}`, of the same build."
    )


def bad_pickle(location: object, byte: int, after: str, expected: str, found: str, do: str = "") -> BadPickleError:
    """A pickle was refused at a byte; `after` names the last entry before it. `found` quotes nothing unchecked."""
    do = do or "Nothing in it was executed. Get a fresh copy of the file from its authors."
    return BadPickleError(f"{location}: byte {byte}{after}: expected {expected}, found {found}. {do}")


def not_read(url: str, what: str, tries: int, problem: str) -> DataNotFoundError:
    """Something of a remote file could not be read, however often it was tried."""
    return DataNotFoundError(
        f"{url}: expected {what}, tried {tries} times; the last time: {problem}. What was "
        "fetched so far is kept: run it again when the server answers, or download the file and pass the local path."
    )


def unknown_protocol(url: str) -> ConfigError:
    """Nothing here knows how to read a URL."""
    return ConfigError(
        f"{url}: expected https://, hf://, s3:// or another protocol that fsspec knows, found one that it does not. "
        "Correct the address, or download the file and pass the local path."
    )


def no_ranges(url: str) -> BadFileError:
    """A server gives a remote file only as a whole."""
    return bad_file(
        url,
        "a server that answers range requests (206), since only some of the file is needed",
        "one that sends the whole file",
        "Use another server, or download the file and pass the local path.",
    )


def unreadable(path: object, cause: OSError) -> DataNotFoundError:
    """A local file or folder is there, as far as can be told, and cannot be read."""
    if cause.errno in (errno.EACCES, errno.EPERM):
        found, do = "one that may not be read", "Give yourself the right to read it and the folders around it (chmod)"
    elif cause.errno in (errno.ENOENT, errno.ENOTDIR):
        found, do = "none", "Correct the path, or put the file there"
    else:
        found, do = "that it cannot be read", "Check the disk or the network that it is on"
    why = cause.strerror or type(cause).__name__
    return DataNotFoundError(f"{path}: expected a file to read, found {found} ({why}). {do}, or take a copy elsewhere.")


def damaged_tar(tar: str, damage: str) -> BadTarError:
    """A tar could not be read to its end."""
    return BadTarError(
        f"{tar}: expected a whole tar, found that {damage}. Fetch it again (the complete file has 97,916,641,280 "
        "bytes), or use its whole part with missing='null' or missing='drop_pair'."
    )


def zeros_in_tar(tar: str, member: str, byte: int) -> BadTarError:
    """A file in a tar has zeros where its end should be."""
    return BadTarError(
        f"{tar}: {member} is damaged: from byte {byte} of the tar to its end it is zeros, as a download that was "
        "broken off leaves it. Fetch the tar again (the complete file has 97,916,641,280 bytes), or pass "
        "check_images=True with missing='null' or missing='drop_pair', and such a picture counts as missing."
    )


def bad_tar(tar: str, expected: str, found: str) -> BadTarError:
    """A tar is not, or no longer, what its index in the cache says."""
    return BadTarError(
        f"{tar}: expected {expected}, as when it was indexed, found {found}. It changed, or was not read right then: "
        "its index was thrown away, load again."
    )


def changed_tar(tar: str) -> BadTarError:
    """A tar is no longer what it was when reading it began."""
    return BadTarError(
        f"{tar}: expected a tar that stays as it is while it is read, found that it changed. Nothing was kept: try "
        "again when it is at rest."
    )


def no_copy(copy: object, why: str) -> ConfigError:
    """What is fetched of a remote tar cannot be kept."""
    return ConfigError(
        f"{copy}: expected a place to keep what is fetched of a remote tar, found that it cannot be written ({why}). "
        "Remove what is there, or point cache_dir= or HF_DATASETS_CACHE to a folder of your own."
    )


def changed_file(path: object) -> BadFileError:
    """A local file is no longer what it was when reading it began."""
    do = "Its values are not to be trusted: load again when it is at rest."
    return bad_file(path, "a file that stays as it is while it is read", "that it changed", do)


def damaged_cache(path: object) -> BadFileError:
    """A file that this package made and keeps is not what was written."""
    found = "that some of it is damaged or gone"
    return bad_file(path, "what an earlier load wrote there", found, "Load again: it is then made again.")


def other_tar(index: str, tar: str, expected: str, found: str) -> BadTarError:
    """A tar is not, or no longer, the one that was indexed."""
    return BadTarError(
        f"{index} is not the index of {tar}: expected {expected}, found {found}. The tar is another version or was "
        "replaced: make an index of this one (`newsclippings index`), or leave visual_news_index out."
    )


def disk_full(
    folder: object, needed: int, free: int, what: str, else_do: str, done: str = "Nothing was done"
) -> ConfigError:
    """What is to be fetched or written does not fit on the disk."""
    return ConfigError(
        f"{folder}: expected {needed:,} bytes of free disk for {what}, found {free:,}. {done}: make room, "
        f"{else_do}, or ask for fewer splits."
    )


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room on the disk, or no right to more of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def became_full(
    folder: object, needed: int | None, free: int, else_do: str, cause: BaseException | None = None
) -> ConfigError:
    """There was no room for all that is written: on the disk, in a quota, in a file, or for one more file."""
    number = cause.errno if isinstance(cause, OSError) else None
    wanted = "" if needed is None else f"about {needed:,} bytes are needed, "
    found, had, do = "the disk is full", f"{wanted}{free:,} were free", "make room"
    if number == errno.EDQUOT:
        found, had, do = "your quota there is used up", f"{wanted}although {free:,} are free", "remove files of yours"
    elif number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
        had = "its file system allows no larger ones" if most < 0 else f"{most:,} bytes at most"
        found, do = "a file became too large", "allow larger ones (ulimit -f)"
    elif number == errno.ENOSPC and _no_more_files(folder):
        found, had, do = "the disk is full", f"it holds no more files, although {free:,} bytes are free", "remove some"
    return ConfigError(
        f"{folder}: {found}: {had}. Nothing unfinished was kept: {do}, {else_do}, or ask for fewer splits."
    )


def _no_more_files(folder: object) -> bool:
    """Whether the file system of a folder has no place for one more file, however small."""
    try:
        status = os.statvfs(str(folder))
    except OSError:
        return False
    return bool(status.f_files) and not status.f_favail


def no_locks(folder: object, cause: OSError) -> ConfigError:
    """The file system of the cache has no locks, without which `datasets` does nothing."""
    return ConfigError(
        f"{folder}: expected a cache on a file system with locks, found one without ({cause.strerror}), and `datasets` "
        "takes a lock there even to read: point cache_dir= or HF_DATASETS_CACHE to a folder on another disk."
    )


def in_the_way(place: object, what: str) -> ConfigError:
    """Something that nobody wrote here is where a file is to be."""
    return ConfigError(f"{place}: {what}. Nothing was changed there: remove it, and run it again.")


def not_writable(folder: object, cause: OSError) -> ConfigError:
    """The cache may not be written to, so that `datasets` cannot even lock what is in it."""
    return ConfigError(
        f"{folder}: expected a cache folder that may be written to, found that it may not ({cause.strerror}). "
        "`datasets` takes a lock there even to read: point cache_dir= or HF_DATASETS_CACHE to a folder of your own. To "
        "read from a place that nobody may write to, put a folder of `newsclippings build` there, or of save_to_disk()."
    )


def not_pushed(repo: str, status: int | None, problem: str, tries: int) -> NewsCLIPpingsError:
    """A folder could not be uploaded."""
    if status == 401:
        return ConfigError(
            f"{repo}: the Hub does not accept your token: log in anew by `hf auth login`, or set HF_TOKEN."
        )
    if status == 404 and "xet-write-token" in problem:  # asked of a server that keeps files another way
        return ConfigError(
            f"{repo}: this Hub does not store files by Xet, as the client expects: set HF_HUB_DISABLE_XET=1 and run it "
            "again."
        )
    if status in (403, 404):
        return ConfigError(
            f"{repo}: your token may not write there ({status}): use one with the right to write, of that owner."
        )
    last = " ".join(without_secrets(problem).split())[:300]
    why = f"tried {tries} times; the last time: {last}" if status is None or tries > 1 else last
    return DataNotFoundError(
        f"{repo}: could not be uploaded ({why}). Run it again when the Hub answers: what is there is not sent again."
    )


def not_ours(repo: str, found: str) -> ConfigError:
    """A repository has other files in it."""
    return ConfigError(
        f"{repo}: expected a new repository, or one that `newsclippings push` filled, found {found}. Nothing was "
        "uploaded; choose another name."
    )


def history_public(repo: str, file: str, commit: str) -> ConfigError:
    """A private repository is to be opened, and nobody said that all in it may be seen."""
    return ConfigError(
        f"{repo} is private: expected nothing in its history but what is uploaded now, found {printable(file)} in "
        f"commit {commit[:8]}. With --public all of it could be seen, old pictures and articles as well. Nothing was "
        "uploaded: choose another name, or make it public on the Hub yourself."
    )


def changed_meanwhile(config: str) -> BadFileError:
    """An input file is no longer what it was when the build began."""
    return BadFileError(
        f"{config}: expected the input files to stay as they are during a build, found one of them changed since it "
        "began. Nothing was kept: load again when they are at rest."
    )


def old_pyarrow(version: str, kinds: Iterable[str]) -> ConfigError:
    """Rows without a vector are to be written to Parquet by `datasets`, with a pyarrow that cannot do that."""
    return ConfigError(
        f"Some rows have no vector of {', '.join(kinds)}, and with pyarrow {version} `datasets` cannot write them to "
        "Parquet: it needs pyarrow 26. Upgrade it, leave these vectors out, or use `newsclippings build`, whose files "
        "any version writes and reads."
    )


def unsafe_path(location: object, record_id: object, field: str, value: object, why: str) -> UnsafePathError:
    """A record names a picture or article by a path that is not a plain relative one."""
    shown = repr(value)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return UnsafePathError(
        f"{location}: record {record_id}: {field} {shown} was refused: {why}. Expected a path relative to "
        "origin, such as './guardian/images/0540/632.jpg'. Get a fresh copy of the file from its authors."
    )


def no_pictures(looked: Iterable[tuple[str, str]]) -> DataNotFoundError:
    """VisualNews is nowhere: show the tree, what is there of it, and the ways on."""
    found = "\n".join(f"    {place}: {state}" for place, state in looked)
    return DataNotFoundError(
        "The pictures of VisualNews were not found (nor its articles), and they cannot be downloaded for you.\n"
        f"  Expected:\n{VISUAL_NEWS_TREE}\n"
        f"  Looked for:\n{found}\n"
        f"  Ask its authors for VisualNews (a 98 GB tar; there is no need to extract it): {VISUAL_NEWS_URL}\n"
        "  Then pass visual_news='/path/to/origin.tar' (or the folder), or put it where it was looked for.\n"
        "  Without pictures: images='none' builds every other column."
    )


def not_fetched(location: str, cause: BaseException) -> DataNotFoundError:
    """A remote file could not be fetched, or not even asked about."""
    why, location = in_words(cause), without_secrets(location)
    if not location.startswith(HUB_FILES):
        return DataNotFoundError(
            f"{location} could not be fetched ({why}). Expected a file there that this machine may read: check the "
            "address, the network and your access, or download it and pass the local path."
        )
    place = location.removeprefix(HUB_FILES).lstrip("/")
    return DataNotFoundError(
        f"{location} could not be fetched ({why}). It was needed because there is no news_clippings/{place} below "
        "data_dir. Put a copy there (the authors' download.sh makes that tree), or go online: unset HF_HUB_OFFLINE, "
        "or name a mirror in HF_ENDPOINT."
    )
