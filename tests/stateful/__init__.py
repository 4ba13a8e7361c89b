"""Random sequences of public calls, right and wrong ones, beside a model of what must come of them."""
