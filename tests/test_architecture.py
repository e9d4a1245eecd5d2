"""The layering of the house, read from the source: who may import whom, what must be said of every public name, what must never be written."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared_models", "client", "server", "sim")
MAY_IMPORT = {
    "shared_models": {"shared_models"},
    "client": {"client", "shared_models"},
    "server": {"server", "shared_models"},
    "sim": {"sim", "client", "server", "shared_models"},
}
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@dataclass(frozen=True)
class Import:
    target: str
    for_types: bool
    """Inside ``if TYPE_CHECKING``: read by the type checker alone, never run, so it closes no circle."""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _walk(node: ast.AST, for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = for_types or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        yield child, inside
        yield from _walk(child, inside)


@functools.cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """All imports, also those inside functions; ``from package import module`` counts as the module."""
    found = []
    for node, for_types in _walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, for_types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                # What is no module of ours may still be one of a library: both spellings are looked at.
                ours = str(node.module).split(".")[0] in PACKAGES
                targets = [full if full in MODULES else str(node.module)] if ours else [str(node.module), full]
                found += [Import(target, for_types) for target in targets]
    return tuple(found)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_packages_import_only_downwards(path: Path) -> None:
    package = module_of(path).split(".")[0]
    ours = {i.target for i in imports_of(path) if i.target.split(".")[0] in PACKAGES}
    assert not {target for target in ours if target.split(".")[0] not in MAY_IMPORT[package]}
    assert ours <= MODULES.keys(), "an import of ours names a module that is not there"


def test_server_reads_no_images() -> None:
    banned = ("pydicom", "skimage", "scipy.ndimage", "PIL")
    for name, path in MODULES.items():
        if name.split(".")[0] == "server":
            assert not [i.target for i in imports_of(path) if i.target.startswith(banned)], name


def test_pydicom_lives_in_three_places() -> None:
    homes = ("client.dicom", "client.intake", "sim.scanner")
    users = {name for name, path in MODULES.items() if any(i.target.split(".")[0] == "pydicom" for i in imports_of(path))}
    assert users, "somebody must read DICOM"
    assert not {name for name in users if not name.startswith(homes)}


def test_no_circles_counting_imports_inside_functions() -> None:
    edges = {name: {i.target for i in imports_of(path) if i.target in MODULES and not i.for_types} - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " > ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_no_module_imports_the_table_of_its_own_folder() -> None:
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            assert name.rpartition(".")[0] not in {i.target for i in imports_of(path)}, name


def reached_from(name: str) -> set[str]:
    """All modules and libraries that importing or calling `name` may load."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        if here in MODULES:
            parents = [".".join(here.split(".")[:n]) for n in range(1, here.count(".") + 1)]
            todo += parents + [i.target for i in imports_of(MODULES[here]) if not i.for_types]
    return seen


def test_messenger_can_reach_no_data() -> None:
    reached = reached_from("client.app")
    assert "client.line" in reached
    assert "shared_models.messages" in reached
    banned = ("torch", "monai", "pydicom", "client.cases", "client.training", "client.dicom", "client.site", "client.worker")
    assert not {name for name in reached if name.startswith(banned)}


def _loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('LOADED', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return set(run.stdout.split("LOADED", 1)[1].split())


def test_messenger_loads_no_data_library() -> None:
    loaded = _loaded_after("import client.app")
    assert "client.line" in loaded
    assert not loaded & {"torch", "monai", "pydicom", "client.cases", "client.worker", "scipy", "sklearn"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['fedild', '--help']\nfrom sim.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    loaded = _loaded_after(code)
    assert "sim.cli" in loaded
    assert not loaded & {"torch", "monai", "pydicom", "flwr", "scipy", "sklearn", "skimage", "matplotlib", "ray"}


def _public(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")


def _undocumented(body: list[ast.stmt], place: str) -> Iterator[str]:
    for node in body:
        if not _public(node):
            continue
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{place}.{node.name}"
        if not ast.get_docstring(node):
            yield f"{name}: no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, name)
            continue
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
        yield from (f"{name}({a.arg}): no annotation" for a in named if a.annotation is None and a.arg not in ("self", "cls"))
        if node.returns is None:
            yield f"{name}: no return annotation"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_public_name_is_documented_and_annotated(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    assert not list(_undocumented(tree.body, module_of(path)))


def _banned(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if {name.split(".")[0] for name in names} & {"pickle", "dill", "joblib", "yaml", "marshal", "shelve"}:
                yield f"{where}: {ast.unparse(node)}"
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in ("torch.load", "yaml.load", "eval", "exec"):
                yield f"{where}: {ast.unparse(node.func)}"
            for keyword, value in (("weights_only", False), ("force", True), ("allow_pickle", True)):
                if any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in node.keywords):
                    yield f"{where}: {keyword}={value}"


def test_nothing_that_executes_files_outside_the_tests() -> None:
    sources = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in ("tests", ".venv", "runs", "build")]
    assert len(sources) >= len(FILES)
    found = {str(path.relative_to(ROOT)): list(_banned(tree_of(path))) for path in sources}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    "text", ["import pickle", "torch.load(x)", "f(weights_only=False)", "dcmread(p, force=True)", "yaml.load(x)", "np.load(p, allow_pickle=True)"]
)
def test_the_ban_sees(text: str) -> None:
    assert list(_banned(ast.parse(text)))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_input_is_checked_by_errors_not_by_assert(path: Path) -> None:
    assert not [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]
