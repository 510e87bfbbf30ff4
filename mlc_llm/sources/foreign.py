"""Models in formats that are not converted, called by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlc_llm.errors import ConversionError
from mlc_llm.weights.paths import shown_name

_FIELDS = {
    "quantization_config": "",
    "quantization": "MLX",
    "compression_config": "compressed-tensors",
}
"""Fields of ``config.json`` that say how a model is quantised, and whose they are."""
_FILES = {
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
_TENSORS = {
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "g_idx": "GPTQ",
    "weight_packed": "compressed-tensors",
    "weight_scale": "FP8",
    "weight_scale_inv": "FP8",
    "absmax": "bitsandbytes",
    "SCB": "bitsandbytes",
    "q_weight": "MLC",
    "scales": "MLX",
    "biases": "MLX",
}
"""The last parts of tensors' names that only quantised checkpoints have."""
_WEIGHTS = {
    "adapter_model.*": "is an adapter (LoRA), not a model: merge it into its base model first",
    "consolidated*.safetensors": "is in Mistral's own layout: take the model in Hugging Face's",
    "consolidated*.pth": "is in Meta's own layout: take the model in Hugging Face's",
    "*.onnx": "is ONNX, which is not read: take the model that it was made of",
    "*.npz": "is NumPy's or MLX's format, which is not read: take the model that it was made of",
    "*.safetensors": "is not found by its name: model.safetensors.index.json must list it",
    "pytorch_model*.bin": "is not found by its name: pytorch_model.bin.index.json must list it",
}
_OLD = ("*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5")


def refuse_quantized(data: Mapping[str, Any], folder: Path) -> None:
    """Raise ConversionError if a model says that its weights are quantised.

    Args:
        data: its ``config.json``.
        folder: where it is.
    """
    for field, origin in _FIELDS.items():
        value = data.get(field)
        if value:
            method = value.get("quant_method") if isinstance(value, dict) else None
            raise _quantized(folder, shown_name(method) if isinstance(method, str) else origin)
    for file, method in _FILES.items():
        if (folder / file).is_file():
            raise _quantized(folder, f"{method}, as {file} says")


def refuse_quantized_tensors(names: Iterable[str]) -> None:
    """Raise ConversionError if tensors that an architecture does not know are quantised weights.

    Args:
        names: the names of these tensors.
    """
    for name in names:
        for part in name.split(".")[-2:]:
            if part in _TENSORS:
                raise ConversionError(
                    f"The checkpoint is quantised already ({_TENSORS[part]}): it has "
                    f"{shown_name(name)}. Convert the original model, whose weights are "
                    "floating-point numbers.",
                    code="model-quantized",
                )


def what_it_has_instead(folder: Path) -> str:
    """A sentence on weights in another format that a folder holds; empty where there are none."""
    if (folder / "model.safetensors").is_file():
        return ""
    for pattern, what in _WEIGHTS.items():
        for file in sorted(folder.glob(pattern)):
            return f" It has {shown_name(file.name)}, which {what}."
    for pattern in _OLD:
        for file in sorted(folder.glob(pattern)):
            return (
                f" It has {shown_name(file.name)}, which is not read. Load the model with "
                "transformers and save it again: "
                "AutoModelForCausalLM.from_pretrained(SOURCE).save_pretrained(FOLDER)."
            )
    return ""


def _quantized(folder: Path, method: str) -> ConversionError:
    named = f" ({method})" if method else ""
    return ConversionError(
        f"The model in {folder} is quantised already{named}. Convert the original model, whose "
        "weights are floating-point numbers.",
        code="model-quantized",
    )
