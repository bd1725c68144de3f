"""Where the items come from, and where the folder goes: arguments of `embed` and `entities`."""

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _newsclippings.config import Request, bad_value, check_locations, check_path
from _newsclippings.corpus import Corpus
from _newsclippings.embed.items import Items, find_items
from _newsclippings.embed.reader import Pictures
from _newsclippings.errors import ConfigError
from _newsclippings.facts import DEFAULT_CONFIG
from _newsclippings.inputs import Inputs
from _newsclippings.pictures import PictureSources
from _newsclippings.storage import is_url
from _newsclippings.text import option, printable
from _newsclippings.vectors import MOST_PARTS


def check_out(out: str | os.PathLike[str]) -> Path:
    """Return the folder of vectors as a path; raise `ConfigError` for a URL."""
    text = check_path("out", out)
    if not text or is_url(text):
        message = f"out={printable(str(text))!r}: expected a local folder. Write to a disk, then copy it."
        raise ConfigError(message)
    return Path(os.path.expanduser(text))


def make_request(
    config: str = DEFAULT_CONFIG,
    missing: str = "error",
    *,
    data_dir: object,
    visual_news: object,
    visual_news_index: object,
    links: Any,
    links_root: object,
) -> Request:
    """Make the request of a config by which inputs are found; raise `ConfigError` for a wrong argument."""
    return Request(
        config,
        missing=missing,
        data_dir=check_path("data_dir", data_dir),
        visual_news=check_locations(visual_news),
        visual_news_index=check_path("visual_news_index", visual_news_index),
        links=links,
        links_root=check_path("links_root", links_root),
    )


def check_part_size(part_size: object, items: Items | None = None) -> None:
    """Raise `ConfigError` if `part_size` is not a number from 1 on, or makes too many parts of the items."""
    if type(part_size) is not int or part_size < 1:
        raise bad_value("part_size", part_size, ["a number from 1 on"])
    if items is not None and (least := -(-len(items.ids) // MOST_PARTS)) > part_size:
        message = (
            f"{option('part_size', str(part_size))} makes more than {MOST_PARTS:,} parts. Choose {least:,} or more."
        )
        raise ConfigError(message)


def list_read(inputs: Inputs, ids: object) -> list[str]:
    """List the inputs, and the file with the ids if there is one. No output may be there."""
    given = os.path.expanduser(ids) if isinstance(ids, str | os.PathLike) else ""
    return [*inputs.list_places(), *([given] if os.path.isfile(given) else [])]


@dataclass(frozen=True)
class Source:
    """Items, and where their pictures come from.

    Attributes:
        items: the items.
        pictures: opens pictures; None for captions.
        of_corpus: the same, if they are those of the corpus, and what opens them in another process: Ray needs it.
    """

    items: Items
    pictures: Pictures | None
    of_corpus: tuple[PictureSources | None, Callable[[], PictureSources]] | None = None

    @classmethod
    def open(
        cls, of: str, ids: str | os.PathLike[str] | Iterable[int], inputs: Inputs, cache: Path, whole: bool
    ) -> "Source":
        """Read the records of the items.

        Args:
            of: `"pictures"` or `"captions"`.
            ids: see `embed`.
            inputs: the inputs of the config that `find_config` names.
            cache: folder for indexes of tars.
            whole: whether a damaged tar is an error, if no other location can have its pictures.
        """
        wants_pictures = of == "pictures"
        if wants_pictures:
            inputs.require_pictures()
        archives = [source for source in inputs.sources if source.kind != "folder"] if wants_pictures else []
        whole = whole and len(archives) == len(inputs.sources) == 1
        open_pictures = functools.partial(PictureSources, inputs, cache, False, whole)
        sources = open_pictures()
        if archives:
            for tar in sources.tars:
                tar.index  # noqa: B018 # before anything else is in memory: making one takes a lot
        corpus = Corpus(inputs, sources.archives, bool(archives), metadata=False, articles=False, cache=cache)
        pictures = sources if wants_pictures else None
        return cls(find_items(of, ids, inputs, corpus), pictures, (pictures, open_pictures))
