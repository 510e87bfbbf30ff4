"""What is disturbed, one file each."""

from __future__ import annotations

from fuzz.injection.scenario import Scenario
from fuzz.injection.scenarios.answering import Answering
from fuzz.injection.scenarios.caching import ConvertingIntoTheCache
from fuzz.injection.scenarios.compiling import Compiling, CompilingIntoTheCache
from fuzz.injection.scenarios.configuring import Configuring
from fuzz.injection.scenarios.converting import Converting, ConvertingAgain
from fuzz.injection.scenarios.downloading import Downloading
from fuzz.injection.scenarios.saving import Saving, SavingTwice

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Converting,
        ConvertingAgain,
        ConvertingIntoTheCache,
        Configuring,
        Downloading,
        Saving,
        SavingTwice,
        Answering,
        Compiling,
        CompilingIntoTheCache,
    )
}
"""Every scenario by its name."""
