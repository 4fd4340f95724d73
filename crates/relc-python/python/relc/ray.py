"""Explanations of a data set on a cluster, by Ray Data.

    python -m relc.ray model.relc photos -o rows --workers 8

writes a folder of Parquet with a row for each picture and target: the rows of ``relc explain model.relc photos --parquet
rows.parquet``. Needs ``ray[data]``; ``docs/python.md`` says more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from . import RelcError
from ._explain import Explainer, compile
from ._explanation import Explanation

__all__ = ["Worker", "explain", "main", "schema"]

#: What the command takes from a folder.
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def schema() -> Any:
    """The columns of the rows, a ``pyarrow.Schema``: those of ``relc explain --parquet``.

    ``error`` says why an input could not be explained; all other columns but ``input`` are null then. ``map`` is row-major,
    of the shape ``map_shape``.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("input", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("prediction", pa.int64()),
            pa.field("target", pa.int64()),
            pa.field("logit", pa.float64()),
            pa.field("seed_sum", pa.float64()),
            pa.field("relevance_sum", pa.float64()),
            pa.field("conservation_error", pa.float64()),
            pa.field("map_shape", pa.list_(pa.int64())),
            pa.field("map", pa.list_(pa.float32())),
            pa.field("warnings", pa.list_(pa.string())),
        ]
    )


class Worker:
    """Explains batches of a data set: an actor, which loads the model once.

    Parameters
    ----------
    model : str or bytes
        An artifact or an ONNX model: a path that every worker sees, or what is in the file.
    target : None, int or str
        As of ``relc.Explainer``; of text such as ``"top3"`` each output has a row.
    path_column, bytes_column : str
        The columns with the paths of inputs, and with what is in them, if the data set has that: bytes, or what Hugging
        Face makes of pictures, ``{"bytes": ..., "path": ...}``.
    threads : int
        How many threads a worker has.
    options : dict
        Further arguments of `relc.compile`.
    """

    def __init__(
        self,
        model: Union[str, bytes],
        target: Union[None, int, str] = None,
        path_column: str = "path",
        bytes_column: str = "bytes",
        threads: int = 1,
        options: Optional[Dict[str, Any]] = None,
    ) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # read when the first thread is wanted
        self.explainer: Explainer = compile(model, **{"ledger": False, **(options or {})})
        self.target = target
        self.path_column = path_column
        self.bytes_column = bytes_column

    def __call__(self, batch: Any) -> Any:
        """The rows of a batch of inputs, both as a ``pyarrow.Table``."""
        import pyarrow as pa

        with tempfile.TemporaryDirectory() as folder:
            inputs = list(_inputs(batch, self.path_column, self.bytes_column, folder))
            return pa.Table.from_pylist(self._rows(inputs), schema=schema())

    def _rows(self, inputs: Sequence[Tuple[str, str]]) -> List[Dict[str, Any]]:
        """The rows of ``(name, file)``: of all at once, or of each by itself if one fails."""
        try:
            result = self.explainer([file for _, file in inputs], self.target)
        except RelcError as error:
            if len(inputs) > 1:
                return [row for one in inputs for row in self._rows([one])]
            [(name, file)] = inputs
            text = str(error).replace(file, name).replace("\nbecause: ", "\n  because: ")
            return [{"input": name, "error": text if name in text else f"{name}: {text}"}]
        results = result if isinstance(result, list) else [result]
        names = [name for name, _ in inputs]
        samples = len(results[0])
        if samples != len(names):  # files of several samples
            if len(names) > 1:
                return [row for one in inputs for row in self._rows([one])]
            names = [f"{names[0]}[{sample}]" for sample in range(samples)]
        return [_row(name, explanation, sample) for sample, name in enumerate(names) for explanation in results]


def _inputs(batch: Any, path_column: str, bytes_column: str, folder: str) -> Iterator[Tuple[str, str]]:
    """The name of each input and its file, which is made of bytes if these are there."""
    columns = batch.column_names
    if path_column not in columns and bytes_column not in columns:
        raise RelcError(f'got a data set with the columns {columns}, expected "{path_column}" or "{bytes_column}"')
    for number, row in enumerate(batch.to_pylist()):
        name, data = row.get(path_column), row.get(bytes_column)
        if isinstance(data, dict):
            name, data = name or data.get("path"), data.get("bytes")
        if data is None:
            yield str(name), str(name)
            continue
        # Of what kind a file is says its ending, and where there is none, its content.
        file = os.path.join(folder, f"{number}{os.path.splitext(str(name or ''))[1] or '.png'}")
        with open(file, "wb") as out:
            out.write(data)
        yield str(name) if name is not None else f"row {number}", file


def _row(name: str, explanation: Explanation, sample: int) -> Dict[str, Any]:
    report = explanation._reports[sample]
    sums = report.get("sums", {})
    the_map = None if explanation.map is None else explanation.map[sample]
    return {
        "input": name,
        "error": None,
        "prediction": int(explanation.logits[sample].argmax()),
        "target": report["target"]["index"],
        "logit": report["target"]["logit"],
        "seed_sum": sums.get("seed"),
        "relevance_sum": sums.get("relevance"),
        "conservation_error": sums.get("conservation_error"),
        "map_shape": None if the_map is None else list(the_map.shape),
        "map": None if the_map is None else the_map.ravel(),
        "warnings": report.get("warnings", []),
    }


def explain(
    dataset: Any,
    model: Union[str, "os.PathLike[str]", bytes],
    *,
    target: Union[None, int, str] = None,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 16,
    path_column: str = "path",
    bytes_column: str = "bytes",
    worker: type = Worker,
    **options: Any,
) -> Any:
    """The explanations of a data set.

    Parameters
    ----------
    dataset : ray.data.Dataset
        With a column of paths that every worker sees, or of what is in the files: ``ray.data.read_binary_files(folder,
        include_paths=True)``, ``ray.data.read_parquet(folder)``.
    model : str, path-like or bytes
        An artifact (``relc compile``), which every worker loads at once, or an ONNX model, which each compiles.
    target, path_column, bytes_column, threads
        As of `Worker`.
    workers : int
        How many processes explain; each asks Ray for as many CPUs as it has threads.
    batch_size : int
        Inputs that a worker takes at a time.
    worker : type
        `Worker`, or a class that extends it.
    **options
        As of `relc.compile`: ``preset``, ``preprocess`` and others.

    Returns
    -------
    ray.data.Dataset
        A row for each input and target, with the columns of `schema`. A worker that dies is started again, and its inputs
        are explained again: nothing is lost, and nothing is there twice.
    """
    if not isinstance(model, bytes):
        model = os.path.abspath(os.fspath(model))
    return dataset.map_batches(
        worker,
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        concurrency=workers,
        num_cpus=threads,
        fn_constructor_kwargs={
            "model": model,
            "target": target,
            "path_column": path_column,
            "bytes_column": bytes_column,
            "threads": threads,
            "options": options,
        },
    )


def _pictures(paths: Sequence[str]) -> List[str]:
    """The files that are named, and the pictures of folders, as the command takes them."""
    files = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(_PICTURES) and name[0] != ".")
        files.extend(os.path.join(path, name) for name in names)
    if not files:
        raise RelcError(f"{', '.join(paths)}: got folders without pictures ({', '.join(_PICTURES)})")
    return files


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """``python -m relc.ray``; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m relc.ray",
        description="Explains pictures on a Ray cluster, and writes a folder of Parquet: the rows of relc explain --parquet.",
    )
    parser.add_argument("model", help="an artifact (relc compile MODEL -o FILE) or an ONNX model, which every worker sees")
    parser.add_argument(
        "inputs", nargs="+", help="pictures and folders of them; or Parquet (files, folders of them) with bytes in a column"
    )
    parser.add_argument("-o", "--out", required=True, help="the folder to write, which must be new or empty")
    parser.add_argument("--target", help="as of relc explain: argmax, 281, top3, 3,5,7")
    parser.add_argument("--preset", help="of a model; an artifact has its own")
    parser.add_argument("--preprocess", default="imagenet", help="as of relc explain (default: imagenet)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--threads", type=int, default=1, help="of each of them (default: 1)")
    parser.add_argument("--batch", type=int, default=16, help="pictures that a worker takes at a time (default: 16)")
    parser.add_argument("--path-column", default="path", help="of Parquet: names (default: path)")
    parser.add_argument("--bytes-column", default="bytes", help="of Parquet: pictures (default: bytes)")
    parser.add_argument("--address", help="of the cluster (default: RAY_ADDRESS, or this machine)")
    args = parser.parse_args(arguments)
    try:
        import pyarrow.compute
        import pyarrow.dataset
        import ray
    except ImportError as error:
        print(f'error: {error}; pip install "ray[data]"', file=sys.stderr)
        return 2
    if os.path.isdir(args.out) and os.listdir(args.out):
        print(f"error: {args.out} is not empty: name a new folder", file=sys.stderr)
        return 1
    preprocess = args.preprocess
    if preprocess.endswith(".toml"):
        preprocess = os.path.abspath(preprocess)
    target: Union[None, int, str] = args.target
    if isinstance(target, str) and target.isdigit():
        target = int(target)
    inputs = [os.path.abspath(path) for path in args.inputs]
    of_parquet = [path for path in inputs if _is_parquet(path)]
    try:
        if of_parquet and len(of_parquet) < len(inputs):
            raise RelcError("got both Parquet and pictures, expected one of the two")
        files = [] if of_parquet else _pictures(inputs)
        # A mistake in the model or the options fails here, once, and not in every worker.
        compile(args.model, args.preset, preprocess=preprocess, ledger=False)
    except RelcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ray.init(address=args.address, logging_level="WARNING")
    if of_parquet:
        dataset = ray.data.read_parquet(inputs)
    else:
        blocks = max(1, min(len(files) // args.batch, 4 * args.workers))
        dataset = ray.data.from_items([{"path": file} for file in files], override_num_blocks=blocks)
    rows = explain(
        dataset,
        args.model,
        target=target,
        workers=args.workers,
        threads=args.threads,
        batch_size=args.batch,
        path_column=args.path_column,
        bytes_column=args.bytes_column,
        preset=args.preset,
        preprocess=preprocess,
    )
    rows.write_parquet(os.path.abspath(args.out))
    written = pyarrow.dataset.dataset(args.out)
    failed = pyarrow.compute.field("error").is_valid()
    errors = written.to_table(["error"], filter=failed).column("error").to_pylist()
    for error in errors[:10]:
        print(f"error: {error}", file=sys.stderr)
    print(f"{args.out}: {written.count_rows()} rows, {len(errors)} of them inputs that could not be explained")
    return 1 if errors else 0


def _is_parquet(path: str) -> bool:
    """Whether a path is a file of Parquet, or a folder with some."""
    names = os.listdir(path) if os.path.isdir(path) else [path]
    return any(name.lower().endswith(".parquet") for name in names)


if __name__ == "__main__":
    sys.exit(main())
