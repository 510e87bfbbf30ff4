"""The template pack with the models' real tokenizers and official Jinja templates."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import jinja2.sandbox
import pytest
import sentencepiece
import tokenizers
from hypothesis import strategies as st

from mlc_llm import ConvConfig
from mlc_llm.conversation import Conversation
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

SYSTEM = "Be brief."
TURNS = [
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi! How are you?"},
    {"role": "user", "content": "Fine.\nAnd you? 🦙"},
]
OF_LLAMA_2 = (
    "codellama_completion",
    "codellama_instruct",
    "tinyllama_v1_0",
    "vicuna_v1.1",
    "wizard_coder_or_math",
)
"""Templates of models whose vocabulary is Llama-2's."""

PHI_3_TOKENS = {
    "<|endoftext|>": 32000,
    "<|assistant|>": 32001,
    "<|placeholder1|>": 32002,
    "<|placeholder2|>": 32003,
    "<|placeholder3|>": 32004,
    "<|placeholder4|>": 32005,
    "<|system|>": 32006,
    "<|end|>": 32007,
    "<|placeholder5|>": 32008,
    "<|placeholder6|>": 32009,
    "<|user|>": 32010,
}
"""What Phi-3's tokenizer adds to Llama-2's; all but the first with ``rstrip``."""


@cache
def _loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def _as_meta_does(folder: Path, text: str) -> list[int]:
    """Llama-2's ids as Meta's own code makes them: SentencePiece between the special tokens.

    The ``tokenizers`` library is no reference here: the file's special tokens are marked as
    ``normalized``, so that it does not find them inside a text.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    special = {"<s>": [1], "</s>": [2]}
    parts = filter(None, re.split("(</?s>)", text))
    return [token_id for part in parts for token_id in special.get(part) or model.encode(part)]


@cache
def _library(folder: Path) -> tokenizers.Tokenizer:
    """The reference: the ``tokenizers`` library itself, which finds special tokens in text."""
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def llama_2(test_data: Path) -> Path:
    return test_data / "tokenizers" / "llama-2"


@pytest.fixture(scope="session")
def smollm2(test_data: Path) -> Path:
    return test_data / "tokenizers" / "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def mistral_v3(test_data: Path) -> Path:
    return test_data / "tokenizers" / "mistral-7b-instruct-v0.3"


@pytest.fixture(scope="session")
def phi_3(llama_2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phi-3's tokenizer: Llama-2's, with the tokens that it adds."""
    data = json.loads((llama_2 / "tokenizer.json").read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "normalized": False, "special": True}
    data["added_tokens"] += [
        {"id": token_id, "content": text, "rstrip": text != "<|endoftext|>", **flags}
        for text, token_id in PHI_3_TOKENS.items()
    ]
    data["post_processor"] = None
    folder = tmp_path_factory.mktemp("phi-3")
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}', encoding="utf-8")
    return folder


def _template(name: str, config: ConvConfig | None = None) -> ConversationTemplate:
    return default_registry().template(name).overlaid(config)


def _render(source: str, messages: list[dict[str, str]], **names: Any) -> str:
    """Render an official template as transformers does."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    return environment.from_string(source).render(
        messages=messages,
        bos_token="<s>",
        eos_token="</s>",
        add_generation_prompt=True,
        raise_exception=raise_exception,
        **names,
    )


class TestTokenIds:
    """The ids of a prompt are those that the model's own tokenizer gives for its text."""

    @pytest.mark.parametrize("name", OF_LLAMA_2)
    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize("system", [None, "", SYSTEM])
    def test_with_llama_2s_vocabulary(
        self,
        name: str,
        count: int,
        system: str | None,
        llama_2: Path,
    ) -> None:
        template = _template(name, ConvConfig(system_message=system))
        conversation = Conversation(template, _loaded(llama_2))
        ids = conversation.prompt_ids(TURNS[:count])
        bos = "<s>" if template.add_bos else ""
        text = bos + conversation.prompt_text(TURNS[:count]).removeprefix("<s>")
        assert ids == _as_meta_does(llama_2, text)
        assert ids.count(1) == text.count("<s>")

    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize("config", [None, ConvConfig(system_template="")])
    def test_phi_3(self, count: int, config: ConvConfig | None, phi_3: Path) -> None:
        conversation = Conversation(_template("phi-3", config), _loaded(phi_3))
        ids = conversation.prompt_ids(TURNS[:count])
        text = "<s>" + conversation.prompt_text(TURNS[:count])
        assert ids == _library(phi_3).encode(text, add_special_tokens=False).ids
        assert ids.count(1) == 1
        if config and count == 1:
            # "<s>", "<|user|>", "▁Hello", "▁there", "<|end|>", "<|assistant|>"
            assert ids == [1, 32010, 15043, 727, 32007, 32001]

    @pytest.mark.parametrize("name", ["chatml", "qwen2"])
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_chatml(self, name: str, count: int, smollm2: Path) -> None:
        conversation = Conversation(_template(name), _loaded(smollm2))
        text = conversation.prompt_text(TURNS[:count])
        expected = _library(smollm2).encode(text, add_special_tokens=False).ids
        assert conversation.prompt_ids(TURNS[:count]) == expected
        assert conversation.stop_ids >= {2}  # <|im_end|>


class TestWhiteSpaceBesideSpecialTokens:
    """Tokens that were added with ``lstrip`` or ``rstrip`` take it, as in the library."""

    @hypothesis.given(
        flags=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=2),
        pieces=st.lists(
            st.sampled_from(["<a>", "<b>", " ", "\n", "\u3000", "\x1c", "x"]), max_size=8
        ),
    )
    def test_as_the_library_does(
        self,
        flags: list[tuple[bool, bool]],
        pieces: list[str],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        folder = tmp_path_factory.mktemp("strips")
        alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {symbol: rank for rank, symbol in enumerate(alphabet)}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens(
            [
                tokenizers.AddedToken(text, lstrip=left, rstrip=right, normalized=False)
                for text, (left, right) in zip(("<a>", "<b>"), flags, strict=True)
            ]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
        template = ConversationTemplate.from_data(
            {"roles": {"user": "<a>", "assistant": "".join(pieces)}, "seps": ["\n<b>"]}, "it"
        )
        conversation = Conversation(template, load_tokenizer(folder))
        messages = [{"role": "user", "content": " Hi "}]
        text = conversation.prompt_text(messages)
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert conversation.prompt_ids(messages) == expected

    def test_with_tokenizer_model_alone(self, llama_2: Path, phi_3: Path, tmp_path: Path) -> None:
        """Phi-3's tokens, from the files that stand beside a ``tokenizer.model``."""
        (tmp_path / "tokenizer.model").write_bytes((llama_2 / "tokenizer.model").read_bytes())
        added = {
            str(token_id): {"content": text, "rstrip": text != "<|endoftext|>", "special": True}
            for text, token_id in PHI_3_TOKENS.items()
        }
        config = {"bos_token": "<s>", "added_tokens_decoder": added}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        template = _template("phi-3")
        expected = Conversation(template, _loaded(phi_3)).prompt_ids(TURNS)
        assert Conversation(template, load_tokenizer(tmp_path)).prompt_ids(TURNS) == expected


class TestOfficialTemplates:
    """The templates that models' authors publish, rendered with the tokenizers that are theirs."""

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("name", ["llama-2", "codellama_instruct"])
    @pytest.mark.parametrize("system", ["", SYSTEM])
    def test_llama_2(
        self, name: str, count: int, system: str, test_data: Path, llama_2: Path
    ) -> None:
        """CodeLlama's template is Llama-2's."""
        path = test_data / "chat-templates" / "llama-2-chat.jinja"
        # Its authors say to take the indentation and the line ends out.
        source = path.read_text(encoding="utf-8").replace("    ", "").replace("\n", "")
        template = _template(name, ConvConfig(system_message=system))
        given = [{"role": "system", "content": system}] * bool(system) + TURNS[:count]
        ours = Conversation(template, _loaded(llama_2)).prompt_text(TURNS[:count])
        assert "<s>" + ours.removeprefix("<s>") == _render(source, given)

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("system", ["", SYSTEM])
    def test_mistral_v1(self, count: int, system: str, test_data: Path, llama_2: Path) -> None:
        """The space before an answer is there in its tokens, which are encoded by themselves."""
        source = (test_data / "chat-templates" / "mistral-v1.jinja").read_text(encoding="utf-8")
        template = _template("mistral_default", ConvConfig(system_message=system))
        given = [{"role": "system", "content": system}] * bool(system) + TURNS[:count]
        ours = "<s>" + Conversation(template, _loaded(llama_2)).prompt_text(TURNS[:count])
        assert ours.replace("[/INST] Hi!", "[/INST]Hi!") == _render(source, given)

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("system", ["", SYSTEM])
    def test_mistral_v3(self, count: int, system: str, mistral_v3: Path) -> None:
        config = json.loads((mistral_v3 / "tokenizer_config.json").read_text(encoding="utf-8"))
        conversation = Conversation(
            _template("mistral_v3", ConvConfig(system_message=system)), _loaded(mistral_v3)
        )
        given = [{"role": "system", "content": system}] * bool(system) + TURNS[:count]
        official = _render(config["chat_template"], given)
        assert "<s>" + conversation.prompt_text(TURNS[:count]) == official
        library = _library(mistral_v3).encode(official, add_special_tokens=False)
        assert conversation.prompt_ids(TURNS[:count]) == library.ids


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tensor-cache-example", "chatml"), ("Qwen2.5-0.5B-Instruct-q4f16_1-MLC", "qwen2")],
)
def test_values_are_those_of_published_weights(folder: str, name: str, test_data: Path) -> None:
    path = test_data / "mlc" / "weights" / folder / "mlc-chat-config.json"
    published = json.loads(path.read_text(encoding="utf-8"))["conv_template"]
    ours = _template(name)
    # MLC has no way to say that an empty system message is none.
    assert ours.system_optional
    assert ConversationTemplate.from_data({**published, "system_optional": True}, folder) == ours
