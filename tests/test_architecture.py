"""The layers: core without Qt, widgets without model code, a window without torch, nothing importing app."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# These import Triton, which only torch for CUDA brings.
WITH_TRITON = {f"core.cuda.{name}" for name in ("attention_kernels", "pass_kernels", "product_kernels", "products", "fused")}
WITH_TRITON |= {"core.bench.gpu.kernels"}
MODEL_CODE = ("torch", "transformers", "bitsandbytes", "numba")


def _modules(package):
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py"))
    names = [".".join(path.parts).removesuffix(".__init__") for path in files if path.name != "__main__"]
    return [name for name in names if name not in WITH_TRITON or find_spec("triton")]


def _done(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _loaded_by(modules):
    """The top-level packages in memory once `modules` are imported in a process of their own."""
    script = (
        f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_that_the_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["app", "widgets"])
def test_that_the_process_of_the_window_never_imports_model_code(package):
    loaded = _loaded_by(_modules(package))
    assert "PySide6" in loaded
    assert not loaded.intersection(MODEL_CODE)


def test_that_the_process_of_the_engine_never_imports_qt():
    loaded = _loaded_by(["app.engine_process", "app.cli.run", "app.cli.compare", *_modules("core")])
    assert "torch" in loaded
    assert not loaded.intersection(("PySide6", "pyqtgraph"))


def test_that_the_top_level_is_the_one_laid_down():
    tracked = _done("git", "ls-files").stdout.splitlines()
    if not tracked:
        pytest.skip("not a checkout")
    seen = {name.partition("/")[0] for name in tracked if not name.startswith(".")}
    laid_down = {"app", "core", "widgets", "assets", "tests"}
    assert seen <= {*laid_down, "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}


def test_that_no_file_is_too_long_to_read():
    long = [path for package in ("app", "core", "widgets") for path in (ROOT / package).rglob("*.py") if _lines(path) > 300]
    assert long == []


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())
