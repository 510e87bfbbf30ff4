"""The layers that a device may replace when it lowers a model.

Besides these: ``nn.Linear``, ``nn.Embedding`` and ``nn.RMSNorm`` of TVM's front end.
"""

from mlc_llm.model.layers import Embedding, SiluAndMul
from mlc_llm.quantization.modules import GroupQuantizedEmbedding, GroupQuantizedLinear

__all__ = ["Embedding", "GroupQuantizedEmbedding", "GroupQuantizedLinear", "SiluAndMul"]
