"""The example notebook, as Jupyter runs it: every cell, in a kernel of its own."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "phone_in_the_crowd.ipynb"


def test_the_notebook_runs_from_top_to_bottom_and_is_kept_without_results():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=place).execute()
    kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds  # the spectrograms and the players
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "recorded: lsd" in printed and "restored: lsd" in printed
