"""Work side by side in processes, and progress on a terminal."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from typing import Any

from tqdm import tqdm


def in_processes(tasks: Sequence[Callable[[], Any]], workers: int) -> Iterator[tuple[int, Future]]:
    """Run picklable `tasks`, `workers` at a time; yield the index and the future of each as it ends.

    Every worker is a fresh interpreter with one thread: forking one that has threads of its own may hang, and
    small arrays gain little from a second thread.  Workers leave Ctrl-C to this process, which lets them end what
    they have begun.
    """
    if not tasks:
        return
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn"), initializer=_begin)
    try:
        indices = {pool.submit(task): index for index, task in enumerate(tasks)}
        for future in as_completed(indices):
            yield indices[future], future
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for library in ("OMP", "MKL", "OPENBLAS"):  # before any of them is loaded
        os.environ[f"{library}_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent_process().join()
    os._exit(1)


def progress(description: str, unit: str, total: int, done: int = 0, leave: bool = True) -> tqdm:
    """A bar on a terminal; none elsewhere, and none in workers, whose bars would overwrite each other.

    Step it by hand, or go through it: it is ``range(total)``.
    """
    disable = None if parent_process() is None else True
    return tqdm(range(total), desc=description, unit=unit, initial=done, leave=leave, disable=disable)
