"""What a ``ChatModule`` is made of: loading, settings, and a history that fits the window."""
