"""Build the site of the documentation, a folder of pages that need no network.

Pages keep the places that they have in the repository, so that a link between two of them, or to
any other file, is the same on the site, in a clone and on a code host. A link that leads nowhere
ends the build.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "*.md",
    "benchmarks/README.md",
    "docs/**/*.md",
    "examples/README.md",
)
# What pages show, besides what they link to.
_FILES = ("docs/pictures/*",)
_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def list_pages() -> list[Path]:
    """List the pages of the site, in the repository."""
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def find_links(page: Path) -> list[str]:
    """List the targets of a page's links, outside of code."""
    return _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))


def stage(folder: Path) -> None:
    """Copy pages, and the files that they link to, into a folder, each to its own place."""
    pages = list_pages()
    files = {path for pattern in _FILES for path in ROOT.glob(pattern)}
    for page in pages:
        targets = (link.partition("#")[0] for link in find_links(page) if "://" not in link)
        files |= {path for target in targets if (path := page.parent / target).is_file()}
    for path in {*pages, *(path.resolve() for path in files)}:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def build_site(output: Path) -> None:
    """Build the site into a folder, which is replaced.

    Raises
    ------
    subprocess.CalledProcessError
        If a link leads nowhere, or the site cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        stage(work / "pages")
        shutil.copyfile(ROOT / "docs/zensical.toml", work / "zensical.toml")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        subprocess.run(command, cwd=work, check=True)
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "site", output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the site of the documentation.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build/site")
    arguments = parser.parse_args()
    try:
        build_site(arguments.output)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    print(arguments.output / "index.html")
