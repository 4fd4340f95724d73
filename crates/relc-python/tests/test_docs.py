"""The documentation's examples run, and the stubs say what the native half has."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import relc
from conftest import ROOT
from relc import _relc

MODULES = ["relc", *(f"relc.{name}" for name in "_explain _explanation _lrp _preprocess _quantus _torch _zennit".split())]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0
    if module in ("relc", "relc._explain", "relc._explanation", "relc._lrp", "relc._zennit"):
        assert result.attempted > 0


def test_the_guide(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testfile(str(ROOT / "docs/python.md"), module_relative=False)
    assert result.failed == 0 and result.attempted > 5


def test_the_notebook(monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib", minversion="3.8", reason="notebooks need a newer matplotlib")
    notebook = nbformat.read(ROOT / "examples/python/quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "is stored without outputs"
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in shown)


def test_everything_public_is_documented():
    for name in relc.__all__:
        value = getattr(relc, name)
        if not isinstance(value, str):
            assert inspect.getdoc(value), name


def test_the_stubs_are_the_native_half():
    tree = ast.parse((Path(relc.__file__).parent / "_relc.pyi").read_text())

    def names(nodes):
        defined = {node.name: node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        fields = {node.target.id: node for node in nodes if isinstance(node, ast.AnnAssign)}
        return {**defined, **fields}

    stubs = names(tree.body)
    own = {name for name in vars(_relc) if name == "__version__" or not name.startswith("_")}
    assert set(stubs) == own
    for name, node in stubs.items():
        if isinstance(node, ast.ClassDef) and name != "RelcError":
            stub = set(names(node.body))
            assert stub == {n for n in vars(getattr(_relc, name)) if not n.startswith("_") or n in stub}
        if isinstance(node, ast.FunctionDef):
            arguments = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            assert list(inspect.signature(getattr(_relc, name)).parameters) == arguments
