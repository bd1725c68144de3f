"""Write an uncompressed tar with entries for its folders; the data of members may be holes."""

import os
import shutil
import tarfile
from pathlib import Path
from types import TracebackType

MTIME = 1_600_000_000  # fixed, so that the same arguments give the same bytes


class TarWriter:
    """A tar that grows member by member; leaving its `with` block ends it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 # closed in __exit__
        self._folders: set[str] = set()

    def __enter__(self) -> "TarWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write(bytes(1024))
        self._file.close()

    def add(self, name: str, data: bytes) -> None:
        """Add a file."""
        self._header(name, len(data))
        self._file.write(data + bytes(-len(data) % 512))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file with the content of another."""
        size = path.stat().st_size
        self._header(name, size)
        with open(path, "rb") as source:
            shutil.copyfileobj(source, self._file, 1 << 20)
        self._file.write(bytes(-size % 512))

    def hole(self, name: str, size: int) -> None:
        """Add a file of zeros that takes no disk space."""
        self._header(name, size)
        self._file.seek(size + -size % 512, os.SEEK_CUR)

    def _header(self, name: str, size: int) -> None:
        parent = name.rpartition("/")[0]
        if parent and parent not in self._folders:
            self._folders.add(parent)
            self._header_of(parent, 0, tarfile.DIRTYPE, 0o755)
        self._header_of(name, size, tarfile.REGTYPE, 0o644)

    def _header_of(self, name: str, size: int, kind: bytes, mode: int) -> None:
        if kind == tarfile.DIRTYPE:
            above = name.rpartition("/")[0]
            if above and above not in self._folders:
                self._folders.add(above)
                self._header_of(above, 0, kind, mode)
        member = tarfile.TarInfo(name)
        member.size, member.type, member.mode, member.mtime = size, kind, mode, MTIME
        self._file.write(member.tobuf(tarfile.GNU_FORMAT))
