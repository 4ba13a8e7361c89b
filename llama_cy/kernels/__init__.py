"""C++ headers with the hot code: logits to token, bytes to text, and the log queue."""
