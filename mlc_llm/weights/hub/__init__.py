"""Models on the Hugging Face hub, fetched through ``huggingface_hub`` into its own cache.

Its environment variables (``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ...), its offline mode
(``HF_HUB_OFFLINE=1``) and its resuming of interrupted downloads apply as they are.
"""

from mlc_llm.weights.hub.fetch import fetch
from mlc_llm.weights.hub.reference import HubReference

__all__ = ["HubReference", "fetch"]
