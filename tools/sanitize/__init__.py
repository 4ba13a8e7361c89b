"""Builds that watch memory, arithmetic and threads while tests run."""
