"""The process that has one provider of dns-lexicon put one record, or take it away, and ends.

Started by its path, with an empty environment. Its standard input is a socket to the server: the order comes over it,
each connection that the library wants is opened by the server and handed over it, and the answer goes back. Must never
open a connection itself, write a file, read one that is not a library's, or start a program: an audit hook refuses.
"""

from __future__ import annotations

import array
import errno
import functools
import json
import os
import resource
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from typing import Any

_MOST = 64 * 1024
_MOST_MEMORY = 2 * 1024**3
# fired by the interpreter beneath whatever a library calls; what we hand over fires none of them
_NEVER = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"),
        *("socket.gethostbyaddr", "socket.getservbyname", "socket.getnameinfo", "subprocess.Popen"),
        *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "os.kill"),
        *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    }
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Line:
    """The socket to the server: one message at a time, a descriptor beside one where the server opened a connection."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def read(self) -> Any:
        """The next message."""
        return json.loads(self._control.recv(_MOST))

    def say(self, message: dict[str, Any]) -> None:
        """One message to the server."""
        self._control.send(json.dumps(message).encode())

    def dial(self, host: str, port: int) -> int:
        """The descriptor of a connection that the server opened. Raises ConnectionRefusedError."""
        with self._lock:
            self.say({"dial": [host, port]})
            descriptors = array.array("i")
            message, extra, _, _ = self._control.recvmsg(_MOST, socket.CMSG_LEN(descriptors.itemsize))
        for level, kind, octets in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(octets[: len(octets) - len(octets) % descriptors.itemsize])
        if not descriptors:
            raise ConnectionRefusedError(errno.ECONNREFUSED, json.loads(message).get("refused", "refused"))
        return int(descriptors[0])


def guard(line: Line, readable: Iterable[str]) -> None:
    """From here on every connection is the server's to open, and nothing else leads out of this process."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family not in {socket.AF_INET, socket.AF_INET6} or self.type != socket.SOCK_STREAM:
            raise PermissionError(errno.EPERM, "only TCP connections are opened for a provider")
        made = line.dial(str(address[0]), int(address[1]))
        try:
            os.dup2(made, self.fileno(), inheritable=False)
        finally:
            os.close(made)
        self.settimeout(self.gettimeout())  # whether it blocks is the connection's, and that is another one now

    def connect_ex(self: socket.socket, address: Any) -> int:
        try:
            connect(self, address)
        except OSError as error:
            return error.errno or errno.EPERM
        return 0

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, int(port or 0)))]

    setattr(socket.socket, "connect", connect)  # noqa: B010 - the type checker knows it as another's
    setattr(socket.socket, "connect_ex", connect_ex)  # noqa: B010
    setattr(socket, "getaddrinfo", getaddrinfo)  # noqa: B010
    roots = tuple(os.path.realpath(path).rstrip("/") + "/" for path in readable if path)

    def judge(event: str, given: Any) -> None:
        if event in _NEVER or (event == "socket.sendmsg" and given[1] is not None):
            raise PermissionError(errno.EPERM, f"{event} is not for a provider")
        if event == "open":
            _judge_open(roots, *given)

    sys.addaudithook(judge)


def _judge_open(roots: tuple[str, ...], path: Any, _mode: Any, flags: int) -> None:
    if isinstance(path, int):  # a descriptor that is open already
        return
    name = os.fsdecode(path)
    if name in {os.devnull, "/dev/urandom"}:
        return
    if flags & _WRITES or not os.path.realpath(name).startswith(roots):
        raise PermissionError(errno.EPERM, f"{name[:200]} is not for a provider to open")


def bound(seconds: int) -> None:
    """No file is written, no core is left, memory is bounded, and the end comes by itself though the server is gone."""
    for what, most in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, _MOST_MEMORY)):
        resource.setrlimit(what, (most, most))
    signal.alarm(seconds)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Have the record put or taken away; what became of it, as a message."""
    try:
        done = _act(order)
    except BaseException as error:
        return {"done": False, "kind": _kind(error), "said": f"{type(error).__name__}: {error}"[:4000]}
    return {"done": bool(done), "kind": "" if done else "failed", "said": "" if done else "it answered no"}


def _act(order: dict[str, Any]) -> bool:
    import tldextract

    # no list is fetched from the network, and none is kept
    offline = functools.partial(tldextract.TLDExtract, suffix_list_urls=(), cache_dir=None)
    setattr(tldextract, "TLDExtract", lambda *_, **__: offline())  # noqa: B010
    from lexicon.client import Client
    from lexicon.config import ConfigResolver, DictConfigSource

    provider, zone, options = order["provider"], order["zone"], dict(order["options"])
    told: dict[str, Any] = {"provider_name": provider, "domain": zone}
    if "ttl" in options:
        told["ttl"] = options.pop("ttl")
    config = ConfigResolver().with_dict(told | {provider: options | {"domain": zone}})
    client = Client(config)
    config.add_config_source(DictConfigSource({"domain": zone}), 0)
    with client as records:
        if order["verb"] == "put":
            return records.create_record("TXT", order["name"], order["value"])
        return records.delete_record(None, "TXT", order["name"], order["value"])


def _kind(error: BaseException) -> str:
    """What sort of failure it was, for the server to judge."""
    if _was_refused_here(error):
        return "forbidden"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return f"status {status}"
    names = {each.__name__ for each in type(error).__mro__}
    if names & {"AuthenticationError", "PeerError"}:
        return "credentials"
    if names & {"ImportError", "ProviderNotAvailableError"}:
        return "missing"
    if names & {"OSError", "Timeout", "TimeoutError", "MemoryError"}:
        return "network"
    return "failed"


def _was_refused_here(error: BaseException) -> bool:
    """Whether the guard's refusal lies beneath it: libraries wrap one in others of their own."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, PermissionError):
            return True
        found = found.__cause__ or found.__context__
    return False


def main() -> None:
    """Read the order, shut the doors, act, answer."""
    line = Line(socket.socket(fileno=0))
    order = line.read()
    bound(int(order["seconds"]))
    verified = ssl.get_default_verify_paths()
    libraries = (sys.prefix, sys.base_prefix, *sys.path, "/etc/ssl", "/usr/share")
    guard(line, (*libraries, *filter(None, (verified.cafile, verified.capath))))
    line.say(run(order))


if __name__ == "__main__":
    main()
