"""How much one server is asked at most."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Limits:
    """A bucket of requests that fills up again, and bounds of other things. Used on the event loop alone.

    Attributes
    ----------
    requests_per_s
        How fast the bucket fills.
    burst
        What it holds.
    largest_body_bytes
        Of one request.
    most_sockets
        WebSockets that may be open at once.
    """

    requests_per_s: float
    burst: int
    largest_body_bytes: int
    most_sockets: int
    open_sockets: int = 0
    _left: float = field(init=False)
    _at: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._left = float(self.burst)

    def take(self) -> float:
        """Take a request out of the bucket; return how many seconds to wait where there is none, else 0."""
        now = time.monotonic()
        self._left = min(float(self.burst), self._left + (now - self._at) * self.requests_per_s)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self.requests_per_s
        self._left -= 1
        return 0.0
