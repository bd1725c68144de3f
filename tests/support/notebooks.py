"""Write the notebooks of docs/notebooks with their results: `python -m tests.support.notebooks`.

They are executed in a temporary folder, so that they leave nothing in the checkout.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def execute(path: Path, folder: Path) -> Any:
    """Execute a notebook in a folder, and return it with its results; an error of a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def main() -> None:
    """Execute all notebooks and write them; paths of the temporary folder become `.`, times go."""
    import nbformat

    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            text = nbformat.writes(execute(path, Path(folder))).replace(os.path.realpath(folder), ".")
            notebook = nbformat.reads(text, as_version=4)
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":  # progress bars and logs differ each time
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
