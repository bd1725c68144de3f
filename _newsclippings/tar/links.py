"""Resolve the members of a tar: links get the data of their targets, and of a repeated name the last member counts.

What a name stands for is what `tar` would extract. A hard link has the data that its target has when the link is
extracted; a symbolic link those that its target has in the end. A name that stands for anything but a file of the tar
stays in the index, without data and with the reason.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.storage import normalise_path
from _newsclippings.tables import Int64s, array_of, as_array, one_chunk, values_of
from _newsclippings.tar.headers import HARD, SPARSE, SYMBOLIC
from _newsclippings.tar.walk import ODD, SCHEMA
from _newsclippings.text import printable

LIMIT = 40  # most links from one to the next, as in Linux
SHOWN = 5  # names of each kind of member that are shown
OTHERS = "others"  # metadata key of an index: JSON, kind of member -> `members` (how many) and `first` (names)
REPEATED = "earlier member of a repeated name"
TARGET = pa.field("target", pa.string())  # of a link, the name in the header before its data; else null
REFUSED = pa.field("refused", pa.string())  # why a member has no data that can be used; else null
_KINDS = {
    HARD[0]: "hard link",
    SYMBOLIC[0]: "symbolic link",
    ord("3"): "character device",
    ord("4"): "block device",
    ord("6"): "FIFO",
    SPARSE[0]: "sparse file",
    ord("D"): "list of a folder",
    ord("M"): "rest of a file of another volume",
    ord("V"): "volume label",
    ODD: "odd name",
}
_UNNAMED = (ODD, *b"DMNV")  # kinds whose names are no paths, or are not used
_LINKS = (HARD[0], SYMBOLIC[0])


def resolve_members(walked: pa.Table, repeated: bool) -> tuple[pa.Table, dict[str, str]]:
    """Make the members of an index from all members of a tar.

    Args:
        walked: Arrow table of `WALKED`, in the order of the tar.
        repeated: whether any names are the same.

    Returns:
        Arrow table of `SCHEMA`, with one row for each name, in the order of the tar; with the columns `TARGET` and
        `REFUSED` if the tar has members that are no plain files. And metadata: `OTHERS`, if there are others.
    """
    kinds = values_of(walked["kind"])
    if not kinds.any() and not repeated:
        return walked.select(SCHEMA.names), {}
    names = _Names(one_chunk(walked["name"]), np.flatnonzero(~np.isin(kinds, _UNNAMED)))
    final = names.final()
    others = _list_others(names, kinds, final)
    members = walked.select(SCHEMA.names).take(as_array(final))
    if kinds[final].any():
        members = _resolve_links(walked, names, kinds, final, members)
    return members, {OTHERS: json.dumps(others)} if others else {}


class _Names:
    """The names of members, found with the positions at which they occur in a tar."""

    def __init__(self, names: pa.Array, rows: Int64s) -> None:
        """Store all names, string (N,), of which those at `rows`, int64 (M,), are used."""
        self.names, self.rows = names, rows
        encoded = names.take(as_array(rows)).dictionary_encode()
        self._known = encoded.dictionary
        codes = values_of(encoded.indices).astype(np.int64)
        self._places = np.sort(codes * len(names) + rows)  # by name, then by position

    def final(self) -> Int64s:
        """Return the last member of each name, in the order of the tar."""
        codes = self._places // max(1, len(self.names))
        return np.sort(
            self._places[np.append(codes[1:] != codes[:-1], np.ones(min(1, len(codes)), bool))] % len(self.names)
        )

    def find(self, names: list[str], before: list[int]) -> list[int]:
        """Find the last member of each name that is before a position; -1 where there is none."""
        count = len(self.names)
        codes = pc.index_in(array_of(names, pa.string()), value_set=self._known)
        code = values_of(codes, -1).astype(np.int64)
        places = np.searchsorted(self._places, code * count + np.array(before, np.int64)) - 1
        found = self._places[np.maximum(places, 0)]
        rows: list[int] = np.where((code >= 0) & (places >= 0) & (found // count == code), found % count, -1).tolist()
        return rows


def _list_others(names: _Names, kinds: npt.NDArray[np.uint8], final: Int64s) -> dict[str, dict[str, Any]]:
    """Count the members that are no plain files, or not the last of their names, and name the first of each kind."""
    groups: dict[str, Int64s] = {}
    for kind in np.unique(kinds[kinds > 0]).tolist():
        what = _KINDS.get(kind, f"member of type {chr(kind)!r}")
        groups[printable(what)] = np.flatnonzero(kinds == kind)
    groups[REPEATED] = np.setdiff1d(names.rows, final, assume_unique=True)
    return {
        what: {"members": len(rows), "first": names.names.take(as_array(rows[:SHOWN])).to_pylist()}
        for what, rows in groups.items()
        if len(rows)
    }


def _resolve_links(
    walked: pa.Table, names: _Names, kinds: npt.NDArray[np.uint8], final: Int64s, members: pa.Table
) -> pa.Table:
    """Give links the places of their targets, and add the columns `TARGET` and `REFUSED`."""
    links = np.flatnonzero(np.isin(kinds, _LINKS))
    texts = walked.select(["target", "folder"]).take(as_array(links)).to_pylist()
    text_of = {row: (text["target"], text["folder"]) for row, text in zip(links.tolist(), texts, strict=True)}
    found, refused = _follow(names, kinds, [row for row in final.tolist() if row in text_of], text_of)
    special = np.flatnonzero(kinds[final])
    of = final.copy()  # the member whose data each name stands for
    targets: list[str | None] = [None] * len(final)
    reasons = targets.copy()
    for k, row in zip(special.tolist(), final[special].tolist(), strict=True):
        if row in found:
            of[k], targets[k] = found[row], names.names[found[row]].as_py()
        else:
            reasons[k] = refused.get(row) or f"it is {_with_article(kinds[row])}"
    places = walked.select(SCHEMA.names[1:]).take(as_array(of))
    columns = [members["name"], *places.columns, array_of(targets, pa.string()), array_of(reasons, pa.string())]
    return pa.table(columns, schema=SCHEMA.append(TARGET).append(REFUSED))


def _follow(
    names: _Names, kinds: npt.NDArray[np.uint8], links: list[int], text_of: dict[int, tuple[str | None, str]]
) -> tuple[dict[int, int], dict[int, str]]:
    """Follow links to files.

    Args:
        names: the names of all members.
        kinds: uint8 (N,), the kinds of all members.
        links: the members to follow.
        text_of: each link -> its target, and the folder it is in.

    Returns:
        Link -> the member with its data; and link -> why it has none.
    """
    found, refused = dict[int, int](), dict[int, str]()
    at = {link: (link, text_of[link][1]) for link in links}  # link -> the link it leads to, and the folder of that
    for _ in range(LIMIT):
        asked, wanted, before = [], [], []
        for link, (entry, folder) in at.items():
            text, is_hard = text_of[entry][0], kinds[entry] == HARD[0]
            try:
                wanted.append(_name_target(text, None if is_hard else folder))
            except ValueError as error:
                refused[link] = f"{_describe_link(link, kinds, text_of)} and leads nowhere in the tar: {error}"
                continue
            asked.append(link)
            before.append(entry if is_hard else len(kinds))
        for link, row in zip(asked, names.find(wanted, before), strict=True):
            entry, folder = at[link]
            if row < 0:
                refused[link] = f"{_describe_link(link, kinds, text_of)}, which is no file of the tar"
            elif not kinds[row]:
                found[link] = row
            elif row not in text_of:
                refused[link] = f"{_describe_link(link, kinds, text_of)}, which leads to {_with_article(kinds[row])}"
            else:  # a hard link to a symbolic link is that link, in its own folder
                at[link] = row, folder if kinds[entry] == HARD[0] else text_of[row][1]
        at = {link: place for link, place in at.items() if link not in found and link not in refused}
    for link in at:
        refused[link] = f"{_describe_link(link, kinds, text_of)}, in a circle or a chain of more than {LIMIT} links"
    return found, refused


def _name_target(text: str | None, folder: str | None) -> str:
    """Return the normal form of the target of a link.

    Args:
        text: the target as it is in the tar; None if it is not UTF-8.
        folder: where a symbolic link is; None for a hard link, whose target is the name of a member.

    Raises:
        ValueError: the target is not in the tar; the message names the reason.
    """
    if text is None:
        message = "its target is not UTF-8"
        raise ValueError(message)
    if folder is None or text.startswith("/"):
        return normalise_path(text)
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    for part in text.split("/"):
        if part == ".." and not parts:
            message = "its target is outside of it"
            raise ValueError(message)
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return normalise_path("/".join(parts))


def _describe_link(link: int, kinds: npt.NDArray[np.uint8], text_of: dict[int, tuple[str | None, str]]) -> str:
    text = text_of[link][0]
    target = "" if text is None else f" to {printable(text[: SHOWN * 20])}"
    return f"it is {_with_article(kinds[link])}{target}"


def _with_article(kind: int) -> str:
    return f"a {_KINDS.get(int(kind), f'member of type {chr(kind)!r}')}"
