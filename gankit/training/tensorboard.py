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
from gankit.models.classify import class_probabilities
from gankit.pictures import count_confusions, draw_confusions
from gankit.training.records import ACCURACY

FOLDER = "tensorboard"
EVENT_FILES = "events.out.tfevents.*"
QUEUE, FLUSH_MS = 1000, 10_000


class EventLog:
    """Writes a run's event files; a context manager that closes them.

    classifier: the model that the run measures; test_dataset: [X, y], whose
    confusions are drawn whenever there is a sheet of samples, or None. n_classes,
    class_names: the classes, the names a list of str or None.
    """

    def __init__(self, classifier, test_dataset, n_classes, class_names=None):
        self._classifier, self._test_dataset = classifier, test_dataset
        self._n_classes, self._class_names = n_classes, class_names
        self._writer = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._writer is not None:
            with as_os_error():
                self._writer.close()

    def begin(self, out, columns, history, accuracy):
        """Open the log of the run in the folder `out`, which has made some steps.

        columns: those of history.csv; history: the figures of the steps made;
        accuracy: rows of accuracy.csv. What the log has of later steps is removed,
        and what it lacks of these figures is added: it was then written by a process
        that was killed, or by none.
        """
        self._out, self._columns = out, columns
        folder = out / FOLDER
        folder.mkdir(exist_ok=True)
        known = keep_steps(folder, len(history))
        self._writer = tf.summary.create_file_writer(
            str(folder), max_queue=QUEUE, flush_millis=FLUSH_MS
        )
        tags = self._step_tags()
        self.add_steps(
            (step, figures)
            for step, figures in enumerate(history, 1)
            if (step, tags[0]) not in known
        )
        for row in accuracy:
            self._add_accuracies(row, known)

    def add_steps(self, rows):
        """Add the figures of steps: pairs of step and figures, as columns name them."""
        for step, figures in rows:
            self._write(step, zip(self._step_tags(), figures, strict=True))

    def add_evaluation(self, row):
        """Add a row of accuracy.csv, and the sheet and the confusions of its step."""
        self._add_accuracies(row)
        step = int(row[ACCURACY.index("step")])
        sheet = self._out / f"generated_plot_{step:04d}.png"
        if sheet.exists():
            self._write(step, images=[("samples", sheet.read_bytes())])
            if self._test_dataset is not None:
                self._write(step, images=[("confusions", self._draw_confusions())])
        with as_os_error():
            self._writer.flush()

    def _step_tags(self):
        return [f"step/{name}" for name in self._columns[1:]]

    def _add_accuracies(self, row, known=()):
        named = dict(zip(ACCURACY, row, strict=True))
        step = int(named["step"])
        scalars = [
            (f"evaluation/{name}", float(named[name]))
            for name in ("train_accuracy", "test_accuracy", "labelled_error")
            if named[name] and (step, f"evaluation/{name}") not in known
        ]
        self._write(step, scalars)

    def _draw_confusions(self):
        X, y = self._test_dataset
        n_classes = self._n_classes
        probabilities = class_probabilities(self._classifier, X, n_classes=n_classes)
        confusion = count_confusions(y, probabilities.argmax(axis=-1), n_classes)
        fig = draw_confusions(confusion, self._class_names)
        file = io.BytesIO()
        fig.savefig(file, format="png", dpi=100)
        return file.getvalue()

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
