"""Check the wheel: ``python tests/wheel.py [DIST]`` (`make wheel`).

Builds the wheel, installs it without extras into a new virtual environment in a temporary directory, and checks there
that the package imports without torch, that `fit_map` runs, and that the command line starts.  Takes minutes, because
it installs torch; therefore it is not part of the test suite.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = """
import sys
import probemap
assert "torch" not in sys.modules and "numpy" not in sys.modules
import numpy as np
states = np.random.default_rng(0).normal(size=(200, 4, 2, 16))
probe_map = probemap.fit_map(states, states[:, 2, 1, 0] > 0, positions=["last_q", "exact_answer_last"])
best = probe_map.best()[0]
assert (best.layer, best.position) == (2, "exact_answer_last"), best
assert best.auc > 0.9, best
assert len(probemap.load_task("cities").examples) > 100
print("fit_map:", best)
"""


def main() -> None:
    dist = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    dist.mkdir(exist_ok=True)
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:  # a copy, so that old files in build/ do not enter the wheel
        source = Path(folder) / "source"
        shutil.copytree(ROOT / "probemap", source / "probemap", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        build = [sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", str(dist), str(source)]
        subprocess.run(build, check=True)
    wheel = max(dist.glob("probemap-*.whl"), key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for suffix in ("probemap/py.typed", "page/page.js", "data/cities.csv", "licenses/LICENSE"):
        assert any(name.endswith(suffix) for name in names), f"{suffix} is missing in {wheel.name}: {names}"
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))], names
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([python, *pip, "install", *constraints, str(wheel)], check=True)
        subprocess.run([python, "-c", CHECK], check=True, cwd=folder)
        probemap = [str(python.with_name("probemap")), "--help"]
        assert (
            "Usage: probemap" in subprocess.run(probemap, check=True, cwd=folder, capture_output=True, text=True).stdout
        )
    print(f"{wheel.relative_to(Path.cwd()) if wheel.is_relative_to(Path.cwd()) else wheel}: base install works")


if __name__ == "__main__":
    main()
