"""Compute the SHA-256 of the inputs, and compare those of the authors' files with the Hub."""

from pathlib import PurePath
from typing import Any

from _newsclippings.check.report import Report
from _newsclippings.facts import HUB_FILES, HUB_REPO, HUB_REVISION
from _newsclippings.storage import call_with_timeout, compute_hub_digests, progress_bar
from _newsclippings.text import describe_error


def check_digests(report: Report) -> None:
    """Compute the SHA-256 of each file in a report, and compare the authors' files with the Hub.

    If no file is the published one, they are taken for the user's own, which is a note; otherwise each file that
    differs is a fault. No digests of VisualNews are published.
    """
    local = {location: entry for location, entry in report.files.items() if entry["bytes"] is not None}
    names = {location: name for location in local if (name := _published_name(location))}
    known = _ask_hub(report, sorted(set(names.values())))
    total = sum(entry["bytes"] for entry in local.values())
    with progress_bar(total=total, desc="SHA-256", unit="B", unit_scale=True) as bar:
        for location, entry in local.items():
            published = (known or {}).get(names.get(location, ""))
            with report.collecting(location):
                entry["sha256"], git = compute_hub_digests(location, bar.update)
                if published is not None:
                    entry["as_published"] = published == (entry["sha256"] if len(published) == 64 else git)
    if known is None:
        return
    compared = {location: entry for location, entry in local.items() if "as_published" in entry}
    same = sum(entry["as_published"] for entry in compared.values())
    if same or not compared:
        for location in (location for location, entry in compared.items() if not entry["as_published"]):
            expected = f"the digest of {HUB_FILES}/{names[location]}, {known[names[location]]}"
            sha256 = compared[location]["sha256"]
            message = f"{location}: expected {expected}, found another, SHA-256 {sha256}. Download it again."
            report.note_fault(False, location, message)
        note = f"{same:,} of {len(compared):,} files have the digest of the authors' file, of {len(local):,} in all."
    else:
        note = f"None of {len(compared):,} files has the digest of the authors' file: these are your own files."
    report.notes.append(note + " Those of VisualNews are not published.")


def _published_name(location: str) -> str | None:
    """Return the authors' name of a file, guessed from its path; None for files of VisualNews."""
    kind, folder, name = ("", "", "", *PurePath(location).parts)[-3:]
    if folder == "metadata":
        return f"metadata/{name}"
    if kind == "embeddings":
        return f"embeddings/{folder}/{folder}_{name.removeprefix(f'{folder}_')}"  # the authors' README omits the prefix
    return f"data/{folder}/{name}" if kind == "data" else None


def _ask_hub(report: Report, names: list[str]) -> dict[str, str] | None:
    """Ask the Hub for digests: name -> SHA-256, or git's SHA-1 for small files; None if the Hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=False)
        infos = call_with_timeout(lambda: api.get_paths_info(HUB_REPO, names, revision=HUB_REVISION)) if names else []
    except Exception as error:  # the Hub's client and the network raise errors of many types
        report.notes.append(f"No digest was compared: the Hub could not be asked for them ({describe_error(error)}).")
        return None
    files: list[Any] = [file for file in infos if hasattr(file, "blob_id")]
    return {file.path: file.lfs["sha256"] if file.lfs else file.blob_id for file in files}
