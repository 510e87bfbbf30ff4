"""``python -m mlc_llm``: the same as the command ``mlc_llm``."""

from mlc_llm.cli import main

if __name__ == "__main__":
    main()
