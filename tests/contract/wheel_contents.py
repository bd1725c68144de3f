"""Check wheel and sdist: `python tests/contract/wheel_contents.py DIST`. Exit code 1 if they are not complete."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("_newsclippings/", "newsclippings-stubs/")


def main(dist: Path) -> None:
    """Compare the names in the wheel and the sdist in `dist` with the committed files."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    committed = set(done.stdout.splitlines())
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    found = {name for name in names if not re.match(r"newsclippings-[^/]+\.dist-info/", name)}
    expected = {name for name in committed if name == "newsclippings.py" or name.startswith(PACKAGES)}
    if found != expected:
        sys.exit(f"{wheel}: missing {sorted(expected - found)}, too much {sorted(found - expected)}")
    with tarfile.open(sdist) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
    if packed != committed | {"PKG-INFO"}:
        sys.exit(f"{sdist}: missing {sorted(committed - packed)}, too much {sorted(packed - committed)}")
    for file in (wheel, sdist):
        size = file.stat().st_size
        if size > 3_000_000:
            sys.exit(f"{file}: {size:,} bytes, more than 3 MB")
        sys.stdout.write(f"{file.name}: {size:,} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
