"""Numbers as TensorBoard's files hold them; importable where TensorBoard is installed.

TensorBoard's own writer works in a thread, which a full disk ends with a traceback.
"""

import io
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def beginning(step: int) -> bytes:
    """Return the beginning of a file; TensorBoard forgets what older files say from a step on."""
    restart = SessionLog(status=SessionLog.START)
    return _record(file_version="brain.Event:2") + _record(step=step, session_log=restart)


def scalars(event: str, values: Mapping[str, float | int | None]) -> bytes:
    """Return numbers as ``event/name`` at their ``step``; None is left out."""
    numbers = [
        Summary.Value(tag=f"{event}/{name}", simple_value=value)
        for name, value in values.items()
        if value is not None and name != "step"
    ]
    return _record(step=values["step"], summary=Summary(value=numbers))


def _record(**fields: Any) -> bytes:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return buffer.getvalue()
