"""Progress bars: a widget or text in a notebook, text on a terminal, nothing where stderr is piped or after `-q`."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

_hidden = False


def progress_bar(hidden: bool = False, **options: Any) -> Any:
    """Make a progress bar.

    Args:
        hidden: show nothing, as for all ranks but the first.
        options: as of `tqdm`.
    """
    from tqdm import std  # slow to import, and most commands show no bar

    if hidden or _hidden:
        return std.tqdm(disable=True, **options)
    if not _in_notebook():
        return std.tqdm(disable=None, **options)
    if importlib.util.find_spec("ipywidgets") is None:  # `tqdm.auto` would warn
        return std.tqdm(disable=False, **options)
    from tqdm.notebook import tqdm

    return tqdm(disable=False, **options)


@contextlib.contextmanager
def hide_progress() -> Iterator[None]:
    """Show no progress bar while the block runs."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


def shows_progress() -> bool:
    """Whether a progress bar would be shown, for libraries that have their own."""
    return not _hidden and (_in_notebook() or sys.stderr.isatty())


def _in_notebook() -> bool:
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell else None
    return shell is not None and "IPKernelApp" in shell.config
