"""Work side by side in processes, and progress on a terminal."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process

from tqdm import tqdm

_line = None  # of the terminal, below the first, that this process's bars are drawn on if it is a worker


def in_processes(tasks, workers, threads=1):
    """Run picklable `tasks`, `workers` at a time; yield the index and the future of each as it ends.

    Every worker is a fresh interpreter with so many threads: forking one that has threads of its own may hang.
    Ctrl-C ends them with this process, as does a caller that wants no more results.
    """
    if not tasks:
        return
    context = get_context("spawn")
    workers = min(workers, len(tasks))
    lines, lock = context.SimpleQueue(), context.RLock()
    for line in range(1, workers + 1):
        lines.put(line)
    tqdm.set_lock(lock)  # one terminal for all
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads, lines, lock))
    try:
        indices = {pool.submit(task): index for index, task in enumerate(tasks)}
        for future in as_completed(indices):
            yield indices[future], future
    except (KeyboardInterrupt, GeneratorExit):
        for worker in list(pool._processes.values()):  # there is a method for this from Python 3.14 on
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads, lines, lock):
    global _line
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _line = lines.get()
    tqdm.set_lock(lock)
    for library in ("OMP", "MKL", "OPENBLAS"):  # before any of them is loaded
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A worker whose parent was killed would wait for work for ever."""
    parent_process().join()
    os._exit(1)


def progress(description, unit, total, done=0, leave=True):
    """A bar on a terminal, none elsewhere; a worker's has a line of its own below, and vanishes at its end.

    Step it by hand, or go through it: it is ``range(total)``.
    """
    leave = leave and _line is None
    return tqdm(range(total), desc=description, unit=unit, initial=done, leave=leave, position=_line, disable=None)
