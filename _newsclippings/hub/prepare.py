"""What of a built folder is uploaded: all of it, or, without the right to publish them, no pictures and articles."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from _newsclippings.errors import ConfigError
from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.folder import BuiltFolder, write_thin
from _newsclippings.hub.plan import Upload, check_target, list_restricted, plan_upload


@contextmanager
def prepare_upload(
    folder: BuiltFolder, repo_id: str, *, with_images: bool, have_the_rights: bool, revision: str | None = None
) -> Iterator[Upload]:
    """Yield the files to upload; see `plan_upload`.

    Pictures and articles are left out unless the user has declared the right to pass them on: the rest is written to a
    temporary folder, and planned and uploaded from there. The built folder is not changed then.

    Raises:
        BadFileError, ConfigError: as `plan_upload`; or nothing would be left.
        NoSpaceError: the disk of temporary files is too small.
    """
    columns = list_restricted(folder)
    if not columns or (with_images and have_the_rights):
        yield plan_upload(folder, repo_id, with_images=with_images, have_the_rights=have_the_rights, revision=revision)
        return
    check_target(folder, repo_id, revision)
    if [*folder.manifests] == [SHARED_PICTURES]:
        message = (
            f"{folder.root} holds nothing but pictures of VisualNews, which is given out on request only. Pass "
            "--with-images and --i-have-the-rights if you may publish them."
        )
        raise ConfigError(message)
    with tempfile.TemporaryDirectory(prefix="newsclippings-") as temporary:
        thin = write_thin(folder, columns, Path(temporary))
        upload = plan_upload(thin, repo_id, with_images=False, have_the_rights=False, revision=revision)
        yield replace(upload, left_out=tuple(columns.values()))
