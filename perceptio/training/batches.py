"""Batches prepared ahead of time by threads."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

from perceptio.interfaces import Batch


def made_ahead(make: Callable[[int], Batch], draws: range, *, workers: int, ahead: int) -> Generator[Batch]:
    """Yield the batches of draws in order, prepared by threads while earlier ones are used.

    Threads suffice because reading and resizing images release the interpreter lock. An exception is raised where
    its batch would have been yielded.

    Args:
        make: Makes the batch of a draw, independently of other draws.
        draws: The draws, in order.
        workers: Number of threads; 0 makes each batch when it is requested.
        ahead: Maximum number of finished batches that wait.
    """
    if not workers:
        yield from map(make, draws)
        return
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        for draw in draws:
            waiting.append(pool.submit(make, draw))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
