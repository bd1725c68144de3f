"""Change a private constant of the package for a test, in every module that uses it."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path

import pytest

import newsclippings

ROOT = Path(newsclippings.__file__).parent


@functools.cache
def _package() -> dict[str, str]:
    """The text of each module of the package."""
    files = [Path(newsclippings.__file__), *sorted((ROOT / "_newsclippings").rglob("*.py"))]
    name = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return {name[file]: file.read_text(encoding="utf-8") for file in files}


_parse = functools.cache(ast.parse)


@functools.cache
def _homes(name: str) -> dict[str, list[str]]:
    """Each module that defines the constant, with the list of modules to change: itself and all that import it."""
    homes: dict[str, list[str]] = {}
    imports: list[tuple[str, str]] = []
    for module, text in _package().items():
        for node in _parse(text).body if name in text else ():
            if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
                imports.append((module, node.module))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                if name in stored:
                    homes[module] = [module]
    for users in homes.values():
        for user in users:  # the list grows during the loop, because the front of a package re-exports names
            users += [module for module, source in imports if source == user and module not in users]
    return homes


def change_constant(patch: pytest.MonkeyPatch, name: str, value: object, of: str | None = None) -> None:
    """Set a constant in the module that defines it, and in each that imports it by name.

    Args:
        patch: undoes the change after the test.
        name: the constant's name.
        value: its new value.
        of: last part of the defining module's name; needed if several modules define this name.

    Raises:
        LookupError: no module defines the constant, or several do and `of` does not select one.
    """
    homes = {home: users for home, users in _homes(name).items() if of in (None, home.rpartition(".")[2])}
    if len(homes) != 1:
        message = f"{name} of {of or 'any module'}: expected one module that defines it, found {sorted(homes)}"
        raise LookupError(message)
    for user in next(iter(homes.values())):
        # Import it before the change: a module first imported afterwards would keep the changed value for good.
        patch.setattr(importlib.import_module(user), name, value)


def find_ambiguous() -> list[str]:
    """List the calls of `change_constant` whose constant no module defines, or several do."""
    found = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "change_constant" in text else ():
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "change_constant"
            ):
                continue
            words = [*node.args[1:], *(key.value for key in node.keywords if key.arg == "of")]
            texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            name, of = texts[0] if texts else "", texts[-1] if len(texts) > 1 else None
            homes = [home for home in _homes(name) if of in (None, home.rpartition(".")[2])] if name else [name]
            if len(homes) != 1:
                found.append(f"{file.name}, line {node.lineno}: {name} of {of or homes}")
    return found
