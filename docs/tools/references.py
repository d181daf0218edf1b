"""Write the pages of the documentation that are made from the code.

`python docs/tools/references.py` writes them; with `--check` it writes nothing, names the pages
that are not what the code says, and exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from api_reference import describe_api
from cli_reference import describe_commands
from errors_reference import describe_errors
from schemas_reference import describe_schemas

DOCS = Path(__file__).parents[1]
PAGES = {
    "api.md": describe_api,
    "cli.md": describe_commands,
    "errors.md": describe_errors,
    "schemas.md": describe_schemas,
}
COMMAND = "python docs/tools/references.py"
_MADE = f"<!-- Made from the code: {COMMAND} -->\n\n"


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from the code.")
    parser.add_argument("--check", action="store_true", help="only say which pages are not current")
    check = parser.parse_args().check
    stale = []
    for name, describe in PAGES.items():
        page, text = DOCS / name, _MADE + describe()
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                page.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"docs/{name} is not what the code says: {COMMAND}" if check else f"docs/{name}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
