"""Invented records, pictures and matches, with the quirks of the real ones."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

Row = dict[str, Any]

SOURCES = (  # the numbering of the official files
    "semantics_clip_text_image",
    "semantics_clip_text_text",
    "scene_resnet_place",
    "person_sbert_text_text",
)
CONFIGS = ("merged_balanced", *SOURCES)
SPLITS = {"train": "train", "validation": "val", "test": "test"}
OUTLETS = ("bbc", "guardian", "usa_today", "washington_post")
TOPICS = ("football", "law_crime", "cities", "world", "arts_culture")
PAIRS = {"train": 12, "validation": 5, "test": 6}


CAPTIONS = (
    "Anthony Stokes last played a league game for Celtic in August, number {n}.",
    'Zoë Müller says “Überraschung”: "it\'s the {n}th" — naïve café, 東京, 🦊.',
    'A sign reads "}}, {{" beside gate {n}; somebody wrote \\"no\\" under it.',
    "Brackets ]}} [{{ and a back\\slash, a tab\tand a line\nbreak: exhibit {n}",
    "Candace Pickens and her son Zachaeus ({n})",
    '{{"id": {other}, "caption": "not a record", "image_path": "./bbc/images/0000/{n}.jpg"}}, {{',
    "\u2028Line separator, e\u0301 decomposed, é composed, \u00a0no-break: {n} % & < >",
)


@dataclass
class Record:
    """One article's picture and caption as VisualNews knows it."""

    id: int
    caption: str
    topic: str
    source: str
    image_path: str  # relative to origin, as the rows give it
    title: str | None
    timestamp: str

    @property
    def full_article_path(self) -> str:
        """The file of the original article, which other records share."""
        return f"visual_news/articles/{self.source}/2015/{self.id % 4}.json"

    @property
    def short(self) -> str:
        """The caption as metadata/<split>.json has it: punctuation stripped."""
        return re.sub(r"[^\w\s]", "", self.caption)


@dataclass
class Match:
    """One row of data/<config>/<split>.json."""

    id: int
    image_id: int
    score: int | float
    source: str
    falsified: bool


def invent_record(rng: random.Random, n: int, id: int, ids: Sequence[int], long_paths: bool) -> Record:
    outlet = OUTLETS[n % 4]
    folder = f"{rng.randrange(1000):04d}" + ("_" + "long" * 40 if long_paths and n % 3 == 0 else "")
    return Record(
        id=id,
        caption=CAPTIONS[n % len(CAPTIONS)].format(n=n, other=rng.choice(ids)),
        topic=TOPICS[n % 5],
        source=outlet,
        image_path=f"{outlet}/images/{folder}/{n:03d}.jpg",
        title=None if n % 6 == 0 else f'Title {n}: "}}, "{rng.choice(ids)}": {{"caption": "no"',
        timestamp="1900-01-01T00:00:00Z" if n % 7 == 0 else f"2015-12-{n % 28 + 1:02d}T11:33:37Z",
    )


def invent_matches(rng: random.Random, pool: Sequence[int], pairs: int) -> dict[str, list[Match]]:
    """Matches of all configs of one split: merged_balanced repeats pairs of the other four."""
    result: dict[str, list[Match]] = {config: [] for config in CONFIGS}
    order = list(pool)
    rng.shuffle(order)
    captions, shown = (
        order[:pairs],
        order[pairs - 2 :],
    )  # pictures are reused, two of them in pristine rows, too
    for k, id in enumerate(captions):
        pair = _pair(rng, id, shown, SOURCES[k % 4], k)
        result["merged_balanced"] += pair
        result[SOURCES[k % 4]] += pair
    for c, source in enumerate(SOURCES):
        own = {m.id for m in result[source]}
        for k, id in enumerate([i for i in order if i not in own][: pairs - 3 + c]):
            result[source] += _pair(rng, id, order, source, k)
    return result


def _pair(rng: random.Random, id: int, shown: Sequence[int], source: str, k: int) -> list[Match]:
    other = shown[k % len(shown)] if k % 3 else rng.choice(shown)
    while other == id:
        other = rng.choice(shown)
    score = -0.047913 if k == 1 else float(f"0.{rng.randrange(100000, 999999)}")
    return [Match(id, id, 1, source, False), Match(id, other, score, source, True)]


@cache
def invent_picture(seed: int, n: int) -> bytes:
    """Make a tiny unique picture: JPEG, or sometimes another format named .jpg, as in the real files."""
    rng, size = random.Random(f"{seed} {n}"), (8 + n % 5, 6 + n % 7)
    mode = {5: "L", 6: "P"}.get(n % 11, "RGB")
    image = Image.frombytes(mode, size, rng.randbytes(size[0] * size[1] * len(mode)))
    if mode == "P":
        image.putpalette(rng.randbytes(768))
    stream = io.BytesIO()
    image.save(stream, {"P": "GIF"}.get(mode, "JPEG"))
    return stream.getvalue()
