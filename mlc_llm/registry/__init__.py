"""The installed plugins: found, loaded, checked, probed and chosen. Nothing here imports TVM."""
