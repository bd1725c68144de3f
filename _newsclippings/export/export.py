"""Write rows in a form that trainers of others read: `newsclippings export`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.config import Request, bad_value, unused_option
from _newsclippings.export.folder import ExportFolder, Plan
from _newsclippings.export.forms import TEXT_FORMS, WEBDATASET
from _newsclippings.export.messages import PROMPT, check_prompt
from _newsclippings.export.rows import PART, BuiltRows, JoinedRows, Row, Rows, check_complete
from _newsclippings.facts import DEFAULT_CONFIG, EXPORT_FORMS
from _newsclippings.folder import lock_folder
from _newsclippings.inputs import find_inputs
from _newsclippings.storage import Access, Place, check_not_input, check_space, progress_bar, report_full_disk
from _newsclippings.text import option

IMAGES = ("bytes", "none")
MISSING = ("error", "drop_pair")  # no form has a place for a null
_LARGER = "choose a folder on a larger disk"
_DEFAULTS = {field.name: field.default for field in fields_of(Request)}


def export(
    out: Path,
    form: str,
    config: str = DEFAULT_CONFIG,
    *,
    built: Place | None = None,
    splits: Sequence[str] | None = None,
    images: str = "bytes",
    prompt: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, int]:
    """Write rows and pictures in a form that trainers of others read.

    If it is interrupted at any moment, the same call goes on from there and gives byte-identical files.

    Args:
        out: folder to write to, new or of the same export.
        form: one of `EXPORT_FORMS`.
        config: name of the config, which may be one that was generated into data_dir.
        built: a folder that `newsclippings build` wrote, whose rows are exported. Unset: rows are joined.
        splits: names of the splits. Unset: all.
        images: `"none"`: write no pictures; the paths are relative to the folder origin of VisualNews.
        prompt: of llava and messages, the question, with `{caption}`. Unset: `PROMPT`.
        storage_options: options of fsspec for the URLs that are passed here.
        fields: other fields of `Request`, if rows are joined.

    Returns:
        Split -> number of its rows.

    Raises:
        ConfigError: an option cannot be used or has no effect, or the folder has something else.
        MissingDataError: a row has no caption or picture.
        NoSpaceError: the disk is too small.
        NewsCLIPpingsError: an input is missing or damaged.
    """
    if form not in EXPORT_FORMS:
        raise bad_value("form", form, EXPORT_FORMS)
    if images not in IMAGES:
        raise bad_value("images", images, IMAGES)
    if fields.get("missing", "error") not in MISSING:
        raise bad_value("missing", fields["missing"], MISSING)
    asks = form in TEXT_FORMS and TEXT_FORMS[form].asks
    if prompt is not None and not asks:
        raise unused_option(option("prompt"), "It is for the forms llava and messages.")
    question = check_prompt(PROMPT if prompt is None else prompt) if asks else None
    rows = _open_rows(out, config, built, splits, images, storage_options, fields)
    counts = {split: len(index) for split, index in rows.index.items()}
    plan = Plan(form, config, counts, images, question, rows.identity)
    new = not out.exists()
    try:
        with report_full_disk(out, _LARGER), lock_folder(out):
            _write(ExportFolder(out, plan, rows.measures), rows, built or config)
    finally:
        if new and out.exists() and not any(out.iterdir()):
            out.rmdir()
    return counts


def _open_rows(
    out: Path,
    config: str,
    built: Place | None,
    splits: Sequence[str] | None,
    images: str,
    storage_options: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> Rows:
    """Open what is exported, and refuse to write over it."""
    if built is not None:
        given = {**fields, "storage_options": storage_options or None}
        if odd := [name for name, value in given.items() if value is not None and value != _DEFAULTS.get(name)]:
            raise unused_option(option(odd[0]), f"The rows of {option('built')} are exported as they are.")
        check_not_input(out, [built])
        return BuiltRows(built, config, splits, images)
    request = Request(config, splits=None if splits is None else [*splits], images=images, **fields)
    inputs = find_inputs(request, access=Access(storage_options))
    check_not_input(out, inputs.list_places())
    return JoinedRows(request, inputs)


def _write(folder: ExportFolder, rows: Rows, place: object) -> None:
    if folder.complete:
        folder.check()
        folder.clean()
        return
    if not folder.started:
        needed = rows.count_picture_bytes(once=folder.plan.form != WEBDATASET)
        check_space(folder.path, needed, "pictures", _LARGER)
    parts = {split: np.unique(index // PART).tolist() for split, index in rows.index.items()}

    def checked(row: Row) -> Row:
        check_complete(row, place)
        return row

    for split, numbers in parts.items():
        todo = folder.list_todo(split, numbers)
        total = folder.plan.splits[split]
        left = int(np.isin(rows.index[split] // PART, todo).sum())
        with progress_bar(total=total, initial=total - left, desc=split, unit="row", unit_scale=True) as bar:
            for count in folder.write(split, map(checked, rows.read(split, todo))):
                bar.update(count)
    rows.check_unchanged()
    folder.finish(parts)
