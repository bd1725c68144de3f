"""`python -m training`, also under `torchrun`: calls `newsclippings train`."""

import contextlib
import sys

from _newsclippings.cli import main
from _newsclippings.storage import open_missing_streams

if __name__ == "__main__":
    open_missing_streams()
    with contextlib.suppress(OSError):
        print("`python -m training` is now `newsclippings train`", file=sys.stderr, flush=True)
    main(["train", *sys.argv[1:]], prog_name="newsclippings")
