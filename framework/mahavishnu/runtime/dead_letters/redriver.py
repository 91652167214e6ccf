"""Makes the calls of dead letters again, in the background of the process whose code made them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from mahavishnu.errors import Parked
from mahavishnu.events import DEAD_LETTERS_UNREACHABLE
from mahavishnu.outcomes.faults import REFUSALS, leaves, why
from mahavishnu.outcomes.statuses import status_of_fault
from mahavishnu.protocols import Clock
from mahavishnu.runtime.dead_letters.codec import Unreadable
from mahavishnu.runtime.dead_letters.handlers import Unhandled, handler_of, redriving
from mahavishnu.runtime.dead_letters.letters import Letter, Letters, LettersUnreachable, Standing, Stats
from mahavishnu.runtime.dead_letters.queue import DeadLetterQueue
from mahavishnu.runtime.timer import Timer
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service

PERIOD = SECOND
"""How often letters are looked for, ns."""
LEASE = 60_000
"""For how long a letter is taken up, ms; it is renewed at every look while its call lasts."""
SEEN = 120 * PERIOD
"""Nothing is given up before a process is as old, ns: what its counter holds at the first scrape no rate ever shows."""
AT_ONCE = 8
"""So many calls of one dependency are made again at a time, by one process."""
_LONGEST = 300  # characters of an error that are kept
# Statuses of the dependency's own making that may be others the next time.
_PASSING = frozenset({408, 409, 421, 423, 425, 429})


class Redriver:
    """Looks for letters that are due, and makes their calls again; `service` is the one at work.

    While a dependency's breaker is open its letters are left alone; one that is refused on the way loses no attempt.
    What a process has taken up when it ends is given back, and when it is killed comes back with the end of its lease.
    """

    def __init__(self, service: Callable[[], Service], clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._began = clock.now()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer = Timer(clock, self._due)
        self._look: asyncio.Task[None] | None = None
        self._running: dict[asyncio.Task[None], Letter] = {}
        self._unknown: set[tuple[str, str]] = set()
        self._strange: set[str] = set()
        self._ending = False

    def start(self) -> None:
        """Look from now on, on the running event loop, where the spec at work keeps letters."""
        if not self._timer.running and self._look is None and self._service().dead_letters is not None:
            self._loop, self._ending = asyncio.get_running_loop(), False
            self._timer.start(PERIOD)

    async def stop(self) -> None:
        """Look no more; calls that are being made are given up, and their letters given back."""
        self._loop, self._ending = None, True
        self._timer.stop()
        if self._look is not None:  # not cancelled: it alone knows what the letters are about to hand out
            await asyncio.wait([self._look])
        running = [*self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        queue = self._service().process_state.dead_letters
        if queue is not None:
            await asyncio.to_thread(queue.writer.close)

    async def look(self) -> None:
        """Take up what is due; begin to make the calls."""
        queue = self._service().dead_letters
        if queue is None:
            return
        try:
            await self._keep_up(queue)
            for name in queue.parking:
                if not self._ending:
                    await self._take(queue, name)
            self._found(queue, "")
        except LettersUnreachable as fault:
            self._found(queue, str(fault))

    async def settle(self) -> None:
        """Wait for the calls that are being made; for tests."""
        await asyncio.gather(*self._running)

    async def _keep_up(self, queue: DeadLetterQueue) -> None:
        """Renew what is held, give up what is too old, and see what there is: one step for all."""
        held, keep = [*self._running.values()], queue.keep
        seen = self._clock.now() - self._began >= SEEN

        def step(letters: Letters) -> tuple[int, Stats]:
            letters.renew(held, LEASE)
            return letters.prune(keep) if seen else 0, letters.stats()

        expired, stats = await asyncio.wrap_future(queue.writer.ask(step))
        queue.dropped("expired", expired)
        queue.seen(stats)
        for name in stats.of.keys() - set(queue.parking) - self._strange:
            self._stranger(name, stats.of[name])

    async def _take(self, queue: DeadLetterQueue, name: str) -> None:
        guard = self._service().dependencies.get(name)
        free = AT_ONCE - sum(one.dependency == name for one in self._running.values())
        # Without a guard a reload has taken the dependency away since the look began.
        if guard is None or free <= 0 or any(one.refuses() for one in guard.guards):
            return
        attempts = queue.settings.redrive.attempts
        for letter in await asyncio.wrap_future(
            queue.writer.ask(lambda letters: letters.take(name, free, LEASE, attempts))
        ):
            if self._ending:
                await self._untried(queue, letter)
            else:
                self._make(queue, letter)

    def _make(self, queue: DeadLetterQueue, letter: Letter) -> None:
        # In a context of its own: it is no request that makes it.
        task = asyncio.get_running_loop().create_task(self._redo(queue, letter), context=Context())
        self._running[task] = letter
        task.add_done_callback(self._ended)

    async def _redo(self, queue: DeadLetterQueue, letter: Letter) -> None:
        """Make one call again, and note what came of it."""
        try:
            await self._call(letter)
        except Unhandled:
            self._unhandled(letter)
            await self._back(queue, letter, "unhandled", "no code for it in this process", attempted=False)
        except asyncio.CancelledError:
            await self._untried(queue, letter)
            raise
        except Unreadable as fault:
            await self._back(queue, letter, "quarantined", str(fault), quarantine=True)
        except Exception as fault:  # noqa: BLE001 - whatever the code does, the letter is not lost
            await self._failed(queue, letter, fault)
        else:
            await self._done(queue, letter)

    async def _failed(self, queue: DeadLetterQueue, letter: Letter, fault: Exception) -> None:
        if _kept_elsewhere(letter, fault):
            await self._done(queue, letter)
            return
        if refused := _refused(fault):
            await self._back(queue, letter, "deferred", refused, attempted=False)
            return
        last = letter.attempts >= queue.settings.redrive.attempts or _final(fault)
        await self._back(queue, letter, "quarantined" if last else "failed", why(fault), quarantine=last)

    async def _call(self, letter: Letter) -> None:
        handler = handler_of(letter)
        if handler is None:
            raise Unhandled
        with redriving(letter):
            await handler(letter)

    async def _done(self, queue: DeadLetterQueue, letter: Letter) -> None:
        await self._note(queue, letter, "done", lambda letters: letters.done(letter))

    async def _untried(self, queue: DeadLetterQueue, letter: Letter) -> None:
        await self._back(queue, letter, "deferred", letter.error, attempted=False)

    async def _back(
        self,
        queue: DeadLetterQueue,
        letter: Letter,
        outcome: str,
        error: str,
        *,
        attempted: bool = True,
        quarantine: bool = False,
    ) -> None:
        pause = queue.pause(letter.attempts + attempted)
        step = partial(_put_back, letter, pause, error[:_LONGEST], attempted, quarantine)
        await self._note(queue, letter, outcome, step)

    async def _note(
        self, queue: DeadLetterQueue, letter: Letter, outcome: str, step: Callable[[Letters], None]
    ) -> None:
        """Tell the letters; where they cannot be told the lease ends by itself, and the call is made once more."""
        queue.redriven(letter.dependency, outcome)
        with suppress(LettersUnreachable):
            await asyncio.shield(asyncio.wrap_future(queue.writer.ask(step)))

    def _unhandled(self, letter: Letter) -> None:
        which = (letter.dependency, letter.operation)
        if which not in self._unknown:
            self._unknown.add(which)
            self._service().log.warning(
                "no code for dead letters", dependency=letter.dependency, operation=letter.operation
            )

    def _stranger(self, name: str, one: Standing) -> None:
        if count := one.waiting + one.quarantined:  # a server knows names of which nothing is left
            self._strange.add(name)
            help = "give it `fallback: dead_letter` again, or `mahavishnu dead-letters drop`"
            self._service().log.warning(
                "letters of unknown dependency", dependency=name, letters=count, help=help
            )

    def _found(self, queue: DeadLetterQueue, reason: str) -> None:
        up, queue.up = queue.up, not reason
        if up and reason:
            self._service().log.error(DEAD_LETTERS_UNREACHABLE, reason=reason)
        elif queue.up and not up:
            self._service().log.info("dead letters found")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _due(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._loop is not None and self._look is None:
            self._look = self._loop.create_task(self.look(), context=Context())
            self._look.add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._look = None
        if self._loop is not None and not task.cancelled():
            self._timer.start(PERIOD)


def _put_back(
    letter: Letter, pause: int, error: str, attempted: bool, quarantine: bool, letters: Letters
) -> None:
    letters.back(letter, pause, error, attempted=attempted, quarantine=quarantine)


def _kept_elsewhere(letter: Letter, fault: Exception) -> bool:
    """Whether what is left of the call are letters of their own: made once more, it would make more of them."""
    return all(isinstance(each, Parked) and each.letter != letter.id for each in leaves(fault))


def _refused(fault: Exception) -> str:
    """Why the call was never made, or none of those that a TaskGroup made of it; empty where one was."""
    parts = [*leaves(fault)]
    return why(parts[0]) if all(isinstance(each, REFUSALS) for each in parts) else ""


def _final(fault: BaseException) -> bool:
    """Whether the dependency has said that the call is wrong, and would say so again."""
    status = status_of_fault(fault)
    return status is not None and 400 <= status < 500 and status not in _PASSING
