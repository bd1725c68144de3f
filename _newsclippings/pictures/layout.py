"""Where a tar, a zip or a folder has the pictures: below which leading folders, and what stands for `images`.

`guardian/images/0540/632.jpg` may be `data/visual_news/origin/guardian/images/0540/632.jpg`, or
`guardian/0540/632.jpg` as in DGM4.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.tables import as_array

Find = Callable[[pa.Array], "np.ndarray"]  # names -> whether each is there, bool (N,)

LOOKED_FOR = 1024  # needed paths that are compared, spread evenly
MOST_LAYOUTS = 64  # layouts that are compared, those of most members first
_AFTER = r"/(?P<images>[^/]+)/[^/]+/[^/]+$"


class Layout(NamedTuple):
    """How a location names a picture.

    Attributes:
        prefix: leading folders, each with its slash; empty if there are none.
        images: what stands for the component `images`; None if it is dropped.
    """

    prefix: str = ""
    images: str | None = "images"

    def names(self, paths: pa.Array) -> pa.Array:
        """Return the names of paths (string, in the normal form) in this layout."""
        if self.images != "images":
            instead = "/" if self.images is None else f"/{_literal(self.images)}/"
            paths = pc.replace_substring_regex(paths, "^([^/]+)/images/", rf"\1{instead}")
        return pc.replace_substring_regex(paths, "^", _literal(self.prefix)) if self.prefix else paths

    def __str__(self) -> str:
        if self.images == "images":
            return f"below {self.prefix}"
        what = "without images/" if self.images is None else f"with {self.images}/ for images/"
        return f"{f'below {self.prefix}, ' if self.prefix else ''}{what}"


USUAL = Layout()


def find_layout(paths: pa.Array, find: Find, members: Callable[[], pa.Array]) -> Layout | None:
    """Find the layout in which most of the needed pictures are there.

    Of several, the one that keeps most of the path wins: with `images`, then with the fewest leading folders.

    Args:
        paths: string (N,), needed paths in the normal form.
        find: looks names up.
        members: lists all names, string (M,); called only if less than half of some paths are there in the usual
            layout.

    Returns:
        The layout; None if none of them is there in any.
    """
    step = max(1, len(paths) // LOOKED_FOR)
    some = paths.take(as_array(np.arange(0, len(paths), step)))
    usual = int(find(some).sum())
    if 2 * usual >= len(some):
        return USUAL
    layouts = [USUAL, *list_layouts(paths, members())]
    for compared in (some, paths):  # some may miss what a location of a few pictures has
        counts = {layout: int(find(layout.names(compared)).sum()) for layout in layouts}
        best = min(layouts, key=lambda layout: (-counts[layout], *_rank(layout)))
        if counts[best]:
            return best
    return None


def list_layouts(paths: pa.Array, names: pa.Array) -> list[Layout]:
    """List the layouts that names of members have, those of most members first."""
    outlets = pc.unique(pc.list_element(pc.split_pattern(paths, "/", max_splits=1), 0)).to_pylist()
    one_of = "|".join(re.escape(outlet) for outlet in outlets if outlet)
    found: dict[Layout, int] = {}
    start = rf"^(?P<prefix>(?:.*/)?)(?:{one_of})"
    for pattern in (start + _AFTER, start + r"/[^/]+/[^/]+$"):
        fields = pc.drop_null(pc.extract_regex(names, pattern))
        joined = pc.binary_join_element_wise(*fields.flatten(), "\0")  # no name has a NUL
        for value in pc.value_counts(joined).to_pylist():
            prefix, _, images = value["values"].partition("\0")
            for layout in {Layout(prefix, images or None), Layout(prefix)}:
                found[layout] = found.get(layout, 0) + value["counts"]
    return sorted(found, key=lambda layout: (-found[layout], *_rank(layout)))[:MOST_LAYOUTS]


def _rank(layout: Layout) -> tuple[int, int, str, str]:
    changed = 0 if layout.images == "images" else 1 if layout.images is not None else 2
    return changed, layout.prefix.count("/"), layout.prefix, layout.images or ""


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")
