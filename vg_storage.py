#!/usr/bin/env python3
"""Start a storage from a bare checkout; the same as the installed program."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

try:
    from goggles.cli.storage import main
except ImportError as error:
    sys.stderr.write(
        f"vg_storage.py: {error}; run `make venv` (Python 3.11 or newer), then venv/bin/python vg_storage.py\n"
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
