"""Folders that appear whole or not at all, whatever ends their process; files from elsewhere."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.disk import exchange, whole
from expunge.disk.ours import FolderKind, check_ours, check_replaceable
from expunge.disk.reading import (
    UnreadableError,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_yaml,
    reading,
)
from expunge.disk.whole import (
    recover,
    sweep,
    unwritable,
    write_file,
    written_together,
    written_whole,
)
from expunge.errors import ConfigError, UserError
from expunge.names.text import clean, clean_all, clean_name

KIND = FolderKind("folder of a test", "mark", re.compile(r"mark|part/(x\.txt)?"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def made(target: Path, text: str, *, overwrite: bool = True) -> None:
    with written_whole(target, overwrite=overwrite) as folder:
        (folder / "mark").write_text(text)


@pytest.fixture(params=["one step", "two renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing a folder: where the system can exchange names, and where it cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(exchange, "system_call", lambda: None)
    elif sys.platform not in ("linux", "darwin"):
        pytest.skip("this system cannot exchange two names")
    return str(request.param)


# --- whole folders


def test_a_folder_appears_and_is_replaced(tmp_path: Path, swap: str) -> None:
    made(tmp_path / "m", "old")
    assert (tmp_path / "m/mark").read_text() == "old"
    made(tmp_path / "m", "new")
    assert (tmp_path / "m/mark").read_text() == "new" and names(tmp_path) == ["m"]
    umask = os.umask(0o022)
    os.umask(umask)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "m/mark").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_raises_leaves_what_was_there(tmp_path: Path, swap: str) -> None:
    made(tmp_path / "m", "old")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "m", overwrite=True) as folder:
        (folder / "mark").write_text("new")
        raise RuntimeError
    assert (tmp_path / "m/mark").read_text() == "old" and names(tmp_path) == ["m"]


def test_without_overwrite_a_folder_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"File exists.*move it to where it belongs"),
        written_whole(tmp_path / "m", overwrite=False) as folder,
    ):
        (folder / "mark").write_text("new")
        made(tmp_path / "m", "of another process")
    assert (tmp_path / "m/mark").read_text() == "of another process"
    (kept,) = tmp_path.glob("m.unnamed-*")
    assert (kept / "mark").read_text() == "new", "what was made is kept"


@pytest.mark.parametrize("call", ["rename", "renameat2"])
def test_what_cannot_take_its_name_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    made(tmp_path / "m", "old")
    real = os.rename

    def fails(source: Any, to: Any) -> None:
        if Path(to).name == "m" and ".expunge-new" in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, to)

    if call == "rename":
        monkeypatch.setattr(exchange, "system_call", lambda: None)
        monkeypatch.setattr(os, "rename", fails)
    else:
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(whole, "exchanged", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match="No space left on device") as told:
        made(tmp_path / "m", "new")
    assert (tmp_path / "m/mark").read_text() == "old"
    (kept,) = tmp_path.glob("m.unnamed-*")
    assert str(kept) in str(told.value) and (kept / "mark").read_text() == "new"
    monkeypatch.undo()
    made(tmp_path / "m", "newer")
    assert kept.is_dir(), "no sweep takes it"


def test_rights_and_flushing_that_a_mount_refuses_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuses)
    monkeypatch.setattr(os, "fsync", refuses)
    made(tmp_path / "m", "new")
    write_file(tmp_path / "f", "text")
    assert names(tmp_path) == ["f", "m"]

    def breaks(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", breaks)
    with pytest.raises(UserError, match="Input/output error"):
        made(tmp_path / "m", "newer")
    assert (tmp_path / "m/mark").read_text() == "new"


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_are_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from expunge.disk.whole import written_whole\n"
        "with written_whole(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "    (folder / 'mark').write_text('half')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "m")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        assert sweep(tmp_path) == 0 and len(names(tmp_path)) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    mine = tmp_path / ".m.notes"
    mine.mkdir()
    made(tmp_path / "other", "x")
    assert names(tmp_path) == [".m.notes", "other"], "swept by the next start, and nothing else"


def test_a_kill_between_the_two_renames_is_put_right(tmp_path: Path) -> None:
    made(tmp_path / "m", "old")
    os.rename(tmp_path / "m", tmp_path / ".m.expunge-old-0123abcd")
    (tmp_path / ".m.expunge-new-0123abcd").mkdir()
    recover(tmp_path / "m")
    assert names(tmp_path) == ["m"] and (tmp_path / "m/mark").read_text() == "old"
    made(tmp_path / ".m.expunge-old-0123abcd", "older")
    recover(tmp_path / "m")  # it is there: nothing to put right
    sweep(tmp_path)
    assert names(tmp_path) == ["m"] and (tmp_path / "m/mark").read_text() == "old"


@pytest.mark.parametrize("over", [False, True])
def test_folders_that_appear_together_do_so_after_a_kill_between_them(
    tmp_path: Path, over: bool, swap: str
) -> None:
    targets = a_plan_left_behind(tmp_path, over=over)
    assert (targets[0] / "mark").read_text() == "new"
    assert targets[1].exists() == over
    sweep(tmp_path)
    assert [(target / "mark").read_text() for target in targets] == ["new", "new"]
    assert names(tmp_path) == ["m", "m-retrained"]


def a_plan_left_behind(folder: Path, *, over: bool) -> list[Path]:
    """Two folders, and the journal that a kill left after the first of them had its name."""
    targets = [folder / "m", folder / "m-retrained"]
    for target in targets if over else []:
        made(target, "old")
    process = os.fork()
    if process == 0:
        real = whole._name

        def dies(new: Path, target: Path, *, overwrite: bool) -> None:
            if target.name == "m-retrained":
                os.kill(os.getpid(), signal.SIGKILL)
            real(new, target, overwrite=overwrite)

        whole._name = dies  # type: ignore[assignment]
        with written_together(targets, overwrite=True) as folders:
            for one in folders:
                (one / "mark").write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    return targets


@pytest.mark.parametrize("over", [False, True])
def test_what_somebody_has_put_in_its_place_since_is_not_replaced(
    tmp_path: Path, over: bool
) -> None:
    _, second = a_plan_left_behind(tmp_path, over=over)
    if over:
        (second / "mark").unlink()
        second.rename(tmp_path / "moved away")
    second.mkdir()
    (second / "thesis").write_text("mine")
    sweep(tmp_path)
    assert names(second) == ["thesis"]
    (aside,) = tmp_path.glob("m-retrained.unnamed-*")
    assert (aside / "mark").read_text() == "new" and not list(tmp_path.glob(".*"))


def test_two_that_sweep_at_once_do_not_take_what_a_journal_names(tmp_path: Path) -> None:
    a_plan_left_behind(tmp_path, over=False)
    (plan,) = tmp_path.glob(".*expunge-plan-*")
    held = whole._lock(plan)  # another process is about to finish it
    assert held is not None
    try:
        sweep(tmp_path)
        assert len(list(tmp_path.glob(".*expunge-new-*"))) == 1, "its folder stays"
    finally:
        held.release()
    sweep(tmp_path)
    assert names(tmp_path) == ["m", "m-retrained"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_names_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    real = whole._name

    def disturbed(new: Path, target: Path, *, overwrite: bool) -> None:
        signal.raise_signal(number)
        real(new, target, overwrite=overwrite)

    monkeypatch.setattr(whole, "_name", disturbed)
    before = signal.signal(number, signal.default_int_handler)
    try:
        targets = [tmp_path / "m", tmp_path / "m-retrained"]
        with pytest.raises(KeyboardInterrupt), written_together(targets, overwrite=True) as folders:
            for folder in folders:
                (folder / "mark").write_text("new")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert names(tmp_path) == ["m", "m-retrained"]


@pytest.mark.parametrize("what", ["new", "old", "plan"])
def test_a_pipe_with_a_name_of_ours_hangs_nobody(tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / f".m.expunge-{what}-01234567")
    start = time.monotonic()
    sweep(tmp_path)
    recover(tmp_path / "m")
    assert time.monotonic() - start < 3


def test_a_trial_is_nobody_elses_to_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def swept(source: Any, to: Any) -> None:
        assert sweep(tmp_path) == 0
        real(source, to)

    monkeypatch.setattr(os, "rename", swept)
    assert unwritable(tmp_path / "m") is None


def test_the_root_of_a_file_system_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "m")
    assert "root of a file system" in str(unwritable(tmp_path / "m"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "{}",
        '[["a", "b"]]',
        '[["../../x", "m", 3]]',
        '[[".m.expunge-new-00000000", "m", 3]]',
    ],
)
def test_an_odd_journal_does_nothing(tmp_path: Path, text: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    made(inside / "m", "old")
    (inside / ".m.expunge-plan-01234567").write_text(text)
    sweep(inside)
    assert names(inside) == ["m"] and (inside / "m/mark").read_text() == "old"


def test_two_processes_replace_one_folder_at_once(tmp_path: Path, swap: str) -> None:
    patch = "whole.exchanged = lambda *_: False\n" if swap == "two renames" else ""
    code = (
        "import sys; from pathlib import Path\nfrom expunge.disk import whole\n"
        f"{patch}for number in range(25):\n"
        "    with whole.written_whole(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "        (folder / 'mark').write_text(sys.argv[2])\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "m"), name])
        for name in ("a", "b")
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    sweep(tmp_path)
    assert names(tmp_path) == ["m"] and (tmp_path / "m/mark").read_text() in "ab"


def test_a_file_is_written_whole_whatever_it_holds(tmp_path: Path) -> None:
    write_file(tmp_path / "f", "a\udcff")
    assert (tmp_path / "f").read_bytes() == b"a\\udcff"
    write_file(tmp_path / "f", b"\xff")
    assert (tmp_path / "f").read_bytes() == b"\xff" and names(tmp_path) == ["f"]


@pytest.mark.parametrize("place", ["/", "file/x", "file", "x" * 300, "gone/down/x", "link/x"])
def test_a_target_is_tried_at_the_start(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    why = unwritable(tmp_path / place)
    assert (why is None) == (place in ("gone/down/x", "file"))
    assert names(tmp_path) == ["file", "link"], "nothing is left of the trial"


def test_a_target_that_refuses_folders_is_known_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuses)
    assert "Read-only file system" in str(unwritable(tmp_path / "x"))


# --- what may be replaced


def check(target: Path, **given: Any) -> None:
    check_replaceable(target, KIND, **{"overwrite": True, "error": ConfigError, **given})


def test_only_a_folder_all_of_whose_entries_are_ours_is_replaced(tmp_path: Path) -> None:
    made(tmp_path / "m", "x")
    (tmp_path / "m/part").mkdir()
    (tmp_path / "m/part/x.txt").touch()
    check(tmp_path / "m")
    with pytest.raises(ConfigError, match="--overwrite"):
        check(tmp_path / "m", overwrite=False)
    for name in ("notes.txt", "part/notes", ".hidden", "another/"):
        odd = tmp_path / "m" / name
        odd.mkdir() if name.endswith("/") else odd.touch()
        with pytest.raises(ConfigError, match=f"also holds {re.escape(name)}, which is nothing of"):
            check(tmp_path / "m")
        odd.rmdir() if name.endswith("/") else odd.unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m/part/x.txt").unlink()
    (tmp_path / "m/part").rmdir()
    (tmp_path / "m/part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"part \(a link\)"):
        check(tmp_path / "m")
    (tmp_path / "linked").symlink_to(tmp_path / "m")
    with pytest.raises(ConfigError, match="links are not replaced"):
        check(tmp_path / "linked")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is no folder of a test"):
        check(tmp_path / "file")
    check_ours(tmp_path / "elsewhere", KIND, error=ConfigError)  # empty: nothing to lose


def test_folders_that_lie_in_each_other_are_refused_both_ways(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    for target, other in (
        ("a", "a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("alias/a", "a"),
        ("a", "x/../a/b"),
    ):
        with pytest.raises(ConfigError, match="lie in each other"):
            check(tmp_path / target, apart={"the other": tmp_path / other})
    check(tmp_path / "a", apart={"the other": tmp_path / "ab"})


# --- files from elsewhere


@pytest.fixture
def odd_files(tmp_path: Path) -> Path:
    """A folder of what is no small file in it."""
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_text("{}")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "zero").symlink_to("/dev/zero")
    (inside / "loop").symlink_to("loop")
    os.mkfifo(inside / "pipe")
    (inside / "folder").mkdir()
    (inside / "large").write_bytes(b" " * 2000)
    (inside / "text").write_bytes(b"\xff\xfe")
    address = socket.socket(socket.AF_UNIX)
    address.bind(os.path.relpath(inside / "socket"))
    address.close()
    return inside


@pytest.mark.parametrize(
    "name", ["link", "zero", "loop", "pipe", "folder", "large", "text", "gone", "socket"]
)
def test_odd_files_cost_one_line_at_once(odd_files: Path, name: str) -> None:
    start = time.monotonic()
    with (
        pytest.raises(ConfigError, match=rf"cannot read .*{name} \(.+\); look at it"),
        reading(odd_files / name, "look at it", ConfigError),
    ):
        read_bytes(odd_files / name, most=1000, within=odd_files).decode("utf-8")
    assert time.monotonic() - start < 3


DEEP = "[" * 100_000
JSON = {
    "deep": DEEP,
    "cut": '{"a": ',
    "long number": f'{{"a": {"9" * 5000}}}',
    "parts": f"[{'[],' * 3_000_000}[]]",
}


@pytest.mark.parametrize("kind", JSON)
def test_odd_json_costs_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "f").write_text(JSON[kind])
    with (
        pytest.raises(ConfigError) as told,
        reading(tmp_path / "f", "look at it", ConfigError),
    ):
        read_json(tmp_path / "f")
    assert "\n" not in str(told.value) and len(str(told.value)) < 600


def laughs(line: str) -> str:
    """Ten lines, each of which holds nine times what the one before it does."""
    lines = ["a0: &a0 {x: y}"]
    for number in range(1, 10):
        lines.append(line.format(n=number, what=", ".join([f"*a{number - 1}"] * 9)))
    return "\n".join(lines)


YAML = {
    "deep": DEEP,
    "deep lines": "- " * 50_000,
    "aliases": laughs("a{n}: &a{n} [{what}]"),
    "merge keys": laughs("a{n}: &a{n} {{<<: [{what}]}}"),
    "long text many times": f"a: &a {'x' * 60_000}\nb: [{', '.join(['*a'] * 1000)}]",
    "itself": "a: &a [*a]",
    "long number": f"a: {'9' * 5000}",
    "code": "a: !!python/object/apply:os.system ['touch x']",
    "set": "a: !!set {x, y}",
    "large": "a: " + "x" * 200_000,
}


@pytest.mark.parametrize("kind", YAML)
def test_odd_yaml_costs_one_line_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "f").write_text(YAML[kind])
    start = time.monotonic()
    with (
        pytest.raises(ConfigError) as told,
        reading(tmp_path / "f", "look at it", ConfigError),
    ):
        read_yaml(tmp_path / "f")
    assert "\n" not in str(told.value) and len(str(told.value)) < 600
    assert time.monotonic() - start < 3


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    content, node = parse_yaml(
        "base: &b {lr: 0.1}\nmore: {<<: *b, seed: 3}\nday: 2024-01-01\nx: ~\n"
    )
    assert content == {
        "base": {"lr": 0.1},
        "more": {"lr": 0.1, "seed": 3},
        "day": "2024-01-01",
        "x": None,
    }
    assert node.value[1][0].start_mark.line == 1
    assert parse_yaml("") == (None, None)


@given(st.text(max_size=60))
def test_any_yaml_text_is_read_or_refused(text: str) -> None:
    with reading_or_refused():
        parse_yaml(text)


def test_json_of_too_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key costs ten times its bytes; ids with colons in them are no keys."""
    monkeypatch.setattr("expunge.disk.reading.MOST_KEYS", 10)
    assert len(parse_json(json.dumps([f"a:{i}" for i in range(100)]))) == 100
    assert len(parse_json(json.dumps({f"a:{i}": i for i in range(10)}))) == 10
    for key in ('"%d":0', '"%d" \n\t:0'):
        with pytest.raises(UnreadableError, match="too many parts"):
            parse_json("{" + ",".join(key % i for i in range(11)) + "}")


@given(st.binary(max_size=60))
def test_any_json_bytes_are_read_or_refused(content: bytes) -> None:
    with reading_or_refused():
        parse_json(content)


class reading_or_refused:  # noqa: N801 - reads as a word
    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if error is None:
            return True
        try:
            with reading("f", "look", ConfigError):
                raise error
        except ConfigError as told:
            assert "\n" not in str(told)
        return True


# --- texts


@given(st.text())
def test_a_cleaned_text_can_be_shown_written_and_cleaned_again(text: str) -> None:
    for made_clean in (clean(text), clean_name(text)):
        made_clean.encode("utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", made_clean)
    assert clean(clean(text)) == clean(text)
    assert len(clean_name(text).splitlines()) <= 1


def test_what_is_escaped_and_what_is_not() -> None:
    assert clean("naïve 猫 👩‍🚀 می‌خواهم\n\t") == "naïve 猫 👩‍🚀 می‌خواهم\n\t"
    assert clean("\x1b[31m\udcff\u202ex") == r"\x1b[31m\xff\u202ex"
    assert clean_name("a\nb") == r"a\nb"
    assert clean_all({"\x1b": ["\x07", 1, None]}) == {r"\x1b": [r"\x07", 1, None]}
