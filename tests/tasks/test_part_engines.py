"""Ray and Dask themselves: `map_parts` and `Apply` on their workers, of which one is killed.

Neither belongs to the development environment; an environment with ``isthmus[ray,dask]`` runs these tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import isthmus
from isthmus import Apply, DataError, ModelFileError, ProcessError, map_parts

N_ROWS, N_PARTS = 120, 6
rng = np.random.default_rng(0)
TABLE = pa.table(
    {
        "id": pa.array(np.arange(N_ROWS) + 2**53),
        "amount": rng.normal(50, 10, N_ROWS),
        "country": rng.choice(["Chile", "Peru"], N_ROWS),
    }
)
FEATURES = TABLE.drop_columns(["id"])
# what the engines' own modules do; what isthmus warns of is checked by other tests
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "d.safetensors"
    isthmus.AnomalyDetector(max_steps=20, random_state=0).fit(FEATURES).save(path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parts, the last without rows."""
    folder = tmp_path_factory.mktemp("engines") / "table"
    folder.mkdir()
    size = N_ROWS // (N_PARTS - 1)
    for place in range(N_PARTS):
        parquet.write_table(TABLE.slice(place * size, size), folder / f"part-{place}.parquet")
    return folder


@pytest.fixture(scope="module")
def ray_here() -> Iterator[str]:
    """Ray on this machine with two workers."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield "ray"
    ray.shutdown()


@pytest.fixture(scope="module")
def dask_here() -> Iterator[str]:
    """Dask on this machine with two workers."""
    distributed = pytest.importorskip("distributed")
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster):
        yield "dask"


@pytest.fixture(params=["ray", "dask"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(f"{request.param}_here")
    return name


def scoring(model: Path) -> Apply:
    return Apply(model, "score_samples", keep=["id"])


def check_scores(done: isthmus.MappedParts, model: Path) -> None:
    found = pa.concat_tables([parquet.read_table(file) for file in done.files])
    assert found["id"].to_pylist() == TABLE["id"].to_pylist()
    wanted = isthmus.load(model).score_samples(FEATURES)
    np.testing.assert_allclose(found["score_samples"].to_numpy(), wanted, rtol=1e-12)


def test_an_engine_writes_what_one_process_writes(engine: str, model: Path, table: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    done = map_parts(scoring(model), table, tmp_path / "out", engine=engine, progress=lambda n, _: seen.append(n))
    check_scores(done, model)
    assert (done.n_rows, done.n_skipped, seen) == (N_ROWS, 0, [1, 2, 3, 4, 5, 6])
    done.files[2].unlink()
    again = map_parts(scoring(model), table, tmp_path / "out", engine=engine, resume=True)
    assert again.n_skipped == N_PARTS - 1
    check_scores(again, model)
    # complete for one engine is complete for all
    assert map_parts(scoring(model), table, tmp_path / "out", resume=True).n_skipped == N_PARTS


@dataclass(frozen=True)
class Deadly:
    """Kills its process on the part with a certain id, the first time or every time."""

    path: str
    marker: str
    every_time: bool = False

    def __call__(self, part: pa.Table) -> pa.Table:
        fatal = 2**53 + 50 in part["id"].to_pylist()
        if fatal and (self.every_time or not Path(self.marker).exists()):
            with Path(self.marker).open("a") as marker:
                marker.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return Apply(self.path, "score_samples", keep=["id"])(part)


def test_a_killed_worker_loses_nothing(engine: str, model: Path, table: Path, tmp_path: Path) -> None:
    marker = tmp_path / "killed"
    done = map_parts(Deadly(str(model), str(marker)), table, tmp_path / "out", engine=engine)
    check_scores(done, model)
    assert len(marker.read_text().split()) == 1
    left = {file.name for file in (tmp_path / "out").iterdir()}
    assert left == {file.name for file in done.files}  # what the killed one had begun was swept


def test_a_bad_part_is_one_error_of_the_library(engine: str, model: Path, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    for file in table.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damaged = bytearray((folder / "part-1.parquet").read_bytes())
    damaged[4:200] = bytes(196)
    (folder / "part-1.parquet").write_bytes(damaged)
    with pytest.raises(DataError, match=r"^'.*part-1\.parquet' cannot be read as Parquet"):
        map_parts(scoring(model), folder, tmp_path / "out", engine=engine)
    for file in (tmp_path / "out").glob("part-*.parquet"):  # other workers may still be at theirs
        assert parquet.read_metadata(file).num_rows == parquet.read_metadata(folder / file.name).num_rows
    assert not (tmp_path / "out" / "part-1.parquet").exists()


@dataclass(frozen=True)
class Elsewhere:
    """A model file that is there for the program but not for its workers."""

    path: str
    driver: int

    def __getstate__(self) -> dict[str, Any]:
        return {"path": f"{self.path}.absent", "driver": self.driver}

    def __call__(self, part: pa.Table) -> pa.Table:
        return part


def test_a_model_that_a_worker_does_not_have_is_told(engine: str, model: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"There is no model file at '.*\.absent'"):
        map_parts(Elsewhere(str(model), os.getpid()), table, tmp_path / "out", engine=engine)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_engine_gives_up_on_a_part_that_kills_every_worker(
    engine: str, model: Path, table: Path, tmp_path: Path
) -> None:
    deadly = Deadly(str(model), str(tmp_path / "killed"), every_time=True)
    with pytest.raises(ProcessError, match=r"(Dask|Ray) gave up \(.*"):
        map_parts(deadly, table, tmp_path / "out", engine=engine)
    assert len((tmp_path / "killed").read_text().split()) == 4
    assert not (tmp_path / "out" / "part-2.parquet").exists()


@pytest.mark.parametrize("batch_format", ["pandas", "pyarrow", "numpy"])
def test_ray_data_maps_batches_with_apply(ray_here: str, model: Path, table: Path, batch_format: str) -> None:
    import ray  # noqa: PLC0415  # optional

    dataset = ray.data.read_parquet(str(table)).map_batches(scoring(model), batch_format=batch_format)
    found = dataset.to_pandas().sort_values("id")
    assert found["id"].tolist() == TABLE["id"].to_pylist()
    np.testing.assert_allclose(found["score_samples"], isthmus.load(model).score_samples(FEATURES), rtol=1e-12)


def test_dask_maps_partitions_with_apply(dask_here: str, model: Path, table: Path) -> None:
    dataframe = pytest.importorskip("dask.dataframe")
    score = scoring(model)
    frame = dataframe.read_parquet(table).map_partitions(score, meta=score(TABLE.to_pandas().head(0)))
    found: pd.DataFrame = frame.compute().sort_values("id")
    assert found["id"].tolist() == TABLE["id"].to_pylist()
    np.testing.assert_allclose(found["score_samples"], isthmus.load(model).score_samples(FEATURES), rtol=1e-12)


def test_spark_maps_batches_with_apply(model: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    score = scoring(model)
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        parts = spark.read.parquet(str(table))
        schema = "id long, score_samples double"
        found = parts.mapInPandas(lambda batches: map(score, batches), schema=schema).toPandas().sort_values("id")
    finally:
        spark.stop()
    assert found["id"].tolist() == TABLE["id"].to_pylist()
    np.testing.assert_allclose(found["score_samples"], isthmus.load(model).score_samples(FEATURES), rtol=1e-12)


def commanded(model: Path, table: Path, out: Path, *words: str) -> str:
    """What `isthmus detect score` prints in a process of its own."""
    asked = ["detect", "score", str(model), str(table), "--keep", "id", "--out", str(out), *words]
    command = [sys.executable, "-c", "from isthmus.cli import main; main()", *asked]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(list(out.iterdir())) == N_PARTS
    return ended.stdout


def test_the_command_line_joins_a_cluster(engine: str, model: Path, table: Path, tmp_path: Path) -> None:
    if engine == "ray":
        import ray  # noqa: PLC0415  # optional

        address = ray.get_runtime_context().gcs_address
    else:
        import distributed  # noqa: PLC0415  # optional

        address = distributed.get_client().scheduler.address
    words = ("--engine", engine, "--address", address)
    assert f" anomalies in {N_PARTS} parts: " in commanded(model, table, tmp_path / "out", *words)
    # the cluster goes on
    assert map_parts(scoring(model), table, tmp_path / "again", engine=engine).n_rows == N_ROWS


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_the_command_line_starts_an_engine_and_ends_it(name: str, model: Path, table: Path, tmp_path: Path) -> None:
    pytest.importorskip({"ray": "ray", "dask": "distributed"}[name])
    assert f" anomalies in {N_PARTS} parts: " in commanded(model, table, tmp_path / "out", "--engine", name)


WORKERS = """
import os
from isthmus.tasks.parts.engines.dask_futures import _client
if __name__ == "__main__":
    with _client(None) as client:
        print(set(client.run(os.getenv, "MALLOC_TRIM_THRESHOLD_").values()))
"""


def test_own_workers_of_dask_keep_freed_memory(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    calm = {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, env=calm, capture_output=True, text=True, timeout=200, check=False)
    assert ended.stdout == "{None}\n", ended.stderr
