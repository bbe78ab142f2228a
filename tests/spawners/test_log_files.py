import os
import subprocess
from pathlib import Path

from moorage_spawners.launch.log_files import rotate, shorten
from tests.small_disk import small_disk
from tests.waiting import eventually


def test_a_long_log_is_put_aside_and_its_writer_goes_on_at_the_beginning(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with open(log, "ab") as out:
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out)
    assert writer.stdin is not None
    for number in range(4):
        log_before = log.read_bytes()
        assert not rotate(log, len(log_before) + 10, kept=2)
        os.write(writer.stdin.fileno(), f"line {number}\n".encode() * 10)
        eventually(lambda: log.stat().st_size == 70, what="the lines")
        assert rotate(log, 50, kept=2)
        assert log.read_bytes() == b""
    writer.stdin.close()
    writer.wait()
    assert (tmp_path / "service.log.1").read_text() == "line 3\n" * 10
    assert (tmp_path / "service.log.2").read_text() == "line 2\n" * 10
    assert not (tmp_path / "service.log.3").exists()
    assert (tmp_path / "service.log.1").stat().st_mode & 0o777 == 0o600


def test_a_workloads_log_keeps_its_end_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not shorten(log, 100)
    log.write_text("".join(f"line {number:03}\n" for number in range(100)))
    assert shorten(log, 200)
    lines = log.read_text().splitlines()
    assert "removed" in lines[0]
    assert lines[1:] == [f"line {number:03}" for number in range(89, 100)]
    assert not shorten(log, 200)


def test_without_room_for_a_copy_a_log_is_emptied_and_the_older_ones_stay(tmp_path: Path) -> None:
    with small_disk(tmp_path / "logs", "256k") as disk:
        log = disk.folder / "hub.log"
        log.write_bytes(b"x" * 100_000)
        (disk.folder / "hub.log.1").write_text("older")
        (disk.folder / "hub.log.2").write_text("oldest")
        disk.fill()
        assert rotate(log, 50_000, kept=2)
        assert "there was no room to put it aside" in log.read_text()
        assert len(log.read_bytes()) < 1000
        assert (disk.folder / "hub.log.1").read_text() == "older"
        assert (disk.folder / "hub.log.2").read_text() == "oldest"
        assert sorted(path.name for path in disk.folder.glob("hub.log*")) == ["hub.log", "hub.log.1", "hub.log.2"]
