"""Other bindings, each measured where it is installed."""
