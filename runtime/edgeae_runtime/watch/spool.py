"""What a watch must not forget: results until they are delivered, and its state, in an SQLite database.

Both are of one transaction, flushed to the disk: they cannot disagree, whenever the power fails.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Argument, OutputError

_TABLES = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS result (sequence INTEGER PRIMARY KEY, payload BLOB);
CREATE TABLE IF NOT EXISTS kept (
    id INTEGER PRIMARY KEY, last DEFAULT 0, sent DEFAULT 0, state BLOB,
    client DEFAULT (lower(hex(randomblob(6))))
);
INSERT OR IGNORE INTO kept (id) VALUES (1);
"""


class Spool:
    """A folder with a database, for one process at a time.

    When the results that wait grow beyond ``limit`` (bytes), the oldest go.
    """

    last: int
    """Sequence number of the last result."""
    sent: int
    """All up to this one are delivered; up to `taken`, on their way."""
    state: bytes | None
    """As it was appended last; also by the process before."""
    client: str
    """Made at random once."""

    def __init__(self, folder: Path, *, limit: int = 64 << 20) -> None:
        """Open the folder, or make it, and read where the last process came to.

        Raises:
            OutputError: another process uses it, or it cannot be written to.
        """
        self.folder, self._limit = folder, limit
        self.dropped = 0
        """Results that were given up undelivered, because there were too many."""
        with self._named_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(folder / "spool.db", timeout=0)
            try:
                self._base.executescript(_TABLES)
                found = self._base.execute("SELECT last, sent, state, client FROM kept").fetchone()
                (self._bytes,) = self._base.execute("SELECT total(length(payload)) FROM result").fetchone()
            except sqlite3.Error:
                self._base.close()
                raise
        self.last, self.sent, self.state, self.client = found
        self.taken = self.sent

    @property
    def depth(self) -> int:
        """Results that wait to be delivered."""
        return self.last - self.sent

    def append(self, results: list[bytes], state: bytes) -> None:
        """Put results, numbered from `last` + 1, and a state on the disk; they are there on return.

        Raises:
            OutputError: the disk refuses it; what was there before stays.
        """
        last, sent, size = self.last + len(results), self.sent, self._bytes + sum(map(len, results))
        with self._named_errors(), self._base as base:
            base.executemany("INSERT INTO result VALUES (?, ?)", enumerate(results, self.last + 1))
            for number, length in base.execute(
                "SELECT sequence, length(payload) FROM result ORDER BY sequence"
            ):
                if number > sent and size <= self._limit:
                    break
                sent, size = max(sent, number), size - length
            base.execute("DELETE FROM result WHERE sequence <= ?", (sent,))
            base.execute("UPDATE kept SET last = ?, sent = ?, state = ?", (last, sent, state))
        self.dropped += sent - self.sent
        self.last, self.sent, self.state, self._bytes = last, sent, state, size
        self.taken = max(self.taken, sent)

    def take(self) -> tuple[int, bytes] | None:
        """Return number and JSON of the next result to deliver, in order, each once, or None."""
        if self.taken >= self.last:
            return None
        query = "SELECT sequence, payload FROM result WHERE sequence > ? ORDER BY sequence"
        with self._named_errors():
            sequence, payload = self._base.execute(query, (self.taken,)).fetchone()
        self.taken = sequence
        return sequence, payload

    def mark_sent(self, sequence: int) -> None:
        """Note that all up to this one have been delivered; it is on the disk after the next `append`."""
        self.sent = max(self.sent, sequence)

    def close(self) -> None:
        """Let another process use the folder."""
        self._base.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if "locked" in str(error):
                raise OutputError(
                    f"{self.folder}: another edgeae watch is using it; stop that one, or choose another ",
                    Argument("state"),
                ) from None
            raise OutputError(f"{self.folder}: cannot be written ({error})") from None
