"""What the suites share."""

from __future__ import annotations

import pytest

from mlc_llm.testing.libraries import run_libraries
from mlc_llm.testing.workbench import Workbench


class Suite:
    """A class of conformance tests with a workbench of its own."""

    @pytest.fixture
    def workbench(self, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
        """Where small models are converted, each once for the class, and compiled, once a run."""
        cls = type(self)
        kept: Workbench | None = vars(cls).get("_workbench")
        if kept is None:
            kept = Workbench(
                tmp_path_factory.mktemp("conformance"), run_libraries(tmp_path_factory)
            )
            cls._workbench = kept  # type: ignore[attr-defined]
        return kept
