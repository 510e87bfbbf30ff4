"""``python -m benchmarks.gpu pack -o FILE``: makes the bundle for a machine with a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.gpu.pack import ARCHITECTURES, PYTHONS, pack


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack", help="make a bundle, on a machine without a GPU")
    packing.add_argument(
        "-o", "--output", type=Path, required=True, help="a folder, or a .zip, .tar.gz or .tar.xz"
    )
    packing.add_argument(
        "--python", nargs="+", default=list(PYTHONS), help="the versions that it is for"
    )
    packing.add_argument("--arch", default=",".join(ARCHITECTURES), help="compute capabilities")
    packing.add_argument("--quick", action="store_true", help="tiny, for the emulated GPU")
    chosen = parser.parse_args()
    print(pack(chosen.output, chosen.python, chosen.arch.split(","), chosen.quick))


if __name__ == "__main__":
    main()
