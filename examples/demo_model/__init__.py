"""How the model ``demo`` is made: its corpus, its training, its evaluation."""
