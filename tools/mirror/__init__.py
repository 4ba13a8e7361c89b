"""Generate the mirror of llama.cpp's C headers: run ``python -m tools.mirror`` from the top of the repository."""
