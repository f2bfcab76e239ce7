"""The command that takes what people do as it happens: stream."""

import argparse
import signal
from types import FrameType

from ganrec_spark.cli.console import clear
from ganrec_spark.cli.options import common, load


class Ending:
    """Whether somebody asked the process to end: its first SIGTERM or SIGINT; the second one ends it at once."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Whether it is so."""
        return self._asked

    def listen(self, number: int) -> None:
        """Take a signal for the wish to end after the batch."""
        before = signal.getsignal(number)

        def ask(number: int, _: FrameType | None) -> None:
            self._asked = True
            signal.signal(number, before)

        signal.signal(number, ask)


def stream_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the stream job."""
    common(parser)
    parser.add_argument("source", metavar="SOURCE", help="a folder that files come into, or kafka://HOST:PORT/TOPIC")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="after each batch make its users' published lists anew (see refresh)",
    )


def stream(arguments: argparse.Namespace) -> int:
    """Append events as they come, a line a batch, until SIGTERM; the batch that is under way is finished first."""
    ending = Ending()
    ending.listen(signal.SIGTERM)
    from ganrec_spark.feedback.folder import Folder
    from ganrec_spark.feedback.kafka import SCHEME, Kafka, with_kafka
    from ganrec_spark.feedback.stream import EventSource, Step, Streaming
    from ganrec_spark.refresh.refresh import after_batch, require_ratings
    from ganrec_spark.spark.session import build_session

    config, source = load(arguments), arguments.source
    then: tuple[Step, ...] = ()  # what is done after each batch
    if arguments.refresh:
        require_ratings(config)
        then = (after_batch,)
    is_kafka = source.startswith(SCHEME)
    opened: EventSource = Kafka.at(source, config) if is_kafka else Folder.at(source)
    spark = build_session(with_kafka(config) if is_kafka else config, "ganrec stream")
    ending.listen(signal.SIGINT)  # after Spark, which has a handler of its own
    running = Streaming(config, opened, then, ending)
    try:
        running.run(spark)
    finally:
        spark.stop()
    clear()
    print(f"ended after {running.batches} batches: {running.taken.in_words()}")
    return 0
