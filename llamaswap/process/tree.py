"""The picture of one leader's tree, taken while parent links last: they vanish when the leader dies."""

from __future__ import annotations

from llamaswap.process.table import Member, Table


class Tree:
    """The descendants of one leader, as far as they were ever seen.

    Args:
        table: The processes of the machine.
        leader_pid: The leader, which is not part of the picture itself.
        marker: Value of the instance variable that this tree alone has in its environments.
        adopted_before: What :meth:`~llamaswap.process.table.Table.adopted` gave before the leader was
            started: it may have orphans sooner than we look again.
    """

    def __init__(self, table: Table, leader_pid: int, marker: str, adopted_before: frozenset[int] | None) -> None:
        self._table = table
        self._leader_pid = leader_pid
        self._marker = marker
        self._adopted_before = adopted_before
        self._seen: set[Member] = set()

    async def look(self) -> None:
        """Take a picture while the leader lives."""
        self._seen |= await self._table.descendants(self._leader_pid)

    def alive(self) -> set[Member]:
        """Give those of the picture that are alive."""
        return self._table.alive(self._seen)

    async def left_by_leader(self) -> set[Member]:
        """Find who is alive right after the leader's end.

        Quick when nobody is: the search is made only when the leader's group has members, or when
        somebody was adopted since its start by those who inherit orphans.
        """
        if self._table.has_group(self._leader_pid) or self._may_have_orphans():
            self._seen |= await self._table.search(self._marker, self._leader_pid)
            # Who was found and is gone already may have forked on: so do those that become daemons.
            return await self.still_left()
        return self.alive()

    async def still_left(self) -> set[Member]:
        """Find who is alive later, when somebody was left; what those started meanwhile is found, too."""
        left = self.alive()
        if not left:
            self._seen |= await self._table.search(self._marker, None)
            left = self.alive()
        return left

    def _may_have_orphans(self) -> bool:
        now = self._table.adopted()
        return now is None or self._adopted_before is None or not now <= self._adopted_before
