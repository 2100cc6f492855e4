"""Who has something to get, and in which order: whoever has waited longest first. Sends nothing, reads nothing.

A sweep visits the members of its plan one after the other. What comes meanwhile extends it: those who are still to be visited get the
new with what they wait for, in one write, and those who were visited already are due again, behind all others. So a crowd is gone
around once for whatever came during the last round, and nobody waits for a round to end that passed them by.

What holds, where `end` is the position up to which those who are visited are brought:

* A member is due once at most. Its `cursor` is where it stood when it became due, and its key names those of its channels on which
  there was something since; whoever is next has the oldest cursor. Only who became due together may have the very same key.
* A live member that is not due has got everything up to `end`.
* While anybody is due: of the channels of the latest `take`, every live member is due, or stands in `visited`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from sse_daemon.stream import State, Stream
from sse_daemon.waiter import Waiter
from sse_daemon.window import Channel

Key: TypeAlias = tuple[Channel, ...]
Member: TypeAlias = Stream | Waiter

SHARED = 32
"""Visits for each buffer that was put together, before a sweep takes what has come: after that buffers have to be made anew."""


class Plan:
    """Filled by `take`, used up from the end of `due`.

    due: who is to be visited in this round, the next one last, each with its key. visited: to be added to by whoever visits.
    """

    __slots__ = ("_again", "_taken", "_unknown", "due", "visited")

    def __init__(self) -> None:
        self.due: dict[Member, Key] = {}
        self.visited: list[Member] = []
        """Who has been visited, or has come to stand at `end` in another way, since the latest `take`."""
        self._again: dict[Member, Key] = {}
        """Who is due in the next round, the next one first."""
        self._taken: Collection[Channel] = ()
        """The channels of the latest `take`."""
        self._unknown = 0
        """How many members would have to be looked at that may or may not be due; 0 if not counted since the latest `take`."""

    def __contains__(self, member: Member) -> bool:
        return member in self.due or member in self._again

    def oldest(self, end: int) -> int:
        """The position up to which every live member has got everything; `end`, if nobody is due."""
        return next(reversed(self.due)).cursor if self.due else end

    def take(self, touched: Collection[Channel], end: int, buffers: int) -> bool:
        """Makes due who is live on these channels, on which something came after `end`; False, changing nothing, if that does not pay.

        It does where no more members have to be looked at than were visited since the last time, and the buffers that were put
        together for those, `buffers` of them, have served for long enough. After True the caller goes on to the window's head, and
        leaves `touched` to the plan.
        """
        if not self.due:
            self._make(touched, end)
        else:
            visited = len(self.visited)
            if visited < max(SHARED * buffers, self._unknown):
                return False
            # Counted no sooner than as many were visited as there were the last time: it is asked for in every turn.
            self._unknown = sum([len(channel.streams) for channel in touched if channel not in self._taken])
            if visited < self._unknown:
                return False
            self._extend(touched, end)
        self._taken = touched
        self._unknown = 0
        self.visited.clear()
        return True

    def came(self, member: Member) -> None:
        """A member stands at `end` that was not live before, or not here."""
        if self.due:
            self.visited.append(member)

    def drop(self, member: Member) -> None:
        """Forgets a member that leaves, or must not be visited any more."""
        self.due.pop(member, None)
        self._again.pop(member, None)
        self.go_on()

    def go_on(self) -> None:
        """To be called when somebody was visited, before anything else is done: begins the next round if this one is over."""
        if self.due:
            return
        if self._again:
            self.due, self._again = dict(reversed(self._again.items())), {}
        else:
            self.visited.clear()

    def _make(self, touched: Collection[Channel], end: int) -> None:
        live, due = State.LIVE, self.due
        for channel in touched:
            key = (channel,)
            for member in channel.streams:
                if member.state is live:
                    member.cursor = end
                    due[member] = (*due[member], channel) if member in due else key

    def _extend(self, touched: Collection[Channel], end: int) -> None:
        live = State.LIVE
        # Whoever stands on a channel of the last time is due already, but for those who were visited since.
        keys = {channel: (channel,) for channel in touched if channel in self._taken}
        for member in self.visited:
            if member.state is live:
                for channel in member.channels:
                    if channel in keys:
                        self._add(member, channel, keys[channel], end)
        for channel in touched:
            if channel not in keys:
                key = (channel,)
                for member in channel.streams:
                    if member.state is live:
                        self._add(member, channel, key, end)

    def _add(self, member: Member, channel: Channel, key: Key, end: int) -> None:
        place = self.due if member in self.due else self._again
        known = place.get(member)
        if known is None:
            member.cursor = end
            place[member] = key
        elif channel not in known:
            place[member] = (*known, channel)
