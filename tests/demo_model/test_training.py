"""Training the demo model: the loss falls, and an interrupted training goes on as if it had not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.demo_model.corpus import samples
from examples.demo_model.held_out import excluded
from examples.demo_model.vocabulary import train_tokenizer
from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import dequantize, quantize

pytestmark = pytest.mark.slow

SMALL = {"layers": 1, "hidden": 64, "ffn": 96, "heads": 2, "tokens": 512, "warmup": 2}


@pytest.fixture(autouse=True)
def one_thread(torch: Any) -> Iterator[None]:
    """Threads of torch wait for each other busily, which on a machine with other work is slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def make_folder(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def make() -> Path:
        return train_tokenizer(islice(samples(0), 1000), tmp_path_factory.mktemp("training"))

    return make


def test_rounding_is_the_projects_own_quantisation(torch: Any) -> None:
    from examples.demo_model.quantized import rounded

    weight = np.random.default_rng(0).normal(size=(24, 96)).astype(np.float32)
    weight[3, :32] = 0
    scheme = plan("q4f16_1").linear
    expected = dequantize(quantize(weight, scheme), 96, scheme)
    assert np.array_equal(rounded(torch.from_numpy(weight)).numpy(), expected)


def test_weights_are_exact_again_after_rounding(torch: Any) -> None:
    from examples.demo_model.quantized import quantized, rounded

    model = torch.nn.Linear(64, 8)
    exact = model.weight.detach().clone()
    with quantized(model):
        assert torch.equal(model.weight, rounded(exact))
        model(torch.ones(1, 64)).sum().backward()
    assert torch.equal(model.weight, exact)
    assert torch.equal(model.weight.grad, torch.ones(8, 64))


def test_the_loss_falls(make_folder: Any) -> None:
    """A minute of the real training, on the real shape, without torch.compile."""
    from examples.demo_model.train import Recipe, Training

    recipe = Recipe(steps=50, tokens=2048, warmup=5)
    losses = Training(recipe, make_folder(), excluded(), compiled=False).run()
    assert losses[0] == pytest.approx(np.log(2048), rel=0.05)
    assert np.mean(losses[-5:]) < 0.75 * losses[0]


def test_an_interrupted_training_ends_the_same(
    torch: Any, make_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.demo_model import train

    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    recipe = train.Recipe(steps=6, quantized_from=0.5, **SMALL)
    whole = train.Training(recipe, make_folder(), (), compiled=False)
    whole.run()

    folder = make_folder()
    interrupted = train.Training(recipe, folder, (), compiled=False)
    steps = 0

    def step(batch: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return type(interrupted)._step(interrupted, batch)

    monkeypatch.setattr(interrupted, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    resumed = train.Training(recipe, folder, (), compiled=False)
    assert resumed.progress.step == 2
    assert resumed.run() == whole.progress.losses
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_recipe_is_refused(make_folder: Any) -> None:
    from examples.demo_model.train import Recipe, Training

    folder = make_folder()
    Training(Recipe(steps=1, **SMALL), folder, (), compiled=False).run()
    with pytest.raises(ValueError, match="belongs to another recipe"):
        Training(Recipe(steps=2, **SMALL), folder, (), compiled=False)
