"""The prompts, as text and as token ids, beside those that the models' authors publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st

from mlc_llm import ConvConfig
from mlc_llm.conversation import Conversation
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.template_ids import prefix_ids

from .families import FAMILY, bos, loaded, template, with_system
from .prompt import AGAIN, ANSWER, REASONED, SYSTEM, TURNS, USER, Prompt
from .prompts_of_cards import FROM_CARDS
from .prompts_of_templates import FROM_TEMPLATES

PROMPTS = [*FROM_TEMPLATES, *FROM_CARDS]

TokenizerOf = Callable[[str], Tokenizer]

STOPS_ELSEWHERE = {"phi-3": {2}, "phi-3-vision": {2}, "oasst": {2}}
"""Stop tokens of other versions' tokenizers: ``</s>``."""


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: f"{p.template}-{p.system}-{p.turns}")
class TestPrompts:
    def test_text(self, prompt: Prompt, tokenizer_of: TokenizerOf) -> None:
        assert prompt.ours != prompt.text  # A difference is written down where there is one.
        tokenizer = tokenizer_of(prompt.template)
        chosen = with_system(prompt.template, prompt.system)
        text = Conversation(chosen, tokenizer).prompt_text(TURNS[: prompt.turns])
        # BOS stands once, in the ids, where Llama-2's roles have it, too.
        assert bos(chosen, tokenizer) + text.removeprefix("<s>") == prompt.expected

    def test_token_ids(
        self, prompt: Prompt, tokenizer_of: TokenizerOf, folders: dict[str, Path]
    ) -> None:
        """The ids are those that the ``tokenizers`` library gives for the text; BOS stands once."""
        library = tokenizers.Tokenizer.from_file(
            str(folders[FAMILY[prompt.template]] / "tokenizer.json")
        )
        chosen = with_system(prompt.template, prompt.system)
        tokenizer = tokenizer_of(prompt.template)
        ids = Conversation(chosen, tokenizer).prompt_ids(TURNS[: prompt.turns])
        assert ids == library.encode(prompt.expected, add_special_tokens=False).ids
        prefix = prefix_ids(chosen, tokenizer)
        assert ids[: len(prefix)] == prefix


def test_every_template_has_a_prompt() -> None:
    assert {prompt.template for prompt in PROMPTS} == FAMILY.keys()


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_a_system_message_among_the_messages(name: str, tokenizer_of: TokenizerOf) -> None:
    tokenizer = tokenizer_of(name)
    set_before = Conversation(with_system(name, SYSTEM), tokenizer)
    among = Conversation(template(name), tokenizer)
    given = [{"role": "system", "content": SYSTEM}, *TURNS]
    assert among.prompt_ids(given) == set_before.prompt_ids(TURNS)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_an_empty_system_message_leaves_its_marks_out(name: str, tokenizer_of: TokenizerOf) -> None:
    tokenizer = tokenizer_of(name)
    empty = Conversation(with_system(name, None), tokenizer).prompt_ids(TURNS)
    without = template(name).overlaid(ConvConfig(system_template=""))
    same = empty == Conversation(without, tokenizer).prompt_ids(TURNS)
    assert same == (name != "nemotron")


@pytest.mark.parametrize("name", sorted(FAMILY))
@hypothesis.settings(max_examples=30)  # of each template
@hypothesis.given(data=st.data())
def test_messages_cannot_hold_special_tokens(
    name: str, folders: dict[str, Path], data: st.DataObject
) -> None:
    """Whatever a message says, the special tokens of the prompt are those of the template."""
    tokenizer = loaded(folders[FAMILY[name]])
    texts = st.sampled_from([*tokenizer.special_ids, "\n", " "])
    texts |= st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    content = data.draw(st.lists(texts, min_size=1, max_size=5).map("".join).filter(bool))
    chosen = template(name).overlaid(ConvConfig(system=content))
    ids = Conversation(chosen, tokenizer).prompt_ids([{"role": "user", "content": content}])
    plain = Conversation(with_system(name, "x"), tokenizer)
    specials = frozenset(tokenizer.special_ids.values())
    expected = plain.prompt_ids([{"role": "user", "content": "x"}])
    assert _only(ids, specials) == _only(expected, specials)


def _only(ids: Sequence[int], wanted: frozenset[int]) -> list[int]:
    return [token_id for token_id in ids if token_id in wanted]


class TestStops:
    @pytest.mark.parametrize("name", sorted(FAMILY))
    def test_stop_tokens_are_special_tokens(self, name: str, tokenizer_of: TokenizerOf) -> None:
        tokenizer = tokenizer_of(name)
        known = set(tokenizer.special_ids.values())
        stops = set(template(name).stop_token_ids)
        assert stops - known <= STOPS_ELSEWHERE.get(name, set())
        # A number that is an ordinary token here, or none that files mark, ends no answer.
        assert Conversation(template(name), tokenizer).stop_ids >= stops & known

    def test_chatml_stops_at_the_tokenizers_own_end_of_turn(
        self, tokenizer_of: TokenizerOf
    ) -> None:
        """The template's own stop token is that of other models, and a mark like any other here."""
        assert Conversation(template("chatml"), tokenizer_of("qwen2")).stop_ids == {151645}

    @pytest.mark.parametrize(
        "name",
        [
            *("aya-23", "chatml", "deepseek_v3", "gemma_instruction", "gemma3_instruction"),
            *("hermes3_llama-3_1", "llama-3", "llama-3_1", "llama-4", "mistral_v3_tekken"),
            *("ministral3", "phi-3", "phi-4", "phi-4-mini", "qwen2", "stablelm-2"),
            *("mistral_default", "mistral_v3", "mistral_v7", "olmo", "olmo2", "tinyllama_v1_0"),
        ],
    )
    def test_an_answer_ends_its_turn_with_the_stop_token(
        self, name: str, tokenizer_of: TokenizerOf
    ) -> None:
        """So the next prompt goes on where the answer ended: its tokens stay in the cache."""
        tokenizer = tokenizer_of(name)
        conversation = Conversation(with_system(name, None), tokenizer)
        conversation.append("user", USER)
        held = conversation.prompt_ids() + tokenizer.encode(ANSWER)
        conversation.append("assistant", ANSWER, tokenizer.encode(ANSWER))
        conversation.append("user", AGAIN)
        again = conversation.prompt_ids()
        assert again[: len(held)] == held
        assert again[len(held)] in conversation.stop_ids


class TestReasoning:
    @pytest.mark.parametrize("name", ["qwen3", "qwen3_5", "qwen3_5_nothink", "deepseek_r1_qwen"])
    def test_that_of_earlier_answers_is_left_out(
        self, name: str, tokenizer_of: TokenizerOf
    ) -> None:
        conversation = Conversation(template(name), tokenizer_of(name))
        reasoned = [TURNS[0], {"role": "assistant", "content": REASONED}, TURNS[2]]
        assert conversation.prompt_ids(reasoned) == conversation.prompt_ids(TURNS)

    def test_an_answer_begins_in_its_reasoning(self, tokenizer_of: TokenizerOf) -> None:
        """The mark that begins it stands in the prompt, so it is no part of the answer."""
        conversation = Conversation(template("deepseek_r1_qwen"), tokenizer_of("deepseek_r1_qwen"))
        reasoned = [TURNS[0], {"role": "assistant", "content": REASONED[8:]}, TURNS[2]]
        assert conversation.prompt_ids(reasoned) == conversation.prompt_ids(TURNS)


class TestTools:
    CALL = '{"name": "add", "parameters": {"a": 1}}'

    @pytest.mark.parametrize(
        ("name", "turn"),
        [
            ("llama-3_1", "<|start_header_id|>ipython<|end_header_id|>\n\n22<|eot_id|>"),
            ("llama-4", "<|header_start|>ipython<|header_end|>\n\n22<|eot|>"),
            ("hermes3_llama-3_1", "<|im_start|>tool\n22<|im_end|>\n"),
            ("llama-2", "[INST] 22 "),
            ("mistral_default", "[INST] 22 "),
            ("ministral3", "[TOOL_RESULTS]22[/TOOL_RESULTS]"),
            ("glm", "<|observation|>\n 22"),
        ],
    )
    def test_what_a_tool_answers(self, name: str, turn: str, tokenizer_of: TokenizerOf) -> None:
        """Meta's own template for Llama-3.1 would write it as JSON: ``"22"``."""
        messages = [*TURNS[:2], {"role": "tool", "content": "22"}]
        text = Conversation(template(name), tokenizer_of(name)).prompt_text(messages)
        assert turn in text

    @pytest.mark.parametrize("name", ["chatml", "gemma_instruction", "mistral_v3", "phi-4"])
    def test_others_have_no_role_for_tools(self, name: str, tokenizer_of: TokenizerOf) -> None:
        conversation = Conversation(template(name), tokenizer_of(name))
        with raises("role-unknown", "'tool'"):
            conversation.append("tool", "22")

    @pytest.mark.parametrize("name", sorted(FAMILY))
    def test_functions_stand_where_a_template_is_told_to_put_them(
        self, name: str, tokenizer_of: TokenizerOf
    ) -> None:
        config = ConvConfig(
            role_templates={"user": "{user_message}\n{function_string}"},
            function_string=self.CALL,
            use_function_calling=True,
        )
        chosen = template(name).overlaid(config)
        assert chosen.use_function_calling
        text = Conversation(chosen, tokenizer_of(name)).prompt_text(TURNS)
        assert f"{AGAIN}\n{self.CALL}" in text
        assert text.count(self.CALL) == 1

    @pytest.mark.parametrize("system", [None, SYSTEM])
    def test_ministrals_stand_after_the_system_message_or_in_its_place(
        self, system: str | None, tokenizer_of: TokenizerOf
    ) -> None:
        chosen = with_system("ministral3", system)
        chosen = chosen.overlaid(ConvConfig(function_string=self.CALL))
        text = Conversation(chosen, tokenizer_of("ministral3")).prompt_text(TURNS[:1])
        begin = f"[SYSTEM_PROMPT]{system}[/SYSTEM_PROMPT]" if system else ""
        assert text == f"{begin}{self.CALL}[INST]Hello[/INST]"


class TestSystemInTheLastTurn:
    """As in Mistral's models of version 3."""

    def test_a_tools_answer_may_follow_it(self, tokenizer_of: TokenizerOf) -> None:
        chosen = with_system("mistral_v3", SYSTEM)
        text = Conversation(chosen, tokenizer_of("mistral_v3")).prompt_text(TURNS[:2])
        assert text == "[INST] Be brief.\n\nHello[/INST] Hi there</s>[/INST]"

    def test_where_the_user_said_nothing_it_stands_first(self, tokenizer_of: TokenizerOf) -> None:
        chosen = with_system("mistral_v3", SYSTEM)
        text = Conversation(chosen, tokenizer_of("mistral_v3")).prompt_text(TURNS[1:2])
        assert text == "Be brief.\n\n[/INST] Hi there</s>[/INST]"


def test_phi_3s_line_ends_are_no_tokens(tokenizer_of: TokenizerOf) -> None:
    ids = Conversation(with_system("phi-3", None), tokenizer_of("phi-3")).prompt_ids(
        [{"role": "user", "content": "  Hi  "}]
    )
    encode = tokenizer_of("phi-3").encode
    assert ids == [1, 32010, *encode("Hi  "), 32007, 32001]
