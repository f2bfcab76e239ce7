"""Numbers of a training by epoch, as TensorBoard's event files; they lie in the lake, which may be an object store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ganrec_spark.lake.files import mirrored
from ganrec_spark.training.worker import Worker

Show = Callable[[int, dict[str, float]], None]


@contextmanager
def scalars(worker: Worker, folder: str | None) -> Iterator[Show]:
    """Give a function of epoch and values that shows worker 0's in `folder`, a path or URI, or nowhere."""
    if folder is None or worker.index > 0:
        yield lambda epoch, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with mirrored(folder) as mirror, SummaryWriter(mirror.local) as writer:

        def show(epoch: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()
            mirror.copy()

        yield show
