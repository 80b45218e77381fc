"""Judges that misbehave, always or twice: the ratings are those of an honest judge, or the stage says what is wrong."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from .commands import Running
from .folders import contents, differences
from .judges_table import BEHAVIOURS, KEY, SHOWN_KEY, WAITS, Step, good
from .verdict import Result, done, flaws, refused, result
from .workshop import CONFIG, Case, TortureError, Workshop

_CODES = (1, 2)
ARGUMENTS = (
    *("--config", str(CONFIG), "label.stop={}"),
    "label.ratings={name: judge, model: m, num_ratings: 1, retries: 2, timeout: 1, concurrency: 4}",
)


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every behaviour for good, every other one for the first two requests, and those that ask for a long wait."""
    if quick:
        return [_case("401, the key as the reason", None)]
    made = [_case(name, None) for name in BEHAVIOURS] + [_case(name, 2) for name in list(BEHAVIOURS)[::2]]
    return made + [Case(f"{name}, and it is told", functools.partial(_waits, name)) for name in WAITS]


def _case(name: str, times: int | None) -> Case:
    def run(shop: Workshop, folder: Path) -> Result:
        expected = _honest(shop)
        shop.copy(shop.uncut().run, folder)
        with server(BEHAVIOURS[name], times) as port:
            found = _rate(shop, folder, port)
        return (
            found
            if isinstance(found, Result)
            else result(found + differences(expected, folder / "run", "seed-0/label"))
        )

    return Case(f"{name}, {'always' if times is None else 'twice'}", run)


def environment(port: int) -> dict[str, str]:
    """The variables that name the server and its key."""
    return {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": KEY}


def _rate(shop: Workshop, folder: Path, port: int) -> list[str] | Result:
    """Returns the flaws of a stage that ended well, or the result of one that did not."""
    ended = shop.forks.run(folder, "aft-label", *ARGUMENTS, extra=environment(port), limit=120.0)
    found = flaws(ended, secret=KEY) + _kept(folder)
    if ended.code == 0:
        return found
    return result(found + refused(ended, _CODES))


def _kept(folder: Path) -> list[str]:
    """What must not be in the files of a run: the key, and control characters in a log."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            if KEY in text or any(shown in text for shown in SHOWN_KEY):
                found.append(f"the key is in {path.name}")
            if path.suffix == ".log" and re.search("[\x07\x08\x1b\x9b]", text):
                found.append(f"raw control character in {path.name}")
    return found


def _honest(shop: Workshop) -> dict[str, str]:
    """The labels that an honest judge's ratings lead to."""

    def make(folder: Path) -> dict[str, str]:
        shop.copy(shop.uncut().run, folder)
        with server((), 0) as port:
            found = _rate(shop, folder, port)
        if found:
            raise TortureError(f"the honest judge failed: {found}")
        return contents(folder / "run", "seed-0/label")

    return shop.once("judged", make)


def _waits(name: str, shop: Workshop, folder: Path) -> Result:
    """A judge that asks for a long wait: the run says so, and ends when it is told to."""
    shop.copy(shop.uncut().run, folder)
    with server(WAITS[name], None) as port:
        running = Running(folder, "aft-label", *ARGUMENTS, environment=environment(port))

        def told() -> bool:
            words = [running.log.err, running.log.out, *(folder / "run" / "logs").glob("label-*.log")]
            return any(path.exists() and b"429" in path.read_bytes() for path in words)

        over = running.wait(60.0, until=told)
        found = [] if told() else ["it did not say why nothing happens"]
        if not over:
            running.send(signal.SIGINT, everyone=False)
        ended = running.end(30.0)
    found += flaws(ended, secret=KEY)
    if ended.code not in (-2, 130, None):
        found += done(ended) if ended.code == 0 else refused(ended, _CODES)
    return result(found)


@contextlib.contextmanager
def server(steps: tuple[Step, ...], times: int | None, asked: threading.Event | None = None) -> Iterator[int]:
    """A server on this machine that answers the first `times` requests with `steps`, the others as it should.

    `asked` is set by the first request.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    stopped, left = threading.Event(), [times if times is not None else 10**9]
    lock = threading.Lock()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection = listener.accept()[0]
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            connection.settimeout(20.0)
            body = _read_request(connection)
            if asked is not None:
                asked.set()
            with lock:
                bad, left[0] = left[0] > 0, left[0] - 1
            prompt = json.loads(body)["messages"][0]["content"]
            score = 1 + zlib.crc32(prompt.encode()) % 10
            for step in steps if bad else (good(score),):
                if isinstance(step, float):
                    stopped.wait(step)
                elif step is None:  # a hang-up that the other side notices as an error
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    connection.sendall(step)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        thread.join()
        listener.close()


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    begun = time.monotonic()
    while len(body) < length and time.monotonic() - begun < 20:
        body += connection.recv(65536)
    return body
