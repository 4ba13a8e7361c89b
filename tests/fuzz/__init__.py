"""Mutated files for what reads files: whatever is in them, the process lives."""
