"""Arrays of features: spans of every kind of file, and every file that holds none."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import FeatureError
from diarize.features import FeatureInfo, check_features, feature_info, read_features
from diarize.files import replacing

RAMP = np.arange(24, dtype=np.float32).reshape(6, 4)


def write(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def refusal(path: Path) -> str:
    """What is said of a file, by all who open it, less its path."""
    with pytest.raises(FeatureError) as caught:
        feature_info(path)
    with pytest.raises(FeatureError) as again:
        check_features(path, 0.5)
    assert str(caught.value) == str(again.value)
    return str(caught.value).removeprefix(f"{path}: ")


def unreadable(path: Path) -> str:
    """What is said of a file whose header is sound, by all who read it, less its path."""
    assert feature_info(path).rows
    with pytest.raises(FeatureError) as caught:
        check_features(path, 0.5)
    return str(caught.value).removeprefix(f"{path}: ")


# ---- what is read


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_numbers_of_any_width_and_order_are_read_as_float32(dtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", RAMP.astype(dtype))
    assert feature_info(path) == FeatureInfo(6, 4, np.dtype(dtype))
    rows = read_features(path, 2, 3, 0.5)
    assert rows.dtype == np.float32 and rows.dtype.isnative and rows.flags.writeable
    assert np.array_equal(rows, RAMP[2:5])
    check_features(path, 0.5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_hold_one_array_or_one_called_features(save, tmp_path: Path) -> None:
    save(tmp_path / "one.npz", whatever=RAMP)
    save(tmp_path / "two.npz", features=RAMP, times=np.arange(6))
    for name in ("one.npz", "two.npz"):
        assert np.array_equal(read_features(tmp_path / name, 4, 2, 0.5), RAMP[4:])
        check_features(tmp_path / name, 0.5)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 20), dim=st.integers(1, 5), ends=st.tuples(st.integers(0), st.integers(0)),
    fortran=st.booleans(), kind=st.sampled_from(("npy", "npz", "deflated")),
)  # fmt: skip
def test_a_span_is_that_part_of_the_whole(tmp_path_factory, rows, dim, ends, fortran, kind) -> None:
    whole = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
    stored = np.asfortranarray(whole) if fortran else whole
    path = tmp_path_factory.mktemp("span") / f"a.{kind[:3]}"
    if kind == "npy":
        np.save(path, stored)
    else:  # a suffix is no promise
        with replacing(path) as place, place.open("wb") as file:
            (np.savez if kind == "npz" else np.savez_compressed)(file, stored)
    first, last = sorted(end % (rows + 1) for end in ends)
    assert np.array_equal(read_features(path, first, last - first, 0.5), whole[first:last])


def test_only_the_span_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npy", np.zeros((100_000, 16), dtype=np.float16))
    with path.open("r+b") as file:  # what cannot be read stands outside the span
        file.seek(-2 * 16, 2)
        file.write(np.full(16, np.nan, dtype=np.float16).tobytes())
    assert not read_features(path, 50_000, 10, 0.5).any()
    assert "row 99999 (49999.50 s) holds nan" in unreadable(path)


def test_no_rows_may_be_asked_for(tmp_path: Path) -> None:
    assert read_features(write(tmp_path / "a.npy", RAMP), 6, 0, 0.5).shape == (0, 4)


@pytest.mark.parametrize(("first", "count"), [(4, 3), (-1, 2), (7, 0)])
def test_rows_that_are_not_there(first: int, count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", RAMP)
    with pytest.raises(FeatureError, match=rf"rows {first} to {first + count} .* there are 6\. "):
        read_features(path, first, count, 0.5)


# ---- what is refused


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(5), r"has shape \(5,\), but features are \(row, dim\)\. Reshape"),
        (np.zeros((2, 3, 4)), r"has shape \(2, 3, 4\), but features are \(row, dim\)\."),
        (np.zeros(()), r"has shape \(\), but"),
        (np.zeros((2, 3), int), r"holds int64, but features are float16, float32 or float64\. "),
        (np.zeros((2, 3), complex), r"holds complex128, but"),
        (np.zeros((2, 3), bool), r"holds bool, but"),
        (np.zeros((2, 3), "U5"), r"holds <U5, but"),
        (np.array([[{}, None]]), r"holds object, but"),
        (np.zeros((2, 3), "f4,f4"), r"holds \[\('f0', '<f4'\), \('f1', '<f4'\)\], but"),
        (np.zeros((0, 3)), r"has 0 rows of 3 numbers, but there is at least 1 of each\. Leave"),
        (np.zeros((3, 0)), r"has 3 rows of 0 numbers, but"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_features(array: np.ndarray, told: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", array, allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(FeatureError, match=f"{name}: {told}"):
            feature_info(tmp_path / name)


def test_long_double_is_refused(tmp_path: Path) -> None:
    if np.dtype(np.longdouble).itemsize <= 8:
        pytest.skip("is float64 here")
    assert refusal(write(tmp_path / "a.npy", np.zeros((2, 2), np.longdouble))).startswith(
        "holds float128, but"
    )


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.npy").startswith("cannot be read (No such file or directory).")
    assert refusal(tmp_path).startswith("cannot be read (Is a directory). Check the path.")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty, but an array is a .npy or .npz file. Write it with numpy.save."),
        (b"RIFF\0\0\0\0WAVE", "begins with b'RIFF', but an array is a .npy or .npz file."),
        (b"\x80\x04K*.", r"begins with b'\x80\x04K*', but"),  # a pickle
        (b"\x93NUMPY", "its header cannot be read ("),
        (b"\x93NUMPY\x09\x00aaaa", "its header cannot be read ("),
        (b"PK\x03\x04 and no more", "cannot be read as an array (File is not a zip file). Is the"),
    ],
)
def test_files_that_are_no_arrays(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    assert refusal(tmp_path / "a.npy").startswith(told)


@pytest.mark.parametrize("size", range(0, 128, 7))
def test_headers_that_are_cut_off(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", RAMP)
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(path).endswith((". Is the file damaged?", "Write it with numpy.save."))


def test_rows_that_are_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", RAMP)
    path.write_bytes(path.read_bytes()[:-20])
    told = "its header promises 6 rows, but there are only 4. Is the file cut off?"
    assert refusal(path) == told
    path.write_bytes(path.read_bytes()[:130])
    assert refusal(path) == told.replace("4", "0")


def test_headers_that_are_altered(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 3), dtype=np.float32))
    sound = (tmp_path / "a.npy").read_bytes()
    for place in range(8, sound.index(b"\n")):
        for letter in b"({'\\\x00\xff9":
            changed = bytearray(sound)
            changed[place] = letter
            (tmp_path / "a.npy").write_bytes(changed)
            try:
                feature_info(tmp_path / "a.npy")
            except FeatureError:
                pass


def test_headers_that_promise_more_than_any_file_holds(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 4), }\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "a.npy").write_bytes(content)
    assert refusal(tmp_path / "a.npy").startswith("its header promises 1000000000000000 rows, but")


def test_archives_of_none_or_several(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    told = "holds 0 arrays, but one is needed. Keep one, or name it 'features'."
    assert refusal(tmp_path / "a.npz") == told
    np.savez(tmp_path / "b.npz", **{name: RAMP for name in "wxyz"})
    assert refusal(tmp_path / "b.npz").startswith("holds 4 arrays: 'w', 'x', 'y', ..., but one is")


def test_archives_that_are_damaged(tmp_path: Path) -> None:
    counted = np.random.default_rng(0).integers(9, size=(500, 8)).astype(np.float32)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", counted)
        content = bytearray((tmp_path / "a.npz").read_bytes())
        content[len(content) // 2 : len(content) // 2 + 50] = b"\xff" * 50
        (tmp_path / "a.npz").write_bytes(content)
        told = unreadable(tmp_path / "a.npz")
        assert told.startswith("cannot be read as an array (Bad CRC-32")
    content[60:90] = b"\xff" * 30  # no beginning of deflated data
    (tmp_path / "a.npz").write_bytes(content)
    assert refusal(tmp_path / "a.npz").startswith("cannot be read as an array (Error -3 while")
    (tmp_path / "a.npz").write_bytes(content[:-30])
    assert refusal(tmp_path / "a.npz").startswith("cannot be read as an array (File is not a zip")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    assert refusal(tmp_path / "b.npz").startswith("its header cannot be read (")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite(value: float, tmp_path: Path) -> None:
    rows = RAMP.copy()
    rows[3, 1] = value
    path = write(tmp_path / "a.npy", rows)
    told = f"row 3 (1.50 s) holds {value:g}, but features are finite numbers in float32. Mend what"
    assert unreadable(path).startswith(told)
    with pytest.raises(FeatureError, match=r"row 3 \(1\.50 s\)"):
        read_features(path, 2, 4, 0.5)
    assert np.array_equal(read_features(path, 4, 2, 0.5), RAMP[4:])


def test_numbers_beyond_float32(tmp_path: Path) -> None:
    rows = RAMP.astype(np.float64)
    rows[5, 3] = 1e300
    told = "row 5 (2.50 s) holds 1e+300, but features are finite numbers in float32. Mend what "
    assert unreadable(write(tmp_path / "a.npy", rows)) == told + "made them, or scale them down."


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", np.zeros((100_000, 4)))
    from diarize import features

    with features._open(path) as array:
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(FeatureError, match=r"3200 bytes are sought at 640128, but there are 0"):
            array.read(20_000, 100, 0.5)
