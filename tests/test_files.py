import errno
import io

import pytest

from diarize.files import in_words, read_lines, replacing, write_text


def test_lines_come_without_their_ends_whatever_these_are(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n\nfi\xe2\x80\xa8ve\n")
    assert read_lines(path, ValueError) == ["one", "two", "three", "", "fi\u2028ve"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"gone\.txt: cannot be read \(No such file"):
        read_lines(tmp_path / "gone.txt", KeyError)


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\ntwo\nJosé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt:3: is not UTF-8 text\. Save"):
        read_lines(tmp_path / "a.txt", ValueError)


def test_a_file_is_replaced_only_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_device_is_written_to_and_not_replaced():
    write_text("/dev/null", "text")
    with replacing("/dev/null") as path:
        assert str(path) == "/dev/null"


def test_a_stream_gets_the_text_itself():
    stream = io.StringIO()
    write_text(stream, "é\n")
    assert stream.getvalue() == "é\n"


def test_a_missing_folder_is_told_before_any_work_is_done(tmp_path):
    path = tmp_path / "gone" / "a.txt"
    with pytest.raises(FileNotFoundError) as raised, replacing(path):
        pytest.fail("the block is run")
    way_out = f"there is no folder {tmp_path / 'gone'} to hold it. Make it first."
    assert in_words(raised.value) == f"{path}: {way_out}"


def test_a_failed_write_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError) as raised, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert in_words(raised.value) == f"{path}: No space left on device."
    with pytest.raises(PermissionError) as raised, replacing(path) as beside:
        raise PermissionError(errno.EACCES, "Permission denied", str(beside))
    assert in_words(raised.value) == f"{path}: Permission denied."
    with pytest.raises(FileNotFoundError) as raised, replacing(path):
        (tmp_path / "other.txt").read_text()
    assert in_words(raised.value) == f"{tmp_path / 'other.txt'}: No such file or directory."
