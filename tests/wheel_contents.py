"""Check what is in the wheel: `python tests/wheel_contents.py DIST`. Exit code 1 if anything is missing or too much."""

import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main(dist: Path) -> None:
    """Compare the names in the only wheel below `dist` with the files of the checkout."""
    (wheel,) = dist.glob("*.whl")
    found = {
        name for name in zipfile.ZipFile(wheel).namelist() if not re.match(r"newsclippings-[^/]+\.dist-info/", name)
    }
    package = [p for p in (ROOT / "_newsclippings").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    expected = {"newsclippings.py", *(p.relative_to(ROOT).as_posix() for p in package)}
    if found != expected:
        sys.exit(f"{wheel}: missing {sorted(expected - found)}, too much {sorted(found - expected)}")
    size = wheel.stat().st_size
    if size > 2_000_000:
        sys.exit(f"{wheel}: {size:,} bytes, more than 2 MB")
    sys.stdout.write(f"{wheel.name}: {len(found)} files, {size:,} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
