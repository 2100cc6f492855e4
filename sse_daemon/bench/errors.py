"""How a measurement fails."""

from __future__ import annotations


class Broken(Exception):
    """A measurement could not be made; the text says what happened, on one line."""
