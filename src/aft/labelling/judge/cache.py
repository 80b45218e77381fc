"""Keeps a judge's replies on disk, by the hash of the request, so that no reply is paid for twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from ...endpoint import Reply
from ...errors import ConfigError, DataError
from ...json_files import LineWriter, require


class ReplyCache:
    """Replies in the files `replies-NNNN.jsonl` of one folder. Each reply is one line and is written at once.

    A power failure can lose the replies of a few seconds. Raises `DiskError` if a reply cannot be written.

    Each process writes to its own new file, so several processes can share the folder. All methods are thread-safe. An
    incomplete last line is skipped and counted in `cut_lines`. Any other damage raises `DataError`. A request that was
    given up has a line without a reply. Use the cache as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cut_lines = 0
        self._lock = threading.Lock()
        self._lines: LineWriter | None = None
        self._replies: dict[str, Reply] = {}
        self._given_up: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("replies-*.jsonl")):
                self._load(path)
        except OSError as error:
            raise ConfigError(f"label.ratings.cache: {folder} cannot be used: {error.strerror or error}") from None

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            lines, self._lines = self._lines, None
        if lines is not None:
            lines.__exit__(*error)

    def get(self, key: str) -> Reply | None:
        """Returns the reply to the request with this hash, or None."""
        with self._lock:
            return self._replies.get(key)

    def put(self, key: str, reply: Reply, **facts: Any) -> None:
        """Writes a reply to disk before it returns. `facts` are for people who read the file."""
        tokens = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        with self._lock:
            self._replies[key] = reply
        self._write({"key": key, **facts, "reply": reply.text, **tokens})

    def was_given_up(self, key: str) -> bool:
        """True if an earlier run gave this request up."""
        with self._lock:
            return key in self._given_up

    def give_up(self, key: str, reason: str, **facts: Any) -> None:
        """Records that a request was given up. `was_given_up` reports it from the next run on."""
        self._write({"key": key, **facts, "given_up": reason})

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._lines = self._lines or self._open()
            self._lines.write(line)

    def _open(self) -> LineWriter:
        number = 1
        while True:
            try:
                return LineWriter(self.folder / f"replies-{number:04d}.jsonl", "the judge's replies", exclusive=True)
            except FileExistsError:
                number += 1

    def _load(self, path: Path) -> None:
        whole, _, rest = path.read_bytes().rpartition(b"\n")
        self.cut_lines += bool(rest)
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            where = f"{path}:{number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise DataError(f"{where}: no reply of a judge; without this line it would be asked for again")
            if "given_up" in value:
                self._given_up.add(require(value, "key", str, where))
                continue
            optional = (int, type(None))
            self._replies[require(value, "key", str, where)] = Reply(
                require(value, "reply", str, where),
                require(value, "prompt_tokens", optional, where),
                require(value, "completion_tokens", optional, where),
            )
