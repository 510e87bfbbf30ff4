"""Fixtures that all tests share: data, caches of the run, random checkpoints, compiled models."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import hypothesis
import pytest

if TYPE_CHECKING:
    from mlc_llm.library.cache import LibraryCache

DATA_VARIABLE = "MLC_LLM_TEST_DATA"
TOKENIZERS_VARIABLE = "MLC_LLM_TEST_TOKENIZERS"

# Shared machines make single examples slow now and then; that is no failure.
hypothesis.settings.register_profile("mlc_llm", deadline=None)
hypothesis.settings.load_profile("mlc_llm")

# A shell's background job ignores Ctrl-C, and so would the programs that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lacking(reason: str) -> NoReturn:
    """Skip the test because something it needs is not here; in CI, where all must be, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this is a failure and no skip)")
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of each matrix as slow, except for a few (see ``CONTRIBUTING.md``)."""
    matrices: dict[str, list[Any]] = {}
    for item in items:
        if item.get_closest_marker("cuda_matrix"):
            item.add_marker("slow")
        if item.get_closest_marker("matrix") and hasattr(item, "callspec"):
            matrices.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for tests in matrices.values():
        values = tests[0].get_closest_marker("matrix").kwargs
        quick = [test for test in tests if has_values(test.callspec.params, values)]
        fast = {quick[index] for index in covering([test.callspec.params for test in quick])}
        for test in set(tests) - fast:
            test.add_marker("slow")


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: tests wait now and then for what does not compute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) + 1


def has_values(parameters: dict[str, object], values: dict[str, Sequence[object]]) -> bool:
    """Whether each parameter that is in ``values`` has one of the values given there."""
    return all(value in values.get(name, (value,)) for name, value in parameters.items())


def covering(combinations: list[dict[str, object]]) -> set[int]:
    """Indices of a few combinations of parameters that have each value of each parameter."""
    held = [{(name, repr(value)) for name, value in one.items()} for one in combinations]
    left, chosen = set().union(*held), set()
    while left:
        news = [len(left & values) for values in held]
        best = news.index(max(news))
        chosen.add(best)
        left -= held[best]
    return chosen


@pytest.fixture(scope="session", autouse=True)
def isolated_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point every cache into a temporary folder of the run, and keep the hub off the network.

    The variables are set for this process and for the child processes that it starts. All workers
    of a run share ``MLC_LLM_CACHE``, so that none compiles what another has compiled. Yields it.
    """
    from mlc_llm.testing.libraries import RUN_VARIABLE, run_folder

    assert "huggingface_hub" not in sys.modules, "it reads its variables when it is imported"
    root = run_folder(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_VARIABLE, str(root))
        patch.setenv("MLC_LLM_CACHE", str(root))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("huggingface")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        # Two workers with two threads each would wait for each other's cores, and tests that take
        # a second would take ten. Those of threads ask for more.
        patch.setenv("TVM_NUM_THREADS", "1")
        # What children write is UTF-8, whatever the locale says.
        patch.setenv("PYTHONIOENCODING", "utf-8")
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
            patch.delenv(name, raising=False)
        yield root


@pytest.fixture(scope="session")
def libraries(isolated_caches: Path, tmp_path_factory: pytest.TempPathFactory) -> LibraryCache:
    """The libraries of the run, which are those of ``MLC_LLM_CACHE``, too."""
    from mlc_llm.testing.libraries import run_libraries

    return run_libraries(tmp_path_factory)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def ordinary_user() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Do something as a user who may not do everything; what is needed is imported before."""

    @contextlib.contextmanager
    def as_ordinary_user() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return as_ordinary_user


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real models, tokenizers and manifests, which the repository does not hold."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        lacking(f"{DATA_VARIABLE} is not set")
    # Relative to where pytest was started, so that tests may change the working folder.
    folder = Path(value).resolve()
    if not folder.is_dir():
        lacking(f"{DATA_VARIABLE} names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def original_tokenizer() -> Callable[[str], Path]:
    """Find a folder of ``tests/original_tokenizers.py`` by its name."""

    def find(name: str) -> Path:
        value = os.environ.get(TOKENIZERS_VARIABLE)
        if not value:
            lacking(f"{TOKENIZERS_VARIABLE} is not set, as `make test-all` does")
        path = Path(value).resolve() / name
        return path if path.is_dir() else lacking(f"{path} is not there; see CONTRIBUTING.md")

    return find


@pytest.fixture(scope="session")
def stories260k(test_data: Path) -> Path:
    """A trained Llama with head size 8, vocabulary 512 and tied embeddings (Hugging Face)."""
    return test_data / "models" / "stories260K"


@pytest.fixture(scope="session")
def babyllama(test_data: Path) -> Path:
    """A trained Llama with head size 16, vocabulary 105 and tied embeddings (Hugging Face)."""
    return test_data / "models" / "babyllama-936K"


@pytest.fixture(scope="session")
def torch() -> Any:
    """The module ``torch``; skips the test (in CI: fails it) where it is not installed."""
    return _import_reference()[1]


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The module ``transformers``, as ``torch``."""
    return _import_reference()[0]


class CheckpointFactory(Protocol):
    """What the fixture ``make_checkpoint`` gives."""

    def __call__(
        self,
        model_type: str = "llama",
        *,
        seed: int = 0,
        dtype: str = "float32",
        max_shard_size: str = "5GB",
        **config: Any,
    ) -> Path: ...


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFactory:
    """Make a small random Llama or Mistral checkpoint in the Hugging Face layout.

    The same arguments give the same folder, which tests must not change (copy it first). It holds
    ``config.json``, ``generation_config.json``, safetensors and a byte-level ``tokenizer.json``.

    Call it with the ``model_type`` (``llama`` or ``mistral``), a ``seed``, the ``dtype`` of the
    saved weights, the ``max_shard_size`` (as transformers' ``save_pretrained`` takes it) and any
    field of the transformers config class.
    """
    made: dict[str, Path] = {}

    def make(
        model_type: str = "llama",
        *,
        seed: int = 0,
        dtype: str = "float32",
        max_shard_size: str = "5GB",
        **config: Any,
    ) -> Path:
        key = json.dumps([model_type, seed, dtype, max_shard_size, config], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{model_type}-checkpoint")
            try:
                _save_random_model(folder, model_type, seed, dtype, max_shard_size, config)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            made[key] = folder
        return made[key]

    return make


def _save_random_model(
    folder: Path,
    model_type: str,
    seed: int,
    dtype: str,
    max_shard_size: str,
    overrides: dict[str, Any],
) -> None:
    transformers, torch = _import_reference()
    transformers.utils.logging.disable_progress_bar()
    classes = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    }
    config_class, model_class = classes[model_type]
    fields = {
        "vocab_size": 320,
        "hidden_size": 128,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        # As in mlc_llm.testing's small model, so that they share libraries.
        "rms_norm_eps": 1e-5,
        # Wider than transformers' own, so that logits tell tokens apart.
        "initializer_range": 0.1,
        **overrides,
    }
    config = config_class(**fields)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                # Transformers starts them at one, which would hide a norm that is left out.
                parameter.copy_(1.0 + 0.1 * torch.randn_like(parameter))
        model = model.to(getattr(torch, dtype))
        model.config.dtype = getattr(torch, dtype)
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    from mlc_llm.testing.model_folder import write_byte_tokenizer

    write_byte_tokenizer(folder / "tokenizer.json", fields["vocab_size"])


def _import_reference() -> tuple[Any, Any]:
    """Import transformers and torch, whose imports may warn of things that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torch
            import transformers
        except ImportError as error:
            lacking(f"transformers and torch are the reference here, and one is missing: {error}")
    return transformers, torch


@pytest.fixture(scope="session")
def lacks() -> Callable[[str], NoReturn]:
    """The function :func:`lacking`."""
    return lacking


class ModelFactory(Protocol):
    """What the fixture ``make_model`` gives."""

    def __call__(
        self, checkpoint: Path, quantization: str, conv_template: str = "LM", **sizes: int
    ) -> Path: ...


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFactory:
    """Convert a checkpoint into a model folder; the same arguments give the same folder.

    Call it with the checkpoint's folder, a quantisation, a template's name and what ``gen_config``
    takes (``context_window_size`` and so on). Tests must not change the folder.
    """
    made: dict[object, Path] = {}

    def make(checkpoint: Path, quantization: str, conv_template: str = "LM", **sizes: int) -> Path:
        from mlc_llm.convert import convert_weight, gen_config

        key = (checkpoint, quantization, conv_template, *sorted(sizes.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("model") / f"{checkpoint.name}-{quantization}-MLC"
            convert_weight(checkpoint, quantization, folder)
            gen_config(checkpoint, quantization, conv_template, folder, **sizes)
            made[key] = folder
        return made[key]

    return make


class LibraryFactory(Protocol):
    """What the fixture ``make_library`` gives."""

    def __call__(
        self, folder: Path, opt: str = "", deterministic: bool = False, device: str = "cpu"
    ) -> Path: ...


@pytest.fixture(scope="session")
def make_library(libraries: LibraryCache) -> LibraryFactory:
    """Compile a model folder's library, once in the run; folders of one shape share one library.

    Call it with the folder, compilation options, whether prompts are computed as answers are, and
    the device's name. Tests must not change the file.
    """
    made: dict[tuple[str, str], Path] = {}

    def make(folder: Path, opt: str = "", deterministic: bool = False, device: str = "cpu") -> Path:
        from mlc_llm.plugin import LibraryRequest, ModelSpec
        from mlc_llm.quantization import folder_plan
        from mlc_llm.registry.registry import default_registry
        from mlc_llm.testing.libraries import effective, library_once
        from mlc_llm.weights.folder import ModelFolder

        config = ModelFolder.open(folder).config
        registry = default_registry()
        architecture, plan = registry.architecture(config.model_type), folder_plan(config)
        spec = ModelSpec.of(config, architecture, plan, effective(opt, plan), deterministic)
        key = (device, spec.digest())
        if key not in made:
            compiles_for = registry.device(device)
            request = LibraryRequest(spec, device, compiles_for.target(), folder)
            made[key] = library_once(libraries, request, architecture, compiles_for)
        return made[key]

    return make
