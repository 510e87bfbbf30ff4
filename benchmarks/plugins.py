"""What listing plugins costs with many installed: fake distributions in a temporary folder.

Each is a fresh process; the bare interpreter is measured too, for comparison.

    python -m benchmarks.plugins
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.startup import report

NAMES = """
from mlc_llm.registry.registry import Registry
registry = Registry()
for kind in ("device", "library provider", "conversation template", "architecture"):
    registry.names(kind)
"""

DEVICE = """
from mlc_llm.plugin import Availability, Device

class Fake(Device):
    name = {name!r}

    def probe(self):
        return Availability(reason="it is a fake")

    def open(self, index): ...
    def target(self, index=0): ...
    def codegen(self, target, opt): ...
"""


def install_fakes(site: Path, count: int) -> None:
    """Write ``count`` distributions with one device each."""
    for i in range(count):
        info = site / f"fake_{i}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: fake-{i}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        entry_points = f"[mlc_llm.devices]\nfake{i} = fake_{i}:Fake\n"
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        (site / f"fake_{i}.py").write_text(DEVICE.format(name=f"fake{i}"), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugins", type=int, default=50, help="how many are installed")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        install_fakes(Path(folder), arguments.plugins)
        places = [folder, os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        report("python -c pass", [python, "-c", "pass"], arguments.rounds)
        report("names, nothing imported", [python, "-c", NAMES], arguments.rounds)
        listing = [python, "-m", "mlc_llm", "plugins", "--json"]
        report("mlc_llm plugins, all imported", listing, arguments.rounds)


if __name__ == "__main__":
    main()
