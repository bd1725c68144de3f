"""SHA-256 of the inputs, and whether they are those that the authors published, whose digests the Hub knows."""

from pathlib import PurePath
from typing import Any

from tqdm.auto import tqdm

from _newsclippings.check.report import Report
from _newsclippings.facts import HUB_FILES, HUB_REPO, HUB_REVISION
from _newsclippings.storage import call_with_timeout, compute_hub_digests
from _newsclippings.text import describe_error


def check_digests(report: Report) -> None:
    """Compute the SHA-256 of each file of a report, and compare it with what the Hub says of the authors' files.

    Where no file is the published one they are taken for files of your own, and that is a note; else each other one is
    a fault. Files of VisualNews have no known digests.
    """
    local = {location: about for location, about in report.files.items() if about["bytes"] is not None}
    names = {location: name for location in local if (name := _published_name(location))}
    known = _known(report, sorted(set(names.values())))
    total = sum(about["bytes"] for about in local.values())
    with tqdm(total=total, desc="SHA-256", unit="B", unit_scale=True, disable=None) as bar:
        for location, about in local.items():
            of_hub = (known or {}).get(names.get(location, ""))
            with report.collecting(location):
                about["sha256"], git = compute_hub_digests(location, bar.update)
                if of_hub is not None:
                    about["as_published"] = of_hub == (about["sha256"] if len(of_hub) == 64 else git)
    if known is None:
        return
    compared = {location: about for location, about in local.items() if "as_published" in about}
    same = sum(about["as_published"] for about in compared.values())
    if same or not compared:
        for location in (location for location, about in compared.items() if not about["as_published"]):
            expected = f"expected the digest of {HUB_FILES}/{names[location]}, {known[names[location]]}"
            found = f"found another, SHA-256 {compared[location]['sha256']}"
            report.note_fault(False, location, f"{location}: {expected}, {found}. Download it again.")
        note = f"{same:,} of {len(compared):,} files have the digest of the authors' file, of {len(local):,} in all."
    else:
        note = f"None of {len(compared):,} files has the digest of the authors' file: these are files of your own."
    report.notes.append(note + " Those of VisualNews are not published.")


def _published_name(location: str) -> str | None:
    """What the authors call a file, going by its name and the folders it is in; None for files of VisualNews."""
    kind, folder, name = ("", "", "", *PurePath(location).parts)[-3:]
    if folder == "metadata":
        return f"metadata/{name}"
    if kind == "embeddings":
        return f"embeddings/{folder}/{folder}_{name.removeprefix(f'{folder}_')}"  # their README leaves the prefix out
    return f"data/{folder}/{name}" if kind == "data" else None


def _known(report: Report, names: list[str]) -> dict[str, str] | None:
    """Name -> SHA-256, or for small files the digest of git, as the Hub tells; None where it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=False)
        found = call_with_timeout(lambda: api.get_paths_info(HUB_REPO, names, revision=HUB_REVISION)) if names else []
    except Exception as error:  # whatever the Hub's client and the network raise
        report.notes.append(f"Nothing is compared: the Hub could not be asked for digests ({describe_error(error)}).")
        return None
    files: list[Any] = [file for file in found if hasattr(file, "blob_id")]
    return {file.path: file.lfs["sha256"] if file.lfs else file.blob_id for file in files}
