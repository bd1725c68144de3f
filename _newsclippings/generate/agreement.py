"""How far the matches of an approximate search are those of the exact one, as far as a sample shows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from _newsclippings.evaluate import wilson


class Agreement(NamedTuple):
    """What the exact search says about captions with a picture that are drawn at random.

    Attributes:
        captions: how many were drawn.
        first_choice: of how many the best allowed picture is the one that it finds.
        best_free: how many have the best allowed picture that no other caption would rather have.
    """

    captions: int
    first_choice: int
    best_free: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for the manifest, as shares with 95 % intervals."""
        shares = {name: measure_share(getattr(self, name), self.captions) for name in ("first_choice", "best_free")}
        return {"captions": self.captions, **shares}


def measure_share(count: int, of: int) -> dict[str, float]:
    """Return a share with its 95 % interval: `value`, `low` and `high`."""
    values = count / of, *wilson(count, of)
    return dict(zip(("value", "low", "high"), (round(value, 4) for value in values), strict=True))


def describe_share(share: Mapping[str, float]) -> str:
    """Describe what `measure_share` returned."""
    value, low, high = (f"{100 * share[key]:.1f}" for key in ("value", "low", "high"))
    return f"{value} % (95 % interval {low} to {high} %)"


def describe_agreement(found: Mapping[str, Any]) -> str:
    """Describe an agreement in the manifest."""
    first, free = (describe_share(found[name]) for name in ("first_choice", "best_free"))
    return (
        f"the first choice of {first} of {found['captions']:,} captions is that of the exact search, and {free} have "
        "the best picture that is free for them"
    )
