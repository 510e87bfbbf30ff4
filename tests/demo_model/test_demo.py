"""The model that ships with the core does what the documentation says of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.demo_model.evaluate import GREEDY, SAMPLED, evaluate, total
from examples.demo_model.held_out import PARAPHRASES, PROMISES, Case, numbers_in, points
from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import DEMO, resolve_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo() -> Iterator[ChatModule]:
    with ChatModule(DEMO) as chat:
        yield chat


def test_the_folder_is_small() -> None:
    folder = resolve_model(DEMO)
    assert ModelFolder.open(folder).config.quantization == "q4f16_1"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


@pytest.mark.parametrize("case", PROMISES, ids=lambda case: case.skill)
def test_promises(demo: ChatModule, case: Case) -> None:
    scores = evaluate(demo, [case], [GREEDY])
    assert not total(scores).failures


def test_promises_when_sampled(demo: ChatModule) -> None:
    score = total(evaluate(demo, PROMISES, SAMPLED))
    assert score.right >= 0.8 * score.total, score.failures


def test_paraphrases(demo: ChatModule) -> None:
    """Wordings that were not in the corpus: at least four of five are answered well."""
    score = total(evaluate(demo, PARAPHRASES, [GREEDY, SAMPLED[0]]))
    assert score.right >= 0.8 * score.total, score.failures


def test_the_count_follows_the_list(demo: ChatModule) -> None:
    """Lists of different lengths are drawn, and each is counted as it is."""
    counted = []
    for seed in range(10):
        demo.reset_chat(ChatConfig())
        sampled = GenerationConfig(temperature=1.0, seed=seed, max_gen_len=200)
        answer = str(demo.generate("What is the meaning of life?", sampled))
        count = str(demo.generate("How many points did you list out?", sampled))
        counted.append((points(answer), numbers_in(count)))
    assert len({listed for listed, _ in counted}) >= 3, counted
    assert sum(numbers == [listed] for listed, numbers in counted) >= 9, counted
