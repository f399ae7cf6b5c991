"""``medseg-fast`` and ``python -m medseg_fast``."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, or say which extra it needs."""
    missing = [package for module, package in _NEEDS.items() if find_spec(module) is None]
    if missing:
        names = ", ".join(missing)
        sys.exit(f'medseg-fast: needs {names}: pip install "medseg_fast[io]"')
    from medseg_fast.cli import cli

    cli.main(prog_name="medseg-fast")


_NEEDS = {"click": "click", "PIL": "Pillow"}

if __name__ == "__main__":
    main()
