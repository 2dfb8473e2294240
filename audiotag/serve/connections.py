"""Time limits of connections: uvicorn alone would keep any number of silent clients forever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def limited_protocol(head_seconds: float, write_seconds: float) -> type[asyncio.Protocol]:
    """Make a subclass of uvicorn's protocol with time limits.

    Args:
        head_seconds: time for the head of a request, also of the first one of a connection.
        write_seconds: time in which the client must accept the data of one write; then the
            connection is aborted, and unsent data are discarded.
    """

    class LimitedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # uvicorn chooses the class at run time
        _head_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # report every byte that the system does not take at once: `pause_writing` starts the timer
            transport.set_write_buffer_limits(high=0)
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_head_timer()
            self._stop_write_timer()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_write_timer()
            self._write_timer = self.loop.call_later(write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop_write_timer()
            super().resume_writing()

        def _watch_head(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_head_timer()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(head_seconds, self._head_timeout)

        def _head_timeout(self) -> None:
            if not self.transport.is_closing():
                self.transport.write(_TIMEOUT)
                self.transport.close()

        def _stop_head_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
            self._head_timer = None

        def _stop_write_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
            self._write_timer = None

    return LimitedProtocol
