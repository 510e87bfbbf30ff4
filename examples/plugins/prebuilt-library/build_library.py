"""Compile a model's library onto the shelf: ``python build_library.py MODEL [--device cpu]``.

To be run before the wheel is built, once for every model that the wheel is to serve.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from mlc_llm_shelf import SUFFIX, library_name

from mlc_llm import compile_model
from mlc_llm.library.record import read_record

LIBRARIES = Path(__file__).parent / "mlc_llm_shelf" / "libraries"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile a model's library onto the shelf.")
    parser.add_argument("model", help="a model folder, or HF://org/name")
    parser.add_argument("--device", default="cpu", help="the device to compile for [cpu]")
    arguments = parser.parse_args()
    LIBRARIES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LIBRARIES.parent) as folder:
        built = compile_model(arguments.model, arguments.device, Path(folder) / f"library{SUFFIX}")
        record = read_record(built)
        print(built.replace(LIBRARIES / library_name(record.spec, record.device)))


if __name__ == "__main__":
    main()
