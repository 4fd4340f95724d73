"""Explanations by Ray Data are those of the command, row by row, whatever dies meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import relc
from conftest import DEMO
from PIL import Image

ray = pytest.importorskip("ray", reason="needs ray[data]")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

import ray.cloudpickle  # noqa: E402
import ray.data  # noqa: E402
import relc.ray  # noqa: E402

# Workers do not find this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

PICTURES = 500


MARKER = "RELC_TEST_MARKER"


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """Two CPUs of this machine, whose workers have this process's environment."""
    os.environ[MARKER] = str(tmp_path_factory.mktemp("marker") / "died")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    del os.environ[MARKER]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("model") / "demo.relc"
    relc.compile(model, save=path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """500 pictures, one of which is none."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for number in range(PICTURES):
        low = Image.fromarray(noise.integers(0, 256, (6, 6, 3), np.uint8))
        low.resize((80, 70), Image.BILINEAR).save(folder / f"{number:03}.png")
    (folder / "250.png").write_bytes(b"no picture")
    return folder


def of_the_command(command, folder, *arguments):
    """The rows of the command; `arguments` are the model, the inputs and others."""
    out = folder / "rows.parquet"
    done = subprocess.run(
        [command, "explain", *arguments, "--preprocess", DEMO / "preprocess.toml", "--jobs", "2", "--parquet", out],
        capture_output=True,
        text=True,
    )
    assert out.is_file(), done.stderr
    return pq.read_table(out)


def rows(table):
    """Rows in the order of the inputs. Floats are compared by their bits: none is NaN."""
    assert table.column_names == relc.ray.schema().names
    return sorted(table.to_pylist(), key=lambda row: row["input"])


class Dying(relc.ray.Worker):
    """Kills its process in the middle of its work, once."""

    calls = 0

    def __call__(self, batch):
        Dying.calls += 1
        marker = Path(os.environ[MARKER])
        if Dying.calls == 4 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def test_a_worker_that_dies_loses_nothing(tmp_path, command, artifact, pictures):
    files = [{"path": str(path)} for path in sorted(pictures.glob("*.png"))]
    dataset = ray.data.from_items(files, override_num_blocks=8)
    explained = relc.ray.explain(
        dataset, artifact, workers=2, batch_size=16, worker=Dying, preprocess=str(DEMO / "preprocess.toml")
    )
    explained.write_parquet(str(tmp_path / "rows"))
    assert Path(os.environ[MARKER]).exists(), "no worker died"
    got, expected = pq.read_table(tmp_path / "rows"), of_the_command(command, tmp_path, artifact, pictures)
    assert len(got) == PICTURES
    assert rows(got) == rows(expected)
    failed = [row for row in rows(got) if row["error"] is not None]
    assert [Path(row["input"]).name for row in failed] == ["250.png"]
    assert failed[0]["map"] is None and failed[0]["target"] is None


def test_bytes_and_several_targets(tmp_path, command, artifact, pictures):
    few = sorted(pictures.glob("*.png"))[:10]
    dataset = ray.data.from_items([{"image": {"bytes": path.read_bytes(), "path": str(path)}} for path in few])
    explained = relc.ray.explain(
        dataset,
        artifact.read_bytes(),
        target="top2",
        workers=1,
        bytes_column="image",
        preprocess=str(DEMO / "preprocess.toml"),
    )
    got = pa.Table.from_pylist(explained.take_all(), schema=relc.ray.schema())
    expected = of_the_command(command, tmp_path, artifact, *few, "--target", "top2")
    assert len(got) == 20
    assert rows(got) == rows(expected)


def test_the_command_line_writes_the_same(tmp_path, command, artifact, pictures):
    """Of pictures, and of Parquet that holds them."""
    few = sorted(pictures.glob("*.png"))[245:255]
    table = {"path": [str(path) for path in few], "bytes": [path.read_bytes() for path in few]}
    pq.write_table(pa.table(table), tmp_path / "pictures.parquet")
    expected = of_the_command(command, tmp_path, artifact, *few)
    for number, inputs in enumerate((few, [tmp_path / "pictures.parquet"])):
        out = tmp_path / f"rows{number}"
        arguments = [artifact, *inputs, "-o", out, "--workers", "1", "--preprocess", DEMO / "preprocess.toml"]
        done = subprocess.run([sys.executable, "-m", "relc.ray", *arguments], capture_output=True, text=True)
        assert done.returncode == 1, done.stderr  # one is no picture
        assert "10 rows, 1 of them inputs that could not be explained" in done.stdout
        assert rows(pq.read_table(out)) == rows(expected)


def test_the_command_line_says_what_is_wrong(tmp_path, artifact, pictures):
    def fails(*arguments, code=1):
        done = subprocess.run([sys.executable, "-m", "relc.ray", *arguments], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stderr

    out = tmp_path / "rows"
    assert "no/such.relc" in fails("no/such.relc", pictures, "-o", out)
    (tmp_path / "empty").mkdir()
    assert "got folders without pictures" in fails(artifact, tmp_path / "empty", "-o", out)
    assert "is not empty" in fails(artifact, pictures, "-o", pictures)
    assert "unrecognized arguments" in fails(artifact, pictures, "-o", out, "--no-such", code=2)
    assert not out.exists()
