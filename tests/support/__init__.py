"""What the tests share: models and vocabularies made on the spot, and a NumPy oracle for logits."""
