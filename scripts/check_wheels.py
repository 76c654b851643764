# SPDX-License-Identifier: Apache-2.0
"""Check that a wheel of every locked dependency exists for each Python and platform that Fairlead runs on.

    .venv/bin/python scripts/check_wheels.py [FILE …]

macOS means Apple silicon: `cryptography` builds no wheels for Intel Macs any more.

Asks the resolver, which reads only metadata: nothing is installed. Ends 1 where a wheel is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")


def missing(requirements: str, python: str, platform: str) -> str:
    """What the resolver says of the first package without a wheel; "" where all are there."""
    command = [
        str(ROOT / "scripts" / "uv"), "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--python-version", python, "--python-platform", platform, requirements,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"the resolver ended {done.returncode}"


def main(files: list[str]) -> int:
    failures = 0
    for file in files or ["requirements.txt", "requirements-build.txt", "requirements-dev.txt"]:
        for python in PYTHONS:
            for platform in PLATFORMS:
                problem = missing(file, python, platform)
                failures += bool(problem)
                print(f"{file}: Python {python}, {platform}: {problem or 'every wheel exists'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
