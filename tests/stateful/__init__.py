"""Any public calls in any order, with a Python model of what should come of them."""
