"""What a build is made of: the fields that `load_dataset` passes on."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import datasets

from _newsclippings.errors import ConfigError, bad_value
from _newsclippings.schema import EMBEDDINGS, IMAGES, MISSING, SPLITS
from _newsclippings.sources import Sources, find_sources


@dataclass
class NewsCLIPpingsConfig(datasets.BuilderConfig):
    """What a build of NewsCLIPpings is made of.

    Attributes:
        data_dir: folder with the official tree (`news_clippings/data/...`, `visual_news/...`). Unset: the environment
            variable NEWSCLIPPINGS_DATA_DIR, then the Hub for everything but pictures.
        visual_news: VisualNews: its folder `origin`, or its `origin.tar`, local or at a URL (`https://`, `hf://`,
            whatever fsspec reads by ranges), of which only what is needed is fetched. Unset: looked for below data_dir.
        visual_news_index: an index of that tar, made by `newsclippings index`; a file or a URL. Unset: its headers are
            walked once.
        images: `"bytes"`: encoded pictures inside the rows. `"path"`: the image column refers to the files of the
            folder, nothing is copied. `"none"`: no image column; image_path stays.
        missing: what becomes of a row whose picture or record is not there. `"error"`: nothing is built, the error
            says what is missing. `"null"`: the row stays, with nulls. `"drop_pair"`: both twins are left out.
        splits: the splits to build, of train, validation, test. Unset: all.
        embeddings: columns of the authors' vectors, any of clip_image, clip_text, sbert, places, facenet, or `"all"`.
            Unset: none. A row without a vector has null.
        metadata: columns of what the authors know of the caption's and the picture's article: title, time, entities.
        articles: a column with the text of the caption's article, from VisualNews.
        check_images: decode every picture while joining, so that one that does not decode is found then and not when
            its row is read; `missing` says what becomes of it, as if it were not there. So do pictures of more than 64
            million pixels. Costs a decoding of each, in threads.
    """

    visual_news: str | None = None
    images: str = "bytes"
    missing: str = "error"
    splits: list[str] | None = None
    embeddings: list[str] | str | None = None
    metadata: bool = False
    articles: bool = False
    visual_news_index: str | None = None
    check_images: bool = False

    def check(self) -> None:
        """Raise `ConfigError` if a field has a value that means nothing."""
        for field, value, allowed in (("images", self.images, IMAGES), ("missing", self.missing, MISSING)):
            if value not in allowed:
                raise bad_value(field, value, allowed)
        self.wanted_splits()
        self.wanted_embeddings()

    def wanted_splits(self) -> list[str]:
        """The splits to build, in their usual order."""
        if self.splits is None:
            return list(SPLITS)
        single = isinstance(self.splits, str | datasets.NamedSplit)
        if not single and not isinstance(self.splits, Iterable):
            raise bad_value("splits", self.splits, SPLITS)
        given = {str(self.splits)} if single else set(map(str, self.splits))
        if not given or not given <= set(SPLITS):
            raise bad_value("splits", self.splits, SPLITS)
        return [split for split in SPLITS if split in given]

    def wanted_embeddings(self) -> list[str]:
        """The kinds of embeddings to join, in the order of their columns."""
        if not isinstance(self.embeddings, str | Iterable | None):
            raise bad_value("embeddings", self.embeddings, [*EMBEDDINGS, "all"])
        given = {self.embeddings} if isinstance(self.embeddings, str) else set(self.embeddings or ())
        if given == {"all"}:
            return list(EMBEDDINGS)
        if not given <= set(EMBEDDINGS):
            raise bad_value("embeddings", self.embeddings, [*EMBEDDINGS, "all"])
        return [kind for kind in EMBEDDINGS if kind in given]

    def sources(self) -> Sources:
        """Where the inputs are."""
        paths: dict[str, Any] = {}
        for field in ("data_dir", "visual_news", "visual_news_index"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str | os.PathLike):
                message = f"{field}={value!r} is a {type(value).__name__}; expected a path or a URL."
                raise ConfigError(message)
            paths[field] = os.fspath(value) if value else None
        return find_sources(self.name, self.wanted_splits(), embeddings=self.wanted_embeddings(), **paths)

    def inputs(self) -> str:
        """A digest of the content of all inputs that a build reads, and of the code."""
        return self.sources().key(pictures=self.images != "none" or self.articles, metadata=self.metadata)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name of the folder in the cache: covers the fields, the content of every input, and the code."""
        self.check()
        base: str = super().create_config_id({}, custom_features=custom_features)
        fields = {"images": self.images, "missing": self.missing, "splits": ",".join(self.wanted_splits())}
        fields["embeddings"] = ",".join(self.wanted_embeddings())
        fields["check_images"] = str(bool(self.check_images))
        fields["texts"] = f"{bool(self.metadata)} {bool(self.articles)}"
        digest = datasets.fingerprint.Hasher.hash([fields, self.inputs()])
        return f"{base}-{digest}"
