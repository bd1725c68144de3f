"""What of a folder is uploaded: all of it, or, without the right to publish them, none of what is restricted."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from _newsclippings.config import unused_option
from _newsclippings.errors import ConfigError
from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.folder import EVAL, BuiltFolder, write_eval, write_thin
from _newsclippings.hub.plan import (
    Upload,
    check_target,
    is_of_vectors,
    list_restricted,
    plan_upload,
    plan_vectors,
)


@contextmanager
def prepare_upload(
    root: Path, repo_id: str, *, with_images: bool, have_the_rights: bool, revision: str | None = None
) -> Iterator[Upload]:
    """Yield the files of a built folder, or of a folder of vectors, to upload; see `plan_upload` and `plan_vectors`.

    Pictures, articles and web evidence are left out unless the user has declared the right to pass them on: the rest is
    written to a temporary folder, and planned and uploaded from there. The built folder is not changed then.

    Raises:
        BadFileError, ConfigError, DataNotFoundError: as those; or nothing would be left, or an option has no effect.
        NoSpaceError: the disk of temporary files is too small.
    """
    if is_of_vectors(root):
        if with_images or have_the_rights:
            what = "--with-images" if with_images else "--i-have-the-rights"
            raise unused_option(what, f"{root} has vectors only. Leave it out.")
        yield plan_vectors(root, repo_id, revision)
        return
    folder = BuiltFolder.open(root)
    columns = list_restricted(folder)
    if not columns or (with_images and have_the_rights):
        yield plan_upload(folder, repo_id, with_images=with_images, have_the_rights=have_the_rights, revision=revision)
        return
    check_target(repo_id, revision, folder.version)
    if [*folder.manifests] == [SHARED_PICTURES]:
        message = (
            f"{root} holds nothing but pictures of VisualNews, which is given out on request only. Pass "
            "--with-images and --i-have-the-rights if you may publish them."
        )
        raise ConfigError(message)
    with tempfile.TemporaryDirectory(prefix="newsclippings-") as temporary:
        thin = write_thin(folder, columns, Path(temporary))
        if (root / EVAL).exists():
            write_eval(thin)
        upload = plan_upload(thin, repo_id, with_images=False, have_the_rights=False, revision=revision)
        yield replace(upload, left_out=tuple(columns.values()))
