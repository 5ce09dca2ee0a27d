"""Makes Ctrl-C end the program at once, also while native code runs."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130

_GRACE_SECONDS = 0.3

_last_acts: "list[_Once]" = []


class _Once:
    """Calls something once: a second caller waits until the first has done it."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act, self._lock, self._done = act, threading.RLock(), False

    def __call__(self) -> None:
        with self._lock:
            if not self._done:
                self._act()
                self._done = True


@contextmanager
def at_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Does something when Ctrl-C ends the block, also while native code keeps the main thread; it must not take long.

    Args:
        act: is called in whichever thread gets to it first; once more if another Ctrl-C interrupts it.
    """
    once = _Once(act)
    _last_acts.append(once)
    try:
        yield
    except KeyboardInterrupt:
        once()
        raise
    finally:
        _last_acts.remove(once)


@contextmanager
def immediate_interrupt() -> Iterator[None]:
    """Lets Ctrl-C raise KeyboardInterrupt as usual, but ends the process soon after if that has not ended it.

    Python delivers KeyboardInterrupt between two of its own instructions only, and an encoder or a video decoder may
    stay in native code for minutes. The signal's arrival is therefore also written to a socket on which a thread waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after_interrupt, args=(receiver,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        sender.close()


def _end_after_interrupt(receiver: socket.socket) -> None:
    with receiver:
        while received := receiver.recv(64):
            if signal.SIGINT in received:
                time.sleep(_GRACE_SECONDS)  # for the main thread to remove what it was writing
                with suppress(Exception):  # whatever fails there, the program ends
                    for act in list(_last_acts):
                        act()
                if os.isatty(2):
                    os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
                os._exit(INTERRUPTED)
