"""Makes Ctrl-C end the program at once, even while native code runs."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit code of a program that SIGINT ends

_GRACE_SECONDS = 0.3

_last_acts: "list[_Once]" = []


class _Once:
    """Calls a function once: a second caller waits until the first call has returned."""

    def __init__(self, act: Callable[[], None]) -> None:
        # Reentrant, so that a second Ctrl-C during the call does not make the main thread wait for itself.
        self._act, self._lock, self._done = act, threading.RLock(), False

    def __call__(self) -> None:
        with self._lock:
            if not self._done:
                self._act()
                self._done = True


@contextmanager
def at_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Calls a function if Ctrl-C ends the block, even while native code blocks the main thread.

    Args:
        act: Function to call, which must be quick. The main thread or the one of `immediate_interrupt` calls it,
            whichever comes first; it is called once more if another Ctrl-C interrupts it.
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
    """Lets Ctrl-C raise KeyboardInterrupt as usual, but ends the process if it is still running shortly after.

    Python raises KeyboardInterrupt only between two of its own instructions, and an encoder or a video decoder may stay
    in native code for minutes. Python's C-level signal handler, however, also writes the signal's number to the wakeup
    file descriptor right away. Here that is a socket, which another thread reads.
    """
    # Only the main thread may set the wakeup file descriptor. A program that runs commands in another thread handles
    # Ctrl-C itself.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # required: a signal handler must not wait for room in the socket
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after_interrupt, args=(receiver,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        sender.close()  # ends the thread, whose read returns nothing then


def _end_after_interrupt(receiver: socket.socket) -> None:
    """Waits for SIGINT, gives the main thread a moment to end by itself, and then ends the process."""
    with receiver:
        while received := receiver.recv(64):
            if signal.SIGINT in received:
                # Where the main thread runs Python code, it removes its temporary files and exits within this time.
                time.sleep(_GRACE_SECONDS)
                with suppress(Exception):  # the program ends even if one of these fails
                    for act in list(_last_acts):
                        act()
                if os.isatty(2):
                    os.write(2, b"\x1b[?25h\n")  # shows the cursor, which a progress bar hides
                # Neither an exception nor sys.exit() would reach a main thread that is in native code.
                os._exit(INTERRUPTED)
