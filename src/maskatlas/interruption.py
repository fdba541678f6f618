"""How a run is asked to stop: SIGTERM and Ctrl-C, between two steps or at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The run was asked to stop, and what it had done by then is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; go on with --resume")
        self.number = number
        self.exit_code = 128 + number


class StopRequest:
    """What signals asked for so far; one that comes while nothing is to be saved ends the run."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that came, or None."""
        self.between_steps = False
        """Whether the run looks at the request between any two steps."""

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; raises where nobody looks, and at the second Ctrl-C."""
        if number == signal.SIGINT == self.number:
            raise KeyboardInterrupt
        self.number = self.number or number
        if not self.between_steps:
            raise Interrupted(number)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Collect SIGTERM and SIGINT instead of dying of them.

    Python gives signals to the main thread alone; in another one nothing is collected.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {
        number: signal.signal(number, request.receive) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
