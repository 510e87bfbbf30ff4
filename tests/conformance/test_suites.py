"""The suites find what is wrong with a plugin, and run for installed plugins by name."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).parent

FOREIGN = "test_foreign_requests[{}]"
OTHERS = "test_refuses_others[{}]"

PLUGINS = {
    "TestLosesText": {
        "test_one_turn": "is 0 times in the prompt",
        "test_several_turns": "is 0 times in the prompt",
        "test_without_a_system_message": "is 0 times in the prompt",
        "test_preset_messages": "is 0 times in the prompt",
    },
    "TestRepeatsText": {"test_one_turn": "is 2 times in the prompt"},
    "TestLosesAnswers": {"test_several_turns": "is 0 times in the prompt"},
    "TestLosesWhatToolsSay": {"test_tool_messages": "is 0 times in the prompt"},
    "TestLosesSystemMessage": {"test_system_message": "no place for the template's"},
    "TestMisspeltPlaceholder": {"test_no_placeholder_is_left": "{sytem_message}"},
    "TestNobodySpeaks": {"test_who_speaks_can_be_told": "both stand in"},
    "TestNeverStops": {"test_answers_end": "neither a stop string nor a stop token"},
    "TestIsNoJSON": {"test_round_trips_through_json": "not JSON serializable"},
    "TestIsNoTemplate": {"test_one_turn": "not a valid conversation template"},
    "TestLosesTextWithoutMemory": {
        "test_only_the_last_message_without_memory": "is 0 times in the prompt"
    },
    "TestIsOff": {
        "test_agrees_with_the_cpu[q0f32]": "a logit is off by",
        "test_goes_back": "a logit is off by",
    },
    "TestHasAReservedName": {"test_name": "the word for the best device"},
    "TestGivesNoReason": {"test_probe": "does not say why"},
    "TestRaisesWhenProbed": {"test_probe": "the driver is too old"},
    "TestOpensAnything": {
        "test_open": "DID NOT RAISE",
        "test_target": "it is not a JSON object",
        "test_mismatch": "it accepts a library that needs",
    },
    "TestAnyModelsLibrary": {
        FOREIGN.format("more layers"): "it is for another model",
        FOREIGN.format("an unknown architecture"): "it is for another model",
        FOREIGN.format("another target"): "its target is of kind",
        FOREIGN.format("a named folder"): "is asked for, and it offers",
    },
    "TestServesNobody": {
        "test_serves": "it gives no reason",
        "test_small_model": "it gives no reason",
    },
    "TestRaises": {
        "test_small_model": "it raised: ",
        FOREIGN.format("an unknown architecture"): "no-such-architecture",
    },
    "TestIsSomebodyElse": {"test_serves": "it gives 'somebody' as its name"},
    "TestHasAnotherSignature": {"test_is_accepted": "a hook of it is wrong"},
    "TestAnswersWithText": {"test_small_model": "not Found, NotFound or None"},
    "TestSwapsWeights": {"test_agrees_with_the_reference": "a logit is off by"},
    "TestForgetsAWeight": {
        "test_weight_map": "only the module has ['model.embed_tokens.weight']",
        "test_converts[q4f16_1]": "does not know",
    },
    "TestReadsAnything": {
        "test_name": "config.json says 'llama', not 'fake'",
        "test_refuses_a_wrong_config": "DID NOT RAISE",
        "test_config_is_kept_by_a_model_folder": "gives another config",
        "test_config_is_kept_by_its_shape": "the shape loses ['rms_norm_eps']",
    },
}
"""By suite and test of ``broken_plugins.py``, what the failure says."""

SOURCES = {
    "TestRecognizesAnything": {
        OTHERS.format("an empty folder"): "says True of an empty folder",
        OTHERS.format("a text"): "says True of a text",
        OTHERS.format("a place with nothing"): "says True",
    },
    "TestRaisesForOthers": {OTHERS.format("a text"): "NotADirectoryError"},
    "TestRecognizesNothing": {"test_recognizes_its_own": "says None of"},
    "TestHasNoDescription": {"test_is_accepted": "it has no description"},
    "TestConfigIsNotJSON": {"test_says_what_the_model_is": "its config is not JSON"},
    "TestGivesText": {"test_tokenizer_and_template": "tokenizer.json is str, not bytes"},
    "TestTemplateIsInNoFile": {"test_tokenizer_and_template": "and that of its files None"},
    "TestForgetsATensor": {
        "test_reads_the_values": "it lacks ['",
        "test_converts[q4f16_1]": "lacks",
    },
    "TestLeavesFilesOpen": {"test_leaves_no_file_open": "it still holds ['"},
    "TestRaisesOthersErrors": {
        "test_cut_short": "SafetensorError is raised",
        "test_changed_bytes": "SafetensorError is raised",
    },
    "TestMisnames": {"test_lists_its_tensors": "says that its name is 'x."},
    "TestLosesTheShape": {"test_reads_the_values": "and reads ("},
    "TestReadsDoubles": {"test_reads_the_values": "is read as float64"},
    "TestReversesRows": {"test_reads_the_values": "has other values"},
    "TestIgnoresRows": {"test_reads_rows": "has other rows in slice(0, 1, None)"},
    "TestSharesItsArrays": {"test_reads_rows": "changes with what was read of it"},
    "TestPadsWhatIsMissing": {"test_cut_short_when_it_is_open": "has other values"},
    "TestKeepsTooLittle": {"test_is_kept_without_loss": "has other values in float16"},
    "TestHasOtherCodes": {"test_is_kept_without_loss": "has other values in 8 bits"},
    "TestHasNarrowScales": {"test_is_kept_without_loss": "'float16'"},
}
"""By suite and test of ``broken_sources.py``, what the failure says."""

FILE_OF = dict.fromkeys(PLUGINS, "broken_plugins.py") | dict.fromkeys(SOURCES, "broken_sources.py")
REPORTED = PLUGINS | SOURCES
EVERY = [(suite, test) for suite, tests in REPORTED.items() for test in tests]


def run_pytest(*arguments: str | Path, path: Path | None = None) -> tuple[int, str]:
    """Run pytest in a new process; returns its exit status and what it prints."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What each failed test of the broken plugins says; all are run in one process."""
    report = tmp_path_factory.mktemp("report") / "report.xml"
    tests = [f"{HERE / FILE_OF[suite]}::{suite}::{test}" for suite, test in EVERY]
    status, printed = run_pytest(*tests, f"--junitxml={report}")
    assert status == 1, printed
    return {
        (case.get("classname", "").rpartition(".")[2], case.get("name", "")): "".join(
            problem.get("message", "") + (problem.text or "") for problem in case
        )
        for case in ElementTree.parse(report).getroot().iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    }


@pytest.mark.parametrize(("suite", "test"), EVERY)
def test_reports(failures: dict[tuple[str, str], str], suite: str, test: str) -> None:
    assert (suite, test) in failures, "it passes"
    assert REPORTED[suite][test] in failures[suite, test]


PLUGIN = ("-p", "mlc_llm.testing.pytest_plugin")


def test_installed_plugins_by_name(tmp_path: Path) -> None:
    """Only the named plugins' suites run."""
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    status, printed = run_pytest(
        *PLUGIN,
        *("--mlc-llm-template", "llama-2", "--mlc-llm-template", "LM"),
        *("--rootdir", tmp_path, "-v", "--no-header"),
    )
    assert status == 0, printed
    assert "TestTemplate_llama_2::test_one_turn PASSED" in printed
    assert "TestTemplate_LM::test_one_turn PASSED" in printed
    assert "test_other" not in printed
    assert "TestDevice" not in printed


def test_an_installed_source_by_name(tmp_path: Path) -> None:
    """What needs a checkpoint is left to a subclass, which has one."""
    status, printed = run_pytest(*PLUGIN, "--mlc-llm-source", "gguf", "--rootdir", tmp_path, "-v")
    assert status == 0, printed
    assert "TestSource_gguf::test_refuses_others[random bytes] PASSED" in printed
    assert "TestSource_gguf::test_cut_short SKIPPED" in printed


def test_files_beside_installed_plugins(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    status, printed = run_pytest(
        *PLUGIN, "-v", tmp_path / "test_other.py", "--mlc-llm-template", "LM"
    )
    assert status == 0, printed
    assert "test_other PASSED" in printed
    assert "TestTemplate_LM::test_one_turn PASSED" in printed


def test_without_names_the_plugin_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    status, printed = run_pytest(*PLUGIN, "-v", tmp_path)
    assert status == 0, printed
    assert "1 passed" in printed


def test_a_name_that_is_not_installed() -> None:
    status, printed = run_pytest(*PLUGIN, "--mlc-llm-device", "cpuu")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "--mlc-llm-device: Unknown device 'cpuu'. Did you mean 'cpu'" in printed


def test_a_broken_installed_plugin(tmp_path: Path) -> None:
    """It is loaded by the tests, which fail with its reason."""
    info = tmp_path / "sad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlc_llm.conversation_templates]\nsad = sad:T\n")
    (tmp_path / "sad.py").write_text("raise OSError('no luck')")
    status, printed = run_pytest(*PLUGIN, "--mlc-llm-template", "sad", path=tmp_path)
    assert status == 1, printed
    assert "The conversation template 'sad' of sad 1.0 cannot be used: OSError: no luck" in printed
