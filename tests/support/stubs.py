"""Write the types of newsclippings.py for users: `python -m tests.support.stubs`.

A single-file module cannot declare that it has types (PEP 561 requires a package); `newsclippings-stubs` holds them.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STUBS = ROOT / "newsclippings-stubs" / "__init__.pyi"


def stubs_of(source: str) -> str:
    """Signatures of the public functions and classes of a module, and the imports that they need."""
    tree = ast.parse(source)
    assigned = {ast.unparse(node.targets[0]): node for node in tree.body if isinstance(node, ast.Assign)}
    public = ast.literal_eval(assigned["__all__"].value)
    kept = [
        _signatures(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public
    ]
    used = {node.id for one in kept for node in ast.walk(one) if isinstance(node, ast.Name)} | {*public}
    imports: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [name for name in node.names if (name.asname or name.name).partition(".")[0] in used]
            imports += [node] if node.names else []
    version = ast.parse("__version__: str").body
    lines = [ast.unparse(node) for node in [*imports, assigned["__all__"], *version, *kept]]
    return "\n".join(["# Written by tests/support/stubs.py.", *lines, ""])


def _signatures(node: ast.stmt) -> ast.stmt:
    """Strip bodies, defaults, private members, and fields whose types are inherited."""
    if isinstance(node, ast.FunctionDef):
        node.body = [ast.Expr(ast.Constant(...))]
        node.args.defaults = [ast.Constant(...) for _ in node.args.defaults]
        node.args.kw_defaults = [default and ast.Constant(...) for default in node.args.kw_defaults]
    elif isinstance(node, ast.ClassDef):
        members = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AnnAssign)]
        node.body = [_signatures(one) for one in members if _is_public(one)] or [ast.Expr(ast.Constant(...))]
    return node


def _is_public(node: ast.FunctionDef | ast.AnnAssign) -> bool:
    name = node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.target)
    return name == "__init__" or not name.startswith("_")


def main() -> None:
    """Write the stubs."""
    STUBS.write_text(stubs_of((ROOT / "newsclippings.py").read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
