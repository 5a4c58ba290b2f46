"""What is in the way of a file stays as it was; what cannot be written is one error before work.

Every writer of the package meets every obstacle, the slow ones under the long profile.
``python tests/try_outputs.py`` does the same with the installed command, in processes of their own.
"""

from __future__ import annotations

import os
import socket
import stat
import threading

import pytest
from scarce import bound, no_file_above, small_disk
from writers import WRITERS

from pmsm_hw.errors import FormatError, InputError
from pmsm_hw.files import check_output, check_outputs, made_folder, replacing

OLD = b"what was here before"
LONG = os.environ.get("PMSM_HW_HYPOTHESIS") == "long"
QUICK = ("network.h5", "network.nir", "trace.json", "units.npz", "figure.png", "model.pt")


def writers(*more, but=()):
    """Parametrise with all writers, or with the quick ones and some more."""
    chosen = [n for n in WRITERS if (LONG or n in QUICK or n in more) and n not in but]
    return pytest.mark.parametrize(("name", "write"), [(n, WRITERS[n]) for n in chosen])


def refusal(write, path):
    with pytest.raises(FormatError) as caught:
        write(path)
    line = str(caught.value)
    assert line.isprintable(), line
    assert path.name in line
    return line


def content(folder):
    """What is in a folder: names, kinds, and bytes of plain files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        kind = stat.S_IFMT(mode), stat.S_IMODE(mode)
        found[str(path)] = kind, os.readlink(path) if path.is_symlink() else None, (
            path.read_bytes() if stat.S_ISREG(mode) else None
        )  # fmt: skip
    return found


@writers(but=("checkpoint.pt",))  # which looks into what is there, and goes on from it
def test_what_is_no_plain_file_is_written_through(name, write, tmp_path):
    """A device, and a pipe: its reader gets the bytes that a plain file would hold."""
    plain, pipe, device = (tmp_path / kind / name for kind in ("plain", "pipe", "device"))
    for path in (plain, pipe, device):
        path.parent.mkdir()
    write(plain)
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(20)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert got == [plain.read_bytes()]
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.close(os.open(device, os.O_WRONLY))
    except OSError:  # not root, or devices are not allowed here
        if os.geteuid() == 0:
            pytest.skip("no device can be made here, and /dev/null is not put at risk as root")
        device.symlink_to("/dev/null")
    write(device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert len(list(device.parent.iterdir())) == 1


@writers()
def test_a_link_stays_and_its_target_is_replaced(name, write, tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / f"x{name}", tmp_path / name
    target.write_bytes(OLD)
    target.chmod(0o640)
    second = tmp_path / "hard link"
    second.hardlink_to(target)
    link.symlink_to(tmp_path / "there" / ".." / "there" / f"x{name}")
    with target.open("rb") as reader:  # a file in use
        write(link)
        assert reader.read() == OLD
    assert link.is_symlink()
    write(tmp_path / f"plain{name}")
    assert target.read_bytes() == (tmp_path / f"plain{name}").read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert second.read_bytes() == OLD  # documented: other hard links keep what they had
    assert len(list((tmp_path / "there").iterdir())) == 1


@writers("mesh.png", "report.html", but=("checkpoint.pt",))
def test_obstacles_are_refused_and_stay(name, write, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).mkdir()
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / name).symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / name).symlink_to(tmp_path / "loop" / name)
    before = content(tmp_path)
    for path, words in (
        (tmp_path / "folder" / name, "it is a folder"),
        (tmp_path / "absent" / name, "absent' does not exist"),
        (tmp_path / "file" / name, "Not a directory"),
        (tmp_path / "dangling" / name, "it is a link to"),
        (tmp_path / "loop" / name, "symbolic links"),
        (tmp_path / (250 * "n" + name), "name too long"),
    ):
        assert words in refusal(write, path)
    assert content(tmp_path) == before


@writers("report.html")
def test_a_full_disk(name, write, tmp_path):
    """The old file is whole, nothing else is left, and the process lives."""
    path = tmp_path / name
    path.write_bytes(OLD)
    before = content(tmp_path)
    with no_file_above(300):
        assert "cannot be written (File too large)" in refusal(write, path)
    assert content(tmp_path) == before


def test_a_small_disk_that_is_full_or_read_only(tmp_path):
    chosen = [n for n in WRITERS if LONG or n in QUICK]
    with small_disk(tmp_path):
        (tmp_path / "filler").write_bytes(bytes(64 * 1024))
        before = content(tmp_path)
        for name in chosen:
            line = refusal(WRITERS[name], tmp_path / name)
            assert "cannot be written (No space left on device)" in line
        assert content(tmp_path) == before
    with small_disk(tmp_path, read_only=True):
        for name in chosen:
            assert "Read-only file system" in refusal(WRITERS[name], tmp_path / name)


def test_a_file_that_is_mounted(tmp_path):
    """It cannot be renamed over, which would show after the work."""
    path, other = tmp_path / "a b\\c", tmp_path / "other"
    path.write_bytes(OLD)
    other.write_bytes(OLD)
    with bound(other, path):
        with pytest.raises(FormatError, match="it is mounted by itself"):
            check_output(path)
        check_output(other)
    check_output(path)


def test_a_folder_that_may_not_be_written(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere: run as another user")
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine").write_bytes(OLD)
    (tmp_path / "mine").chmod(0o444)
    (tmp_path / "folder").chmod(0o555)
    with pytest.raises(FormatError, match="Permission denied"), replacing(tmp_path / "folder/x"):
        pass
    with pytest.raises(FormatError, match="write-protected"), replacing(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").read_bytes() == OLD


def test_sockets_and_disks(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    with pytest.raises(FormatError, match="it is a socket"), replacing(tmp_path / "socket"):
        pass
    if os.geteuid() == 0:
        try:
            os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(254, 9999))
        except OSError:
            pytest.skip("no device can be made here")
        with pytest.raises(FormatError, match="it is a disk"), replacing(tmp_path / "disk"):
            pass


def test_the_last_of_many_writers_is_whole(tmp_path):
    path = tmp_path / "file"

    def write(letter):
        for _ in range(20):
            with replacing(path) as file:
                for _ in range(50):
                    file.write(letter * 100)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]),)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            data = path.read_bytes()
            assert data == data[:1] * 5000
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_of_the_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path) as file:  # noqa: PT012
            file.write(b"half")
            raise error
    assert content(tmp_path) == {str(path): (content(tmp_path)[str(path)][0], None, OLD)}


def test_names_as_long_as_the_file_system_allows(tmp_path):
    for name in ("n" * 255, "ü" * 127, "x\udcff"):
        with replacing(tmp_path / name) as file:
            file.write(b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(FormatError, match="null byte"), replacing(tmp_path / "a\0b"):
        pass


def test_outputs_among_each_other(tmp_path):
    old, other = tmp_path / "old.h5", tmp_path / "other.json"
    old.write_bytes(OLD)
    (tmp_path / "same.json").symlink_to(other.name)
    other.write_bytes(OLD)
    check_outputs(
        {"a": old, "b": tmp_path / "new", "c": None}, inputs=("digits", None, other, "zero\0byte")
    )
    for outputs, options, words in (
        ({"a": other, "b": tmp_path / "same.json"}, {}, "it is the file of a too"),
        ({"a": tmp_path / "new", "b": f"{tmp_path}/./new"}, {}, "it is the file of a too"),
        ({"a": old}, {"inputs": (old,)}, "it is read as well"),
        ({"a": tmp_path / "same.json"}, {"inputs": (other,)}, "it is read as well"),
        ({"a": old, "b": old}, {"inputs": (old,), "rewritten": {"a": old}}, "it is read as well"),
        ({"a": tmp_path / "x" / "y"}, {"made": tmp_path / "z"}, "does not exist"),
        ({"a": tmp_path / "new"}, {"made": old}, "is not a folder"),
        ({"a": tmp_path / "new"}, {"made": old / "in"}, "Not a directory"),
        ({"a": "zero\0byte"}, {}, "null byte"),
        ({"a": "zero\0byte/x"}, {"made": "zero\0byte"}, "null byte"),
    ):
        with pytest.raises(FormatError, match=words):
            check_outputs(outputs, **options)
    check_outputs({"a": old}, inputs=(old,), rewritten={"a": old})
    check_outputs({"a": tmp_path / "x" / "y"}, made=tmp_path / "x")
    check_outputs({"a": "/dev/null", "b": "/dev/null"})
    with pytest.raises(InputError, match=r"use \.h5 or \.nir"):
        check_outputs({"a": tmp_path / "x.png"}, suffixes={"a": (".h5", ".nir")})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.h5", "other.json", "same.json"]


def test_folders_made_in_vain_go_again(tmp_path):
    with pytest.raises(ZeroDivisionError), made_folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), made_folder(tmp_path / "a/b") as folder:  # noqa: PT012
        (folder / "kept").touch()
        raise ZeroDivisionError
    assert (tmp_path / "a" / "b" / "kept").exists()
