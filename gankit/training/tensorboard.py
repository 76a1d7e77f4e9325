"""A run's log for TensorBoard: the figures of its tables and its pictures, by step.

    python sgan_mnist.py --tensorboard
    tensorboard --logdir runs

The event files lie in `tensorboard/` in the run's folder. They are written with
TensorFlow; TensorBoard is only needed to look at them.
"""

import contextlib
import io

from gankit.backend import Image, tf
from gankit.folders import write_atomically
from gankit.pictures import encode_figure

FOLDER = "tensorboard"
EVENT_FILES = "events.out.tfevents.*"
QUEUE, FLUSH_MS = 1000, 10_000


class EventLog:
    """Writes a run's event files; a context manager that closes them.

    folder: the run's; columns: the names of a step's figures; evaluations: those of
    an evaluation's.
    """

    def __init__(self, folder, columns, evaluations):
        self._folder = folder / FOLDER
        self._step_tags = [f"step/{name}" for name in columns]
        self._evaluation_tags = [f"evaluation/{name}" for name in evaluations]
        self._writer = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._writer is not None:
            with as_os_error():
                self._writer.close()

    def begin(self, records):
        """Open the log of a run that has made some steps, as its Records tell.

        What the log has of later steps is removed, and what it lacks of these figures
        is added: it was then written by a process that was killed, or by none.
        """
        self._folder.mkdir(exist_ok=True)
        known = keep_steps(self._folder, len(records.history))
        self._writer = tf.summary.create_file_writer(
            str(self._folder), max_queue=QUEUE, flush_millis=FLUSH_MS
        )
        self.add_steps(
            (step, figures)
            for step, figures in enumerate(records.history, 1)
            if (step, self._step_tags[0]) not in known
        )
        for row in records.accuracy:
            self._add_figures(row, known)

    def add_steps(self, rows):
        """Add the figures of steps: pairs of step and figures, as columns name them."""
        for step, figures in rows:
            self._write(step, zip(self._step_tags, figures, strict=True))

    def add_evaluation(self, row, pictures):
        """Add an evaluation; row: as in Records; pictures: {tag: PNG or figure}."""
        self._add_figures(row)
        for tag, picture in pictures.items():
            png = picture if isinstance(picture, bytes) else encode_figure(picture, 100)
            self._write(row[1], images=[(tag, png)])
        with as_os_error():
            self._writer.flush()

    def _add_figures(self, row, known=()):
        _, step, *figures, _ = row
        scalars = [
            (tag, value)
            for tag, value in zip(self._evaluation_tags, figures, strict=True)
            if value is not None and (step, tag) not in known
        ]
        self._write(step, scalars)

    def _write(self, step, scalars=(), images=()):
        """Write scalars, pairs (tag, number), and images, (tag, PNG), as one event."""
        Summary = tf.compat.v1.Summary
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars]
        for tag, png in images:
            with Image.open(io.BytesIO(png)) as image:
                width, height = image.size
            picture = Summary.Image(
                width=width, height=height, colorspace=3, encoded_image_string=png
            )
            values.append(Summary.Value(tag=tag, image=picture))
        if values:
            content = Summary(value=values).SerializeToString()
            with as_os_error(), self._writer.as_default():
                tf.summary.experimental.write_raw_pb(content, step=step)


@contextlib.contextmanager
def as_os_error():
    """Turn what TensorFlow raises where a file can't be written into an OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def has_log(out):
    """Tell whether the run in this folder keeps a log for TensorBoard."""
    return (out / FOLDER).is_dir()


def read_events(folder):
    """Yield (event, its bytes) of the event files in a folder, the oldest file first.

    A file that was cut short or damaged is read as far as it is whole.
    """
    for path in sorted(folder.glob(EVENT_FILES)):
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                yield tf.compat.v1.Event.FromString(record), record
        except tf.errors.DataLossError:
            continue


def keep_steps(folder, last_step):
    """Put the events up to last_step into one file; return their (step, tag) pairs."""
    old, known, records = sorted(folder.glob(EVENT_FILES)), set(), []
    for event, record in read_events(folder):
        pairs = {(event.step, value.tag) for value in event.summary.value}
        # twice, where a process was killed before it removed the files below
        if event.HasField("summary") and pairs <= known:
            continue
        if event.step <= last_step:
            known |= pairs
            records.append(record)
    if old:
        with (
            write_atomically(old[0]) as path,
            tf.io.TFRecordWriter(str(path)) as writer,
        ):
            for record in records:
                writer.write(record)
        for path in old[1:]:
            path.unlink()
    return known
