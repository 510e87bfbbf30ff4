"""Finding the chat template of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.errors import TemplateError
from mlc_llm.testing import raises
from mlc_llm.tokenizer.chat_template import read_jinja_template, require_jinja_template


def _write(folder: Path, **config: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_none(tmp_path: Path) -> None:
    assert read_jinja_template(tmp_path) is None
    _write(tmp_path, bos_token="<s>", chat_template=None)
    assert read_jinja_template(tmp_path) is None
    with raises("template-missing", tmp_path, "conv_template", error=TemplateError):
        require_jinja_template(tmp_path)


def test_a_file_of_its_own_goes_first(tmp_path: Path) -> None:
    _write(tmp_path, chat_template="config", eos_token={"content": "</s>"})
    template = require_jinja_template(tmp_path)
    assert (template.source, template.special_tokens) == ("config", {"eos_token": "</s>"})
    assert str(tmp_path / "tokenizer_config.json") == template.origin
    (tmp_path / "chat_template.jinja").write_text("file é", encoding="utf-8")
    template = require_jinja_template(tmp_path)
    assert (template.source, template.special_tokens) == ("file é", {"eos_token": "</s>"})
    assert str(tmp_path / "chat_template.jinja") == template.origin


def test_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    assert require_jinja_template(tmp_path).source == "old"


def test_several_by_name(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    _write(tmp_path, chat_template=[*named, {"name": "rag", "template": "c"}])
    template = require_jinja_template(tmp_path)
    assert (template.source, template.tool_use) == ("a", "b")


def test_tokens_of_both_files(tmp_path: Path) -> None:
    _write(tmp_path, chat_template="x", bos_token="<a>", image_token="<i>", pad_token=None)
    more = {"bos_token": "<b>", "unk_token": {"content": "<u>"}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(more))
    assert require_jinja_template(tmp_path).special_tokens == {
        "bos_token": "<a>",
        "image_token": "<i>",
        "unk_token": "<u>",
    }


@pytest.mark.parametrize(
    "given",
    [1, {"default": "x"}, [], ["x"], [{"name": "rag", "template": "c"}], [{"name": "default"}]],
)
def test_what_is_no_template(given: Any, tmp_path: Path) -> None:
    _write(tmp_path, chat_template=given)
    with raises("template-unreadable", tmp_path, "default", error=TemplateError):
        read_jinja_template(tmp_path)


def test_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"ab\xff")
    with raises("template-unreadable", tmp_path, 2, error=TemplateError):
        read_jinja_template(tmp_path)
