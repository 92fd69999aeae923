"""Puts a process under what a systemd unit says, without systemd: `python confined.py ORDER.json`, then it plays a deployment,
looks what it may do, or becomes the command of the order.

Obeyed are CapabilityBoundingSet, NoNewPrivileges, SystemCallFilter (with systemd's own groups), ProtectSystem=strict,
MemoryDenyWriteExecute where the kernel has it, and the unit's umask; what may be written is the order's. Needs root: it makes a mount namespace of its own and never touches another.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x00020000
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 22, 24, 38, 65
_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}
_LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
_NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
# BPF: load the word at an offset, compare, return (linux/filter.h, linux/seccomp.h)
_LOAD, _EQUAL, _RETURN, _ALLOW, _EPERM = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050001


def settings(texts: list[str]) -> dict[str, list[str]]:
    """Every line of a unit and its drop-ins, by name, in order."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            found.setdefault(name, []).append(value)
    return found


def calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    if not group.startswith("@"):
        return {group}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    names = [line.strip() for line in told.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(calls(name) for name in names)) if names else set()


def allowed_calls(filters: list[str]) -> set[str]:
    """What `SystemCallFilter=` lines leave: the first one makes it a list of what is allowed (systemd.exec(5))."""
    allowed = calls("@default")
    for line in filters:
        groups = set().union(*(calls(word) for word in line.lstrip("~").split()))
        allowed = allowed - groups if line.startswith("~") else allowed | groups
    return allowed | calls("@default")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def read_only_but(writable: list[str]) -> None:
    """A mount namespace in which nothing but `writable` (and /dev, /proc, /sys) can be written."""
    _check(_LIBC.unshare(_CLONE_NEWNS), "unshare")
    mount = ["mount", "--no-mtab"]
    subprocess.run([*mount, "--make-rprivate", "/"], check=True)
    for path in writable:
        subprocess.run([*mount, "--bind", path, path], check=True)
    for at in _mounts():
        if at not in writable and not re.match(r"/(dev|proc|sys)(/|$)", at):
            subprocess.run([*mount, "-o", "remount,bind,ro", at], check=True, capture_output=True)


def confine(texts: list[str], writable: list[str]) -> None:
    """Put this process, and all it starts, under the unit's bounds. Not to be undone."""
    unit = settings(texts)
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["NoNewPrivileges"] == ["yes"]
    read_only_but(writable)
    allowed = allowed_calls(unit["SystemCallFilter"])
    os.umask(int(unit["UMask"][0], 8))
    kept = {_CAPABILITIES[word] for line in unit["CapabilityBoundingSet"] for word in line.split()}
    for capability in set(range(_LAST_CAPABILITY + 1)) - kept:
        _check(_LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "capability")
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        _LIBC.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # Linux 6.3; older ones say no, and nothing is shown of it there
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", _NUMBERS.read_text()))
    program = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for name in sorted(allowed & set(numbers)):
        program += [struct.pack("HBBI", _EQUAL, 0, 1, int(numbers[name])), struct.pack("HBBI", _RETURN, 0, 0, _ALLOW)]
    program.append(struct.pack("HBBI", _RETURN, 0, 0, _EPERM))
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _check(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(head), 0, 0), "seccomp")


def look() -> dict[str, str]:
    """What a process under the bounds may do, tried: the error's name, or nothing where it went well."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    tried = {name: status[name].strip() for name in ("Seccomp", "NoNewPrivs", "CapBnd", "CapEff")}
    order = json.loads(Path(sys.argv[2]).read_text())
    acts = {
        "write elsewhere": lambda: Path(order["elsewhere"]).write_text("x"),
        "write here": lambda: Path(order["writable"][0], "looked").write_text("x"),
        "own": lambda: os.chown(Path(order["writable"][0], "looked"), 1, 1),
        "become another": lambda: os.setuid(1),
        "chroot": lambda: os.chroot("/tmp"),
        "mount": lambda: _check(_LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None), "mount"),
    }
    for what, act in acts.items():
        try:
            act()
            tried[what] = ""
        except OSError as error:
            tried[what] = errno.errorcode[error.errno or 0]
    return tried


def main() -> None:
    """Confine, then start afresh: only an exec gives up the powers that the bounds take away."""
    if sys.argv[1] == "--look":
        print(json.dumps(look()))
        return
    if sys.argv[1] == "--play":
        from peers.nginx_story import run

        run(json.loads(Path(sys.argv[2]).read_text()))
        return
    order = json.loads(Path(sys.argv[1]).read_text())
    confine(order["texts"], order["writable"])
    if command := order.get("command"):
        os.execv(command[0], command)
    os.execv(sys.executable, [sys.executable, __file__, "--look" if order.get("look") else "--play", sys.argv[1]])


if __name__ == "__main__":
    main()
