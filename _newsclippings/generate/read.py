"""Read a config that `newsclippings generate` made: its manifest, its recipe and its matches."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from _newsclippings.errors import DataNotFoundError, bad_file
from _newsclippings.facts import SPLITS
from _newsclippings.generate.rules import Recipe, parse_recipe
from _newsclippings.generate.write import RECIPE
from _newsclippings.generated import MANIFEST, Generated, read_generated
from _newsclippings.matches import read_matches
from _newsclippings.storage import read_file
from _newsclippings.text import printable

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class GeneratedFolder:
    """The folder of a generated config.

    Attributes:
        path: the folder.
        manifest: what it says about the config.
        recipe: by which it was made.
    """

    path: Path
    manifest: Generated
    recipe: Recipe

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> "GeneratedFolder":
        """Read the manifest and the recipe.

        Raises:
            DataNotFoundError: the folder has no generated config.
            BadFileError: a file of it is damaged.
            ConfigError: the recipe is damaged.
        """
        path = Path(os.path.abspath(os.path.expanduser(out)))
        manifest = read_generated(path / MANIFEST) if (path / MANIFEST).is_file() else None
        if manifest is None:
            message = f"{printable(str(path))} has no generated config. Make one with `newsclippings generate`."
            raise DataNotFoundError(message)
        text = read_file(path / RECIPE, _MOST_BYTES).decode("utf-8", "replace")
        if text != manifest.values["made_of"]["recipe"]:
            do = "Get the folder again, or make it again with `newsclippings generate`."
            raise bad_file(path / RECIPE, f"the recipe that {MANIFEST} has", "another", do)
        return cls(path, manifest, parse_recipe(text, printable(str(path / RECIPE))))

    def read_matches(self, split: str) -> pa.Table:
        """Read the matches of a split: an Arrow table of `matches.SCHEMA`."""
        place = self.path / "news_clippings" / "data" / self.manifest.config / f"{SPLITS[split]}.json"
        return read_matches(str(place), self.manifest.config, names=self.manifest.source_datasets)
