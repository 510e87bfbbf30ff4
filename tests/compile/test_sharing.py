"""What the virtual machine does for a layer besides calling its kernels."""

from __future__ import annotations

import re
from collections import Counter

from tvm import relax
from tvm.relax.vm_build import _vmcodegen

from mlc_llm.compile.build import lower
from mlc_llm.device.cpu import CPU
from mlc_llm.model.llama import LLAMA

from .test_build import spec


def calls(function: str, layers: int) -> Counter[str]:
    """How often each name is called in the bytecode of one function of a model."""
    module = lower(spec(num_hidden_layers=layers), LLAMA, CPU, CPU.target())
    builder = relax.ExecBuilder()
    _vmcodegen(builder, module, exec_mode="bytecode")
    text = builder.get().as_text()
    body = text[text.index(f"@{function}:") :].split("\n\n")[0]
    return Counter(re.findall(r"^  call +(\S+) ", body, re.MULTILINE))


def test_a_layer_costs_its_kernels() -> None:
    for function in ("decode", "prefill"):
        four, seven = calls(function, 4), calls(function, 7)
        more = {name: count - four[name] for name, count in seven.items() if count > four[name]}
        # The arguments' shapes are checked once each.
        more.pop("vm.builtin.check_tensor_info"), more.pop("vm.builtin.match_shape")
        assert not any(name.startswith("vm.builtin.") for name in more), more
        assert sum(more.values()) == 3 * 6  # the kernels


def test_a_prefill_leaves_out_what_only_logits_need() -> None:
    """The last layer's attention and what follows, the final norm and the logits."""
    prefill, decode = calls("prefill", 4), calls("decode", 4)
    attended = [
        sum(v for k, v in found.items() if k.startswith(f"attention_{name}"))
        for found, name in ((prefill, "prefill"), (decode, "decode"))
    ]
    assert attended == [3, 4]
    linears = [sum(v for k, v in found.items() if "linear" in k) for found in (prefill, decode)]
    assert linears == [4 * 4 - 3, 4 * 4 + 1]
