"""Weights on disk: manifests, shards, model folders and the hub they come from. No compiler."""
