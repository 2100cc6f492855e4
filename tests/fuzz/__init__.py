"""Searching for inputs that break a promise, and the checks of those promises.

- `messages`, `keys`, `cursors`, `heads`, `frames`, `signatures`: one module for each kind of hostile input. Its checks take any input at all, give
  True if the daemon accepts it and False if it refuses it as it should, and raise AssertionError if it does neither. Unit tests
  with Hypothesis use the same checks.
- `targets`: what is searched, by name; `seeds/NAME.txt`: what a search begins with. test_seeds.py holds both in `make test`.
- `run`: `make fuzz`. It has `guided` (atheris, led by coverage) search each target for its share of the time, or `blind`
  (Hypothesis) where there is no atheris.

What a search finds becomes an ordinary unit test, and a seed.
"""
