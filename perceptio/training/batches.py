"""Batches made ahead of time by threads."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

from perceptio.interfaces import Batch


def made_ahead(make: Callable[[int], Batch], draws: range, *, workers: int, ahead: int) -> Generator[Batch]:
    """The batches of draws, in order, made by threads while others are used.

    Reading and resizing pictures release the interpreter, so that threads are enough. A failure is raised where its
    batch would have come.

    Args:
        make: Makes the batch of a draw, whatever was made before.
        draws: Which batches, in which order.
        workers: Threads; 0: each batch is made when it is asked for.
        ahead: How many finished batches wait at most.
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
