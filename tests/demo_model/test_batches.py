"""The demo model's tokenizer and batches: laid out as a chat lays out its prompts."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.demo_model.batches import LENGTHS, Encoder, Sequence, pool
from examples.demo_model.corpus import Dialogue, Turn, samples
from examples.demo_model.vocabulary import SIZE, train_tokenizer
from mlc_llm.conversation import Conversation
from mlc_llm.registry.registry import default_registry
from mlc_llm.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo-tokenizer")
    return train_tokenizer(islice(samples(0), 4000), folder)


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path) -> Encoder:
    return Encoder(tokenizer_folder)


def test_the_special_tokens_are_llama_2s(tokenizer_folder: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    assert tokenizer.special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert tokenizer.vocab_size == SIZE


@given(text=st.text(max_size=60))
def test_every_text_comes_back(tokenizer_folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = tokenizer.encode(text)
    assert 0 not in ids
    assert tokenizer.decode(ids) == text


def test_digits_are_tokens_of_their_own(tokenizer_folder: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    assert [tokenizer.decode([token]) for token in tokenizer.encode("1234")] == list("1234")


def _learnt(folder: Path, sequence: Sequence) -> str:
    tokenizer = load_tokenizer(folder)
    pairs = zip(sequence.ids, sequence.learnt, strict=True)
    return tokenizer.decode([token for token, learnt in pairs if learnt])


def test_a_dialogue_is_laid_out_as_a_chat_lays_it_out(
    tokenizer_folder: Path, encoder: Encoder
) -> None:
    """Each answer stands where the chat would write it, after the very same tokens."""
    tokenizer = load_tokenizer(tokenizer_folder)
    template = default_registry().template("llama-2")
    conversation = Conversation(template, tokenizer)
    turns = (Turn("How are you?", "I am fine."), Turn("Bye", "Goodbye!"))
    sequence = encoder.encode(Dialogue(template.system_message, turns))
    for turn in turns:
        conversation.append("user", turn.user)
        prompt = conversation.prompt_ids()
        assert sequence.ids[: len(prompt)] == prompt
        answer = tokenizer.encode(turn.answer, continues=True)
        assert sequence.ids[len(prompt) : len(prompt) + len(answer)] == answer
        assert not sequence.learnt[len(prompt) - 1]
        assert all(sequence.learnt[len(prompt) : len(prompt) + len(answer)])
        conversation.append("assistant", turn.answer, answer)
    assert sequence.ids[-1] == tokenizer.eos_id
    assert sequence.learnt[-1]
    assert _learnt(tokenizer_folder, sequence) == "I am fine.Goodbye!"


def test_a_raw_prompt_is_what_a_user_of_lm_writes(tokenizer_folder: Path, encoder: Encoder) -> None:
    conversation = Conversation(default_registry().template("LM"), load_tokenizer(tokenizer_folder))
    conversation.append("user", "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHello! [/INST]")
    sequence = encoder.encode(Dialogue("Be kind.", (Turn("Hello!", "Hi there!"),), raw=True))
    prompt = conversation.prompt_ids()
    assert sequence.ids[: len(prompt)] == prompt
    assert _learnt(tokenizer_folder, sequence) == " Hi there!"


def test_plain_text_is_learnt_whole(tokenizer_folder: Path, encoder: Encoder) -> None:
    sequence = encoder.encode("Life is a gift.")
    assert (sequence.ids[0], sequence.ids[-1]) == (1, 2)
    assert _learnt(tokenizer_folder, sequence) == "Life is a gift."


def test_a_dialogue_that_is_too_long_loses_whole_turns(encoder: Encoder) -> None:
    turn = Turn("Count to twenty.", " ".join(["word"] * 120))
    whole = encoder.encode(Dialogue("Be kind.", (turn,) * 2))
    assert len(encoder.encode(Dialogue("Be kind.", (turn,) * 50)).ids) <= LENGTHS[-1]
    assert len(whole.ids) <= LENGTHS[-1]


def test_a_pool_is_the_same_each_time_and_holds_what_it_encodes(encoder: Encoder) -> None:
    first, again = (list(pool(encoder, 5, 1, 4096)) for _ in range(2))
    assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(first, again, strict=True))
    assert all(np.array_equal(a.targets, b.targets) for a, b in zip(first, again, strict=True))
    assert {batch.inputs.shape[1] for batch in first} <= set(LENGTHS)
    assert len({batch.inputs.shape for batch in first}) <= len(LENGTHS)
    for batch in first:
        assert batch.inputs.size <= 4096
        follows = batch.targets[:, :-1] == batch.inputs[:, 1:]
        assert follows[(batch.targets[:, :-1] != -100) & (batch.inputs[:, 1:] != 0)].all()
        assert (batch.targets != -100).any()
