"""The paper's benchmark: is this the caption's own picture? `python -m training --help`."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m training`, before torch opens files, which would get the numbers of streams
    from _newsclippings.storage import open_missing

    open_missing()
