"""The output folder: filled beside its place and renamed, so that it is whole or not there."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESULT = "result.json"


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `out` if the block ends without an error.

    Raises:
        ValueError: if `out` is a file, or holds something else than an earlier demo.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"output {out} is a file: give a folder with --out")
    if (
        out.is_dir()
        and any(out.iterdir())
        and not ((out / RESULT).is_file() and (out / "report.html").is_file())
    ):
        raise ValueError(f"output folder {out} holds other files: give an empty or a new folder with --out")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        inner = temporary / "new"
        inner.mkdir()
        yield inner
        if out.is_dir():
            out.rename(temporary / "old")
        inner.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
