"""Progress as plain lines that read well on a terminal and in a log."""

import time


class Progress:
    """Prints `name done/total percent … rate, time left`, at most every `interval` seconds."""

    def __init__(self, name: str, total: int, unit: str, done: int = 0, interval: float = 10.0) -> None:
        self.name, self.total, self.unit, self.interval = name, total, unit, interval
        self.done = self._first = done
        self._start = self._last = time.monotonic()

    def step(self, count: int = 1, note: str = "") -> None:
        """Count finished units; `note` stands in the line, a loss for instance."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self.interval or self.done >= self.total:
            self._last = now
            print(self.line(now, note), flush=True)

    def line(self, now: float, note: str = "") -> str:
        """The line for a moment of the monotonic clock."""
        elapsed = max(now - self._start, 1e-6)
        rate = (self.done - self._first) / elapsed
        left = (self.total - self.done) / rate if rate else 0.0
        share = 100 * self.done / max(self.total, 1)
        parts = [f"{self.name}  {self.done}/{self.total}  {share:3.0f} %", note, f"{rate:.1f} {self.unit}/s"]
        parts.append(f"{clock(left)} left" if self.done < self.total else f"took {clock(elapsed)}")
        return "  ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
