"""Private constants of the package, changed for a test wherever they are used."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path

import pytest

import newsclippings

ROOT = Path(newsclippings.__file__).parent


@functools.cache
def _homes(name: str) -> dict[str, list[str]]:
    """The modules that define a constant, each with itself and the modules that import the name from it."""
    homes: dict[str, list[str]] = {}
    imports: list[tuple[str, str]] = []
    for file in [Path(newsclippings.__file__), *sorted((ROOT / "_newsclippings").rglob("*.py"))]:
        text = file.read_text(encoding="utf-8")
        if name not in text:
            continue
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
                imports.append((module, node.module))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                if name in stored:
                    homes[module] = [module]
    for users in homes.values():
        for user in users:  # the list grows meanwhile: the front of a package hands names on
            users += [module for module, source in imports if source == user and module not in users]
    return homes


def change_constant(patch: pytest.MonkeyPatch, name: str, value: object, of: str | None = None) -> None:
    """Set a constant in the module that defines it, and in each that imports it by name.

    Args:
        patch: undoes it.
        name: of the constant.
        value: what it is from now on.
        of: last part of the name of the module that defines it; needed where several define one of that name.

    Raises:
        LookupError: no module defines the constant, or several do.
    """
    homes = {home: users for home, users in _homes(name).items() if of in (None, home.rpartition(".")[2])}
    if len(homes) != 1:
        message = f"{name} of {of or 'any module'}: expected one module that defines it, found {sorted(homes)}"
        raise LookupError(message)
    for user in next(iter(homes.values())):
        # a module that was first imported while the constant is changed would keep the changed one
        patch.setattr(importlib.import_module(user), name, value)
