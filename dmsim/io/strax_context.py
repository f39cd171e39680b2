"""The one place that needs strax installed: make a strax context find what dmsim wrote."""

from pathlib import Path
from typing import Any

from dmsim.io.strax_folders import FolderReader


def register(context: Any, *folders: Path | str) -> None:
    """Tell a strax context about folders that dmsim wrote.

    strax finds data by their lineage: a plugin's name, version and options. This registers, for each folder,
    a plugin with the lineage in the folder's metadata, which stands for the data and cannot make them.

    Args:
        context: a `strax.Context` with a `strax.DataDirectory` on the folder above.
        *folders: such as OUT/dmsim-raw_records-abcdefghij.

    Raises:
        ValueError: if a folder is not one that dmsim wrote.
    """
    import strax  # noqa: PLC0415 (an optional dependency)

    for folder in folders:
        reader = FolderReader(Path(folder))
        if "dmsim" not in reader.metadata:
            raise ValueError(f"{folder} was not written by dmsim: use the plugin that made it")
        name, version, options = reader.metadata["lineage"][reader.data_type]
        if options:
            raise ValueError(f"{folder} has a lineage with options, which dmsim does not write")
        plugin = type(
            name,
            (strax.Plugin,),
            {
                "__version__": version,
                "provides": (reader.data_type,),
                "data_kind": reader.metadata["data_kind"],
                "depends_on": (),
                "dtype": reader.dtype,
            },
        )
        context.register(plugin)
