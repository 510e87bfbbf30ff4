"""An NVIDIA GPU that computes on the CPU, for tests.

python plugins/cuda/emulator                 prints what LD_PRELOAD must be
python plugins/cuda/emulator COMMAND ...     runs a command that has such a GPU
"""

from __future__ import annotations

import os
import sys

from libraries import preload


def main() -> int:
    try:
        libraries = preload()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if len(sys.argv) == 1:
        print(libraries)
        return 0
    os.environ["LD_PRELOAD"] = libraries
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
