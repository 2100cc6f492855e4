"""Which participants an operator has shut out, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Bars:
    """In seconds, on `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def __contains__(self, participant: str) -> bool:
        return self._until.get(participant, 0.0) > self._clock()

    def put(self, participant: str, seconds: float) -> None:
        """Shuts a participant out for so long from now."""
        self.replace({**self.left(), participant: seconds})

    def lift(self, participant: str) -> bool:
        """The participant may come in again; False if it may anyway."""
        shut_out = participant in self
        self._until.pop(participant, None)
        return shut_out

    def left(self) -> dict[str, float]:
        """Who is shut out, and for how much longer."""
        now = self._clock()
        return {participant: until - now for participant, until in self._until.items() if until > now}

    def replace(self, left: Mapping[str, float]) -> None:
        """These are shut out, for so much longer, and nobody else."""
        now = self._clock()
        self._until = {participant: now + seconds for participant, seconds in left.items()}
