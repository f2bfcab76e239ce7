"""Training checkpoints as files, local or by URI, written so that a crash leaves the last whole one."""

from pyarrow import fs

from ganrec_spark.models.generator_training import Checkpoints


def file_checkpoints(folder: str, name: str) -> Checkpoints:
    """Return Checkpoints kept in one file of `folder`, an absolute path or a URI that pyarrow knows.

    Where workers share no disk, a resumed worker 0 on another machine finds nothing and starts anew.
    """

    def load() -> bytes | None:
        system, path = fs.FileSystem.from_uri(folder)
        file = f"{path}/{name}"
        if system.get_file_info(file).type != fs.FileType.File:
            return None
        with system.open_input_stream(file) as stream:
            return bytes(stream.read())

    def save(content: bytes) -> None:
        system, path = fs.FileSystem.from_uri(folder)
        system.create_dir(path, recursive=True)
        # Written aside and renamed: a reader never meets half a file.
        with system.open_output_stream(f"{path}/{name}.partial") as stream:
            stream.write(content)
        system.move(f"{path}/{name}.partial", f"{path}/{name}")

    return Checkpoints(load, save)


def delete_checkpoints(folder: str) -> None:
    """Delete the folder, once what it served is in the lake."""
    system, path = fs.FileSystem.from_uri(folder)
    if system.get_file_info(path).type == fs.FileType.Directory:
        system.delete_dir(path)
