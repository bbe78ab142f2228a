"""An event loop in a thread of its own, for threads that wait for the API server's answers."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as LateError
from typing import Any, TypeVar

from moorage_spawners.launch.api_objects import Unanswered

T = TypeVar("T")
WITHIN_S = 60.0


class ApiThread:
    """Runs from its making to `close`; what belongs to the loop is made and used by coroutines that are given to `wait`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="kubernetes", daemon=True)
        self._thread.start()

    def wait(self, asked: Coroutine[Any, Any, T], within_s: float = WITHIN_S) -> T:
        """What the coroutine returns or raises; Unanswered, and it is cancelled, when that takes longer than `within_s`."""
        future = asyncio.run_coroutine_threadsafe(asked, self.loop)
        try:
            return future.result(within_s)
        except LateError:
            if future.done():
                raise  # the coroutine's own
            future.cancel()
            raise Unanswered(f"The API server did not answer within {within_s:.0f} s.") from None

    def close(self) -> None:
        """Ends what still runs in the loop, and the loop."""
        self.wait(_end_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
