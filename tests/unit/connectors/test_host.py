"""The host's own word: allow-file, commands and paths."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.host.allow import AllowedAction, AllowFile, check_absolute, load_allow_file
from certctl.connectors.host.command import MOST_OUTPUT_BYTES, run_action
from certctl.connectors.host.paths import Place
from certctl.core.errors import Misconfigured, Rejected, Temporary

GOOD = """\
[[folder]]
path = "/etc/nginx/tls"
[action."nginx.reload"]
command = ["/usr/sbin/nginx", "-s", "reload"]
timeout = "10s"
[action."nginx.validate"]
command = ["/usr/sbin/nginx", "-t", "-c", "{staged_config}"]
"""


def written(tmp_path: Path, text: str = GOOD, mode: int = 0o644) -> Path:
    path = tmp_path / "allow.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    allow = load_allow_file(written(tmp_path))
    assert allow.folders == (Path("/etc/nginx/tls"),)
    assert allow.action("nginx.reload") == AllowedAction(
        "nginx.reload", ("/usr/sbin/nginx", "-s", "reload"), timedelta(seconds=10)
    )
    assert allow.folder_of("/etc/nginx/tls/a/b.pem") == Path("/etc/nginx/tls")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "cannot be read"),
        ('[[folder]]\npath = "/a"\nwritable = true', "unknown field `writable`"),
        ("surprise = 1", "unknown field `surprise`"),
        ('[action.x]\ncommand = ["/bin/true"]\nuser = "root"', "unknown field `user`"),
        ('[action.x]\ncommand = ["true"]', "absolute path"),
        ("[action.x]\ncommand = []", "absolute path"),
        ('[action.x]\ncommand = ["{cert_path}"]', "absolute path"),
        ('[action.x]\ncommand = ["/bin/echo", "{domain}"]', "no placeholder"),
        ('[action.x]\ncommand = ["/bin/echo", "--c={cert_path}"]', "no placeholder"),
        ('[action.x]\ncommand = "/bin/true"', "Expected `array`"),
        ('[action.x]\ncommand = ["/bin/true"]\ntimeout = "soon"', "no duration"),
        ('[action.x]\ncommand = ["/bin/true"]\ntimeout = "11m"', "at most 10 minutes"),
        ('[action.x]\ncommand = ["/bin/true"]\ntimeout = 0', "more than 0"),
        ('[action."X y"]\ncommand = ["/bin/true"]', "a name is"),
        ('[[folder]]\npath = "etc"', "absolute path"),
        ('[[folder]]\npath = "/a/../b"', "absolute path"),
        ('[[folder]]\npath = "/"', "absolute path"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        load_allow_file(written(tmp_path, text))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"allows certctl nothing. Make it as root"):
        load_allow_file(tmp_path / "allow.toml")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(Misconfigured, match="chmod go-w"):
        load_allow_file(written(tmp_path, mode=mode))


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(Misconfigured, match="chown root"):
        load_allow_file(path, trusted_uids=(4242,)) if os.geteuid() else _as_other(path)


def _as_other(path: Path) -> AllowFile:
    os.chown(path, 4242, 4242)
    return load_allow_file(path)


def test_a_folder_everybody_can_write_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(Misconfigured, match="chmod o-w"):
        load_allow_file(path)
    tmp_path.chmod(0o1777)
    load_allow_file(path)


def test_a_link_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(Misconfigured, match="links are refused"):
        load_allow_file(tmp_path / "link")
    with pytest.raises(Misconfigured, match="no regular file"):
        load_allow_file(tmp_path)
    with pytest.raises(Misconfigured, match="absolute"):
        load_allow_file(Path("allow.toml"))


def test_what_is_not_allowed_says_which_lines_to_add(tmp_path: Path) -> None:
    allow = load_allow_file(written(tmp_path, ""))
    with pytest.raises(Misconfigured) as caught:
        allow.action("nginx.reload")
    assert str(tmp_path / "allow.toml") in caught.value.message
    assert '[action."nginx.reload"]\ncommand = ["/usr/sbin/nginx", "-s", "reload"]' in caught.value.message
    with pytest.raises(Misconfigured, match=r'\[\[folder\]\]\npath = "/etc/tls"'):
        allow.folder_of("/etc/tls/a.pem")


@pytest.mark.parametrize(
    "path", ["/srv/tlsx/a", "/srv/a", "/srv/tls", "/srv/tls/../x/a", "/srv/tls/./a", "srv/tls/a", "/srv//tls/a"]
)
def test_paths_outside_the_folder_are_not_allowed(path: str) -> None:
    with pytest.raises(Misconfigured):
        AllowFile(Path("/x"), (Path("/srv/tls"),)).folder_of(path)


@given(st.text(max_size=30))
def test_only_plain_paths_pass(text: str) -> None:
    try:
        path = check_absolute(text)
    except Misconfigured:
        return
    assert str(path) == text
    assert ".." not in path.parts
    assert os.path.normpath(text) == text


def actions(**commands: tuple[list[str], float]) -> AllowFile:
    return AllowFile(
        Path("/x/allow.toml"),
        (),
        {name: AllowedAction(name, tuple(c), timedelta(seconds=t)) for name, (c, t) in commands.items()},
    )


async def test_a_command_sees_a_clean_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCTL_API_KEY", "s3cret")
    allow = actions(env=(["/usr/bin/env"], 5), pwd=(["/bin/pwd"], 5), cat=(["/bin/cat"], 5))
    result = await run_action(allow, "env")
    assert {line.partition("=")[0] for line in result.output.splitlines()} == {"PATH", "LANG"}
    assert (await run_action(allow, "pwd")).output == "/\n"
    assert (await run_action(allow, "cat")).output == ""


async def test_no_shell_and_whole_arguments_only() -> None:
    allow = actions(echo=(["/bin/echo", "$HOME; `id`", "{cert_path}", "a b"], 5))
    result = await run_action(allow, "echo", {"cert_path": "/tls/a b;c.pem"})
    assert result.output == "$HOME; `id` /tls/a b;c.pem a b\n"
    for values in ({}, {"cert_path": "-rf"}, {"cert_path": "/a\0b"}):
        with pytest.raises(Misconfigured, match="has no value"):
            await run_action(allow, "echo", values)


async def test_a_failing_command_tells_its_last_words() -> None:
    allow = actions(
        fail=(["/bin/sh", "-c", "echo nginx: bad key >&2; exit 3"], 5), dies=(["/bin/sh", "-c", "kill -9 $$"], 5)
    )
    with pytest.raises(Rejected, match="exit code 3; it said: nginx: bad key"):
        await run_action(allow, "fail")
    with pytest.raises(Rejected, match="killed by signal 9"):
        await run_action(allow, "dies")


async def test_a_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! > {pids}; echo $$ >> {pids}; echo waiting; wait"
    # time enough for a shell to say its word on a machine that has other work
    with pytest.raises(Temporary, match=r"did not end within 2(\.0)? s and was killed; it said: waiting"):
        await run_action(actions(hang=(["/bin/sh", "-c", script], 2)), "hang")
    for pid in map(int, pids.read_text().split()):
        for _ in range(6000):
            if not _alive(pid):
                break
            await asyncio.sleep(0.01)
        assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    task = asyncio.create_task(run_action(actions(hang=(["/bin/sleep", "60"], 60)), "hang"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_output_is_bounded_and_does_not_block() -> None:
    allow = actions(loud=(["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end"], 20))
    result = await run_action(allow, "loud")
    assert len(result.output) <= MOST_OUTPUT_BYTES
    assert result.output.endswith("x\nend\n")


async def test_a_daemon_left_behind_does_not_hold_us() -> None:
    # held by it, the command would not have ended within its time
    result = await run_action(actions(start=(["/bin/sh", "-c", "sleep 45 & echo started"], 30)), "start")
    assert result.output == "started\n"


async def test_what_cannot_be_started_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="cannot be started"):
        await run_action(actions(none=(["/nonexistent/program"], 5)), "none")
    with pytest.raises(Misconfigured, match="does not allow the action 'other'"):
        await run_action(actions(), "other")


def allowing(folder: Path) -> AllowFile:
    return AllowFile(Path("/x/allow.toml"), (folder,))


def test_a_place_reads_and_replaces_beneath_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with Place.open(tmp_path / "a/b/cert.pem", allowing(tmp_path)) as place:
        assert place.read() is None
        assert place.facts() is None
        place.create("x", b"one", 0o640, -1, -1)
        place.rename("x")
        place.sync()
        assert place.read() == b"one"
        with pytest.raises(Misconfigured):
            place.create("cert.pem", b"two", 0o600, -1, -1)
        place.keep_as("old")
        place.remove()
        place.remove()
        assert place.read("old") == b"one"
        assert place.names() == ("old",)


def test_links_are_never_followed(tmp_path: Path) -> None:
    real, elsewhere = tmp_path / "tls", tmp_path / "elsewhere"
    real.mkdir()
    elsewhere.mkdir()
    (elsewhere / "cert.pem").write_text("theirs")
    (real / "sub").symlink_to(elsewhere)
    (real / "cert.pem").symlink_to(elsewhere / "cert.pem")
    (real / "folder").mkdir()
    os.mkfifo(real / "fifo")
    (tmp_path / "root").symlink_to(real)
    with pytest.raises(Misconfigured, match="symbolic link"):
        Place.open(real / "sub/cert.pem", allowing(real))
    with pytest.raises(Misconfigured, match="symbolic link"):
        Place.open(tmp_path / "root/a.pem", allowing(tmp_path / "root"))
    for name, told in (("cert.pem", "symbolic link"), ("folder", "no regular file"), ("fifo", "no regular file")):
        with Place.open(real / name, allowing(real)) as place, pytest.raises(Misconfigured, match=told):
            place.read()
    with pytest.raises(Misconfigured, match="No such file"):
        Place.open(real / "none/cert.pem", allowing(real))


def test_a_folder_swapped_for_a_link_afterwards_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tls/site").mkdir(parents=True)
    with Place.open(tmp_path / "tls/site/key.pem", allowing(tmp_path / "tls")) as place:
        (tmp_path / "tls/site").rename(tmp_path / "tls/moved")
        (tmp_path / "evil").mkdir()
        (tmp_path / "tls/site").symlink_to(tmp_path / "evil")
        place.create("key.pem", b"secret", 0o600, -1, -1)
    assert list((tmp_path / "evil").iterdir()) == []
    assert (tmp_path / "tls/moved/key.pem").read_bytes() == b"secret"


def test_an_oversized_file_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(b"x" * (1024 * 1024 + 1))
    with Place.open(tmp_path / "cert.pem", allowing(tmp_path)) as place, pytest.raises(Misconfigured, match="larger"):
        place.read()
