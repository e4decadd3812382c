"""Write the generated parts of the documentation: the command-line reference, and the tables of steps in the README.

Run it with ``make reference``.  A test fails when the files are out of date.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from probemap.runs.definitions import PLOT, STEPS, Step

ROOT = Path(__file__).parent.parent
PIPELINE = ("answer", "judge", "capture", "attention", "p-true", "map", "plot")
"""Steps of the first table, up to the figure; the second table has the others."""


def step_table(steps: list[Step[Any, Any]]) -> str:
    """Return a Markdown table of steps, their files, and what the files hold."""
    rows = ["| step | output | content |", "| --- | --- | --- |"]
    for step in steps:
        files = [name for name in step.outputs if name != "task.json"]
        rows.append(f"| `probemap {step.name}` | {', '.join(f'`{name}`' for name in files)} | {step.summary} |")
    return "\n".join(rows)


def step_tables() -> dict[str, str]:
    """Return the two tables by the name of their marker in the README."""
    steps = STEPS | {PLOT.name: PLOT}
    return {
        "pipeline": step_table([steps[name] for name in PIPELINE]),
        "studies": step_table([step for name, step in steps.items() if name not in PIPELINE]),
    }


def with_tables(text: str) -> str:
    """Return the text of the README with the present tables between its markers."""
    for name, table in step_tables().items():
        pattern = rf"(<!-- steps: {name} -->\n).*?(\n<!-- end -->)"
        text = re.sub(pattern, lambda match, table=table: match[1] + table + match[2], text, flags=re.DOTALL)
    return text


def main() -> None:
    """Write README.md and docs/cli.md."""
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
    command = ["-m", "typer", "probemap.cli.main", "utils", "docs", "--name", "probemap", "--output", "docs/cli.md"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)  # noqa: S603  (the command is fixed)


if __name__ == "__main__":
    main()
