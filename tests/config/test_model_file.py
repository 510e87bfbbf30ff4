"""A model's own file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlc_llm import ChatConfig
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import ModelFile
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing import raises

from .values import FILE, TEMPLATE, model_file, written


class TestModelFile:
    def test_null_means_not_there(self, tmp_path: Path) -> None:
        optional = {n for n, field in ModelFile.model_fields.items() if not field.is_required()}
        loaded = ModelFile.load(written(tmp_path, **dict.fromkeys(optional)))
        required = {name: value for name, value in FILE.items() if name not in optional}
        assert loaded == ModelFile.model_validate(required)
        with raises("model-config-invalid", "vocab_size"):
            ModelFile.load(written(tmp_path, vocab_size=None))

    def test_a_window_of_0_means_not_given(self, tmp_path: Path) -> None:
        windows = ("context_window_size", "sliding_window_size", "prefill_chunk_size")
        loaded = ModelFile.load(written(tmp_path, **dict.fromkeys(windows, 0)))
        assert [getattr(loaded, name) for name in windows] == [-1, -1, -1]

    def test_an_overlaid_file_shares_nothing(self) -> None:
        file, config = model_file(), ChatConfig(conv_template=TEMPLATE, tokenizer_files=["a"])
        laid = file.overlaid(config)
        assert isinstance(laid.conv_template, dict)
        laid.conv_template["roles"]["user"] = "changed"
        laid.tokenizer_files.append("changed")
        laid.architecture_config["hidden_size"] = 1
        assert file == model_file()
        assert config == ChatConfig(conv_template=TEMPLATE, tokenizer_files=["a"])


class TestUnknownFields:
    def test_a_models_file_gets_one_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        template = {**TEMPLATE, "sep_style": 1, "colour": "red"}
        path = written(tmp_path, conv_template=template, zebra=1, conv_config={})
        loaded = ModelFile.load(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path} has fields that are not known and not used: conv_config, zebra, "
            "conv_template.colour, conv_template.sep_style"
        ]
        assert caplog.records[0].levelno == logging.WARNING
        settings = ChatSettings.of(loaded, None, default_registry(), tmp_path)
        assert settings.template == ConversationTemplate.from_data(TEMPLATE, "it")

    def test_a_models_file_of_known_fields_gets_none(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ModelFile.load(written(tmp_path))
        assert not caplog.records

    def test_published_files_get_none(
        self, test_data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths = sorted((test_data / "mlc" / "weights").glob("*/mlc-chat-config.json"))
        assert len(paths) > 1
        for path in paths:
            settings = ChatSettings.of(ModelFile.load(path), None, default_registry(), path.parent)
            assert settings.template.name in ("chatml", "qwen2")
        assert not caplog.records
