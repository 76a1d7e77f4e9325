"""Data sets: MNIST, or images of one's own; how they are laid out, read and checked.

What can be named with --data:
- an .npz file with x_train and y_train, maybe x_test, y_test and class_names;
- a folder with IDX files, as MNIST and its relatives come;
- a folder with a sub-folder of images a class, maybe `unlabelled` (or `unlabeled`) with
  images of any class, and `test` with a sub-folder a class; in any case of letters;
- a folder of images alone, or of `unlabelled` alone, of which none has a label.
"""

from pathlib import Path

from gankit.backend import keras
from gankit.command import InputError
from gankit.data import idx, image_folder, npz
from gankit.data.arrays import check_data, check_image_size, warn_of_pixels

BUNDLED_DATA = Path(__file__).resolve().parents[2] / "data" / "mnist.npz"
# modules with recognises(path), for a Path that may be missing, and
# read(name, image_size), which returns Data; the first that recognises it reads it
READERS = (idx, image_folder, npz)


def load_arrays(data=None, image_size=None):
    """Read and check a data set; return it as Data.

    data: the path of one, see above; None for the bundled MNIST file or, without it,
    for keras.datasets.mnist (which downloads it).
    image_size: height and width that the images are resized to; None leaves them, but
    for sides that are no multiples of 4, which the generator needs: these images are
    resized to the nearest, and a line printed says so. Where all pixels are 0 or 1 a
    line on stderr says so.
    Raises InputError for what is missing, unreadable or of another layout.
    """
    check_image_size(data, image_size)
    if data is None and not BUNDLED_DATA.exists():
        return check_data("keras.datasets.mnist", *_download_arrays())
    name = str(BUNDLED_DATA if data is None else data)
    reader = next(reader for reader in READERS if reader.recognises(Path(name)))
    loaded = reader.read(name, image_size)
    warn_of_pixels(name, loaded.train[0])
    return loaded


def _download_arrays():
    try:
        train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception here
        raise InputError(
            f"keras.datasets.mnist: {error}; name a data file with --data FILE"
        ) from error
    return *train, *test, None
