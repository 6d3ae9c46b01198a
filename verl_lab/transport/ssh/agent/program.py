"""The agent's main loop: takes requests, answers each from a thread of its own, and ends with the connection."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from verl_lab.transport.ssh.agent import commands, files
from verl_lab.transport.ssh.agent.follow import Follower
from verl_lab.transport.ssh.agent.frames import MARK, encode, read_frame

if TYPE_CHECKING:
    from verl_lab.transport.ssh.agent.frames import Head

CREDIT = 8  # pieces on their way at once


class Program:
    """Serves one connection."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, silence_s: float) -> None:
        self._source = source
        self._sink = sink
        self._saying = threading.Lock()
        self._follower = Follower(self.say)
        self._credits: dict[int, threading.Semaphore] = {}
        self._arriving: dict[int, files.Arriving] = {}
        self._silence_s = silence_s
        self._heard = threading.Event()

    def serve(self) -> None:
        """Answer until the client goes away."""
        threading.Thread(target=self._listen_for_silence, daemon=True).start()
        about = {"pid": os.getpid(), "python": platform.python_version(), "machine": platform.machine()}
        self.say({**about, "system": platform.system(), "home": str(Path("~").expanduser()), "uid": os.getuid()})
        while True:
            frame = read_frame(self._source)
            if frame is None:
                return
            self._heard.set()
            self._take(*frame)

    def say(self, head: Head, body: bytes | memoryview = b"") -> None:
        """Write one frame; waits as long as the other side does not take it."""
        with self._saying:
            self._sink.write(encode(head, len(body)))
            self._sink.write(body)
            self._sink.flush()

    def _take(self, head: Head, body: bytes) -> None:
        what = head["do"]
        if what == "credit":
            credit = self._credits.get(head["id"])
            if credit is not None:
                credit.release()
        elif what == "watch":
            self._follower.watch(head["watch"], head["folders"])
        elif what == "unwatch":
            self._follower.unwatch(head["watch"])
        elif what == "taken":
            self._follower.taken(head["watch"], head["path"], head["end"])
        elif what in ("piece", "ping"):  # pieces must stay in order
            self._answer(head, body)
        else:
            if what == "send":
                self._credits[head["id"]] = threading.Semaphore(CREDIT)
            threading.Thread(target=self._answer, args=(head, body), daemon=True).start()

    def _answer(self, head: Head, body: bytes) -> None:
        number = head["id"]
        try:
            answer, content = getattr(self, f"_do_{head['do']}")(head, body)
        except (OSError, ValueError) as error:
            answer, content = {"error": getattr(error, "strerror", None) or str(error)}, b""
        except Exception as error:  # noqa: BLE001  whatever it is, the client must hear of it
            answer, content = {"error": f"{type(error).__name__}: {error}"}, b""
        self._credits.pop(number, None)
        self.say({**answer, "id": number}, content)

    def _do_ping(self, _head: Head, _body: bytes) -> tuple[Head, bytes]:
        return {}, b""

    def _do_stat(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        if "watch" in head:
            found, number = self._follower.stat(head["watch"], head["path"])
            return {"stat": found, "number": number}, b""
        return {"stat": files.described(head["path"])}, b""

    def _do_list(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        if "watch" in head:
            found, number = self._follower.listed(head["watch"], head["path"])
            return {"names": found, "number": number}, b""
        return {"names": files.listed(head["path"])}, b""

    def _do_read(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        path, offset, limit = head["path"], head["offset"], head["limit"]
        if "watch" in head and limit is not None:
            content, size, number = self._follower.read(head["watch"], path, offset, limit)
            return {"size": size, "number": number}, content
        for piece in files.pieces(path, offset, limit):
            self.say({"id": head["id"], "more": True}, piece)
        return {}, b""

    def _do_look(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        lists, found, body, number = self._follower.look(head["watch"], head["folders"], head["files"])
        return {"lists": lists, "files": found, "number": number}, body

    def _do_write(self, head: Head, body: bytes) -> tuple[Head, bytes]:
        return {"written": files.write(head["path"], body, only_new=head["only_new"])}, b""

    def _do_make_folder(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        files.make_folder(head["path"])
        return {}, b""

    def _do_sha256(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        return {"sha256": files.sha256(head["path"])}, b""

    def _do_send(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        credit = self._credits[head["id"]]

        def give(said: Head, piece: memoryview) -> bool:
            if not credit.acquire(timeout=self._silence_s):
                return False
            self.say({**said, "id": head["id"], "more": True}, piece)
            return True

        return files.send(head["path"], head["offset"], give), b""

    def _do_begin(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        arriving = files.Arriving(head["path"], head["token"])
        self._arriving[head["transfer"]] = arriving
        return {"size": arriving.size, "sha256": arriving.sha256}, b""

    def _do_whole(self, head: Head, body: bytes) -> tuple[Head, bytes]:
        arriving = files.Arriving(head["path"], head["token"])
        try:
            arriving.be(body, head["sha256"], head["mode"])
        finally:
            arriving.close()
        return {}, b""

    def _do_peek(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        return files.peek(head["path"])

    def _do_piece(self, head: Head, body: bytes) -> tuple[Head, bytes]:
        arriving = self._arriving[head["transfer"]]
        if head.get("restart"):
            arriving.restart()
        arriving.take(head["offset"], body)
        return {}, b""

    def _do_finish(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        self._arriving.pop(head["transfer"]).finish(head["size"], head["sha256"], head["mode"])
        return {}, b""

    def _do_leave(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        arriving = self._arriving.pop(head["transfer"], None)
        if arriving is not None:
            arriving.close()
        return {}, b""

    def _do_run(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        return commands.run(head["argv"], head["env"], head["timeout_s"])

    def _do_start(self, head: Head, _body: bytes) -> tuple[Head, bytes]:
        return {"pid": commands.start_detached(head["argv"], head["cwd"], head["log"])}, b""

    def _listen_for_silence(self) -> None:
        """End when nothing was heard for long: the client is gone, and nobody told."""
        while self._heard.wait(self._silence_s):
            self._heard.clear()
        leave()


def leave() -> None:
    """End with everything that was begun for the client, but not what was started to stay."""
    commands.kill_running()
    os._exit(0)


def main(silence_s: float) -> None:
    """Serve standard input and output; anything else that writes there goes to standard error."""
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.excepthook = _end_with
    sink.write(MARK)
    sink.flush()
    with contextlib.suppress(BrokenPipeError):
        Program(source, sink, silence_s).serve()
    leave()


def _end_with(caught: threading.ExceptHookArgs) -> None:
    """End when a thread does: half an agent would be one that never answers."""
    if not isinstance(caught.exc_value, BrokenPipeError):
        sys.excepthook(caught.exc_type, caught.exc_value or caught.exc_type(), caught.exc_traceback)
        sys.stderr.flush()
    leave()
