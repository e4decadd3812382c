"""Hooks of the documentation's build (`mkdocs.yml`): pages from the whole repository, and executed tutorials.

README, CONTRIBUTING, CHANGELOG and `benchmarks/results` become pages of the site, and links between files of the
repository become links between pages.  Each `docs/tutorials/*.py` is run as a notebook and rendered with its outputs.
An error in a tutorial stops the build.  ``TUTORIALS=plain mkdocs serve`` renders them without running them.
"""

import os
import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

import probemap

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
}
"""Files of the site that are not in `docs`: file in the repository -> file of the site."""

PAGES |= {f"benchmarks/results/{p.name}": f"measurements/{p.name}" for p in sorted(RESULTS.iterdir())}
_LINK = re.compile(r"(\]\(|src=\"|href=\")(?![a-z]+:|#)([^)\s\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside `docs`, and the tutorials."""
    for source, uri in PAGES.items():
        content: Any = (ROOT / source).read_bytes()
        files.append(File.generated(config, uri, content=content.decode() if uri.endswith(".md") else content))
    titles = {uri: _title(ROOT / source) for source, uri in PAGES.items() if uri.startswith("measurements/")}
    entries = "".join(f"- [{title}]({Path(uri).name})\n" for uri, title in titles.items() if uri.endswith(".md"))
    files.append(File.generated(config, "measurements/index.md", content=f"# Measurements\n\n{entries}"))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.py")):
        for uri, data in _tutorial(path).items():
            files.append(File.generated(config, f"tutorials/{uri}", content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages, and names of the public API at the modules that define them."""
    uri = page.file.src_uri
    source = next((source for source, target in PAGES.items() if target == uri), f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if target == "benchmarks/results":
            target = "measurements/index.md"
        target = PAGES.get(target, target.removeprefix("docs/"))
        if target.startswith("tutorials/"):
            target = re.sub(r"\.py$", ".md", target)
        if not files.get_file_from_path(target):
            return match[0]  # MkDocs reports it
        return match[1] + posixpath.relpath(target, posixpath.dirname(uri) or ".")

    markdown = "".join(
        part if part.startswith("```") else _LINK.sub(link, part)
        for part in re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    )
    return re.sub(r"^::: probemap\.(\w+)$", lambda match: f"::: {defined_at(match[1])}", markdown, flags=re.MULTILINE)


def defined_at(name: str) -> str:
    """Return the dotted path at which a public name is defined, for the parser of the API reference."""
    return f"probemap.{probemap._MODULE_OF[name]}.{name}"


def _title(path: Path) -> str:
    heading = re.match(r"# (.*)", path.read_text(encoding="utf-8")) if path.suffix == ".md" else None
    return heading[1] if heading else path.stem.replace("_", " ").capitalize()


def _tutorial(path: Path) -> dict[str, Any]:
    """Run a tutorial; return its page, its images, and the notebook, by file name."""
    notebook = jupytext.read(path)
    if os.environ.get("TUTORIALS") != "plain":
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:  # progress bars and warnings of libraries
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = MarkdownExporter()
    images = f"{path.stem}_files"
    markdown, resources = exporter.from_notebook_node(notebook, {"unique_key": path.stem, "output_files_dir": images})
    title, _, body = markdown.lstrip().partition("\n")
    note = f"[Download this page as a notebook]({path.stem}.ipynb)"
    empty = nbformat.from_dict(notebook)
    for cell in empty.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return {
        f"{path.stem}.md": f"{title}\n\n{note}\n{body}".replace("![png](", "![Figure](").replace(
            "![svg](", "![Figure]("
        ),
        f"{path.stem}.ipynb": jupytext.writes(empty, fmt="ipynb"),
        **resources["outputs"],
    }
