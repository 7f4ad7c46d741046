"""Paddock: versioned data, and pipelines that compute only what changed."""
