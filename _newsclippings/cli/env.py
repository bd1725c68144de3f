"""The command `newsclippings env`: what a report of a problem needs."""

import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

from _newsclippings.cli.options import FORMAT, errors_in_a_line, say, say_json
from _newsclippings.facts import NAME, VERSION
from _newsclippings.text import HIDDEN, without_secrets

# Variables that change what the package or one of its libraries does
_VARIABLES: Final = re.compile(
    r"NEWSCLIPPINGS_.+|HF_.+|HUGGINGFACE_.+|TRANSFORMERS_.+|XDG_CACHE_HOME|XDG_DATA_DIRS|TMPDIR|TQDM_.+|FSSPEC_.+"
    r"|(AWS|GOOGLE|GCS|GCSFS|S3)_.+|(https?|all|no)_proxy|SSL_CERT_.+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|CUDA_VISIBLE_DEVICES|PYTORCH_.+|OMP_NUM_THREADS|RAY_.+|RANK|WORLD_SIZE|LOCAL_RANK|MASTER_(ADDR|PORT)"
    r"|SLURM_(PROCID|NTASKS|LOCALID|JOB_ID)|PYTHON(PATH|HASHSEED|UTF8|IOENCODING)|LANG|LC_ALL",
    re.IGNORECASE,
)
_SECRET: Final = re.compile(r"token|secret|key|passw|credential|signature|auth", re.IGNORECASE)
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@click.command(short_help="Print what a report of a problem needs: versions, paths, caches.")
@FORMAT
@errors_in_a_line
def env(form: str) -> None:
    """Print versions of Python, this package and its libraries, paths, caches with their sizes, and variables.

    It opens no connection. Tokens, passwords and keys are hidden; read it before you publish it, since paths may have
    your name.

    \b
    Example:
      newsclippings env
      newsclippings env --format json
    """
    import platform  # these imports are slow, and the help of all commands needs none of them

    found: dict[str, dict[str, Any]] = {
        "newsclippings": {"version": VERSION, "folder": str(Path(__file__).parents[2])},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "encoding": sys.getfilesystemencoding(),
        },
        **_list_libraries(),
        "caches": _list_caches(),
        "variables": _list_variables(),
    }
    if form == "json":
        say_json(found, indent=1)
        return
    for title, facts in found.items():
        say(f"{title}:")
        for name, value in facts.items():
            say(f"  {name:20} {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, dict):  # a cache
        size = "not there" if value["bytes"] is None else f"{value['bytes']:,} bytes in {value['files']:,} files"
        return f"{value['path']}: {size}, {value['free_bytes']:,} bytes are free on its disk"
    return "not installed" if value is None else str(value)


def _list_libraries() -> dict[str, dict[str, str | None]]:
    """List libraries by what needs them: `libraries` for all, `extra NAME` for an extra; name -> version, or None."""
    from importlib import metadata

    groups: dict[str, dict[str, str | None]] = {"libraries": {}}
    try:
        needed = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:  # run from a folder without an installation
        needed = []
    for text in needed:
        requirement, _, condition = text.partition(";")
        extra = _EXTRA.search(condition)
        name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
        try:
            version: str | None = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        groups.setdefault(f"extra {extra[1]}" if extra else "libraries", {})[name] = version
    return groups


def _list_caches() -> dict[str, dict[str, Any]]:
    """List the folders in which files are kept, with their sizes."""
    from _newsclippings.storage import cache_folder

    root = cache_folder()
    home = Path(os.path.expanduser(os.environ.get("HF_HOME", root.parent)))
    hub = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))
    return {name: _measure(folder) for name, folder in {"kept": root / NAME, "datasets": root, "hub": hub}.items()}


def _measure(folder: Path) -> dict[str, Any]:
    import shutil

    sizes = []
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                sizes.append(os.lstat(os.path.join(path, file)).st_size)
            except OSError:  # removed since, or not allowed
                continue
    above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return {
        "path": str(folder),
        "bytes": sum(sizes) if folder.exists() else None,
        "files": len(sizes),
        "free_bytes": shutil.disk_usage(above).free,
    }


def _list_variables() -> dict[str, str]:
    named = {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}
    return {name: HIDDEN if _SECRET.search(name) else without_secrets(value) for name, value in named.items()}
