"""Makes Ctrl-C end the program at once, also while native code runs."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130

_GRACE_SECONDS = 0.3


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
                if os.isatty(2):
                    os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
                os._exit(INTERRUPTED)
