"""Load a saved generator, draw samples, and walk through its latent space.

    python load_generator.py                     # the newest run's newest generator
    python load_generator.py runs/FOLDER/g_model_12000.keras --seed 1
    python load_generator.py --n 400 --walk 12   # more samples, a longer walk

A new folder gets samples.png, a sheet; walk.gif, the pictures on a way from one latent
point to the next and back to the first; and, where the classifier of the same step lies
beside the generator, samples.csv, what it says of each sample.

A model file is read as data: before anything is built, its layers are compared with
those that the generators of this collection use, and any other is refused.
"""

import sys
from pathlib import Path

import numpy as np

from gankit.backend import Image
from gankit.command import InputError, OneLineParser, printable, run_script
from gankit.folders import dated_folder, new_folder
from gankit.models.classify import class_probabilities, count_classes
from gankit.models.files import (
    load_checked,
    newest_model,
    read_class_names,
    read_config,
)
from gankit.models.untrusted import check_classes, check_layers
from gankit.pictures import save_frames, save_sheet, to_pixels
from gankit.training.records import write_rows
from gankit.training.run import draw_seed
from gankit.training.settings import check_options
from helpers import generate_latent_points
from load_classifier import check_names, load_classifier

# the classes that a generator's configuration may name, and their modules; the quick
# convolution of fast_conv.py is saved as a plain one
ALLOWED = {
    "Functional": "keras.src.models.functional",
    "InputLayer": "keras.layers",
    "Dense": "keras.layers",
    "LeakyReLU": "keras.layers",
    "Reshape": "keras.layers",
    "Conv2DTranspose": "keras.layers",
    "Conv2D": "keras.layers",
    "BatchNormalization": "keras.layers",
    "Activation": "keras.layers",
    "GlorotUniform": "keras.initializers",
    "Zeros": "keras.initializers",
    "Ones": "keras.initializers",
    "DTypePolicy": "keras",
    "__keras_tensor__": None,
}
# samples.csv
COLUMNS = ("sample", "row", "column", "class", "probability")
FRAME_MS = 80


def newest_generator():
    """Return the newest run's newest generator."""
    return newest_model("generator")


def load_generator(path):
    """Load a generator saved by this collection; no code from the file is run.

    path: a .keras or .h5 file. Returns the Keras model, not compiled:
    (n, latent_dim) -> images (n, h, w, c) in [-1, 1], c being 1 or 3. Raises
    InputError for a file that is missing, broken, or holds anything else.
    """
    path = Path(path)
    config = read_config(path, "generator")
    check_input_shape(path, config)
    check_classes(path, config, ALLOWED, "generator")
    check_layers(path, config)
    model = load_checked(path)
    shape = model.output_shape
    if len(shape) != 4 or shape[-1] not in (1, 3) or None in shape[1:]:
        raise InputError(
            f"{path}: its output has shape {shape}, which is no batch of images; "
            "give a g_model saved by sgan_mnist.py"
        )
    return model


def check_input_shape(path, config):
    """Raise InputError unless the model takes one batch of latent points."""
    remedy = "give a g_model saved by sgan_mnist.py"
    try:
        (shape,) = (
            layer["config"]["batch_shape"][1:]
            for layer in config["config"]["layers"]
            if layer["class_name"] == "InputLayer"
        )
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not say what it takes; {remedy}") from error
    if len(shape) == 3:
        raise InputError(
            f"{path}: takes images, {tuple(shape)}, so it is a classifier or a "
            "discriminator; give the g_model beside it"
        )
    if len(shape) != 1 or not isinstance(shape[0], int):
        raise InputError(
            f"{path}: takes inputs of shape {tuple(shape)}, not latent points; {remedy}"
        )


def classifier_beside(path):
    """Return the path of the classifier of the generator's step, None without one."""
    path = Path(path)
    beside = path.with_name(path.name.replace("g_model", "c_model", 1))
    return beside if beside != path and beside.is_file() else None


def load_named_classifier(path):
    """Return the classifier in a file and the names of its classes, a list of str."""
    c_model, names = load_classifier(path), read_class_names(path)
    check_names(path, c_model, names)
    return c_model, names or [*map(str, range(count_classes(c_model)))]


def load_matching_classifier(path, g_model):
    """Return what load_named_classifier does.

    Raises InputError where the classifier takes other images than g_model makes.
    """
    c_model, names = load_named_classifier(path)
    if c_model.input_shape != g_model.output_shape:
        raise InputError(
            f"{path}: takes images of shape {c_model.input_shape[1:]}, the generator "
            f"makes {g_model.output_shape[1:]}; give the classifier of the same run"
        )
    return c_model, names


def generate(g_model, points):
    """Return images, float32 (n, h, w, c) in [-1, 1], of points (n, latent_dim)."""
    parts = [
        g_model.predict_on_batch(points[first : first + 500])
        for first in range(0, len(points), 500)
    ]
    return np.concatenate(parts, dtype=np.float32)


def walk_between(points, n_frames):
    """Return n_frames points on the way through all points and back to the first.

    points: (k, d). Returns float32 (n_frames, d), evenly spaced in time, the first
    being points[0]. Between two points the way is spherical (White 2016): nearly all
    points that a generator is trained on have nearly the same length, and those on
    the straight line are shorter.
    """
    k = len(points)
    places = np.arange(n_frames) * k / n_frames
    first = places.astype(int)
    a, b = points[first], points[(first + 1) % k]
    t = (places - first)[:, np.newaxis]
    lengths = [np.linalg.norm(p, axis=1, keepdims=True) for p in (a, b)]
    cosine = np.sum(a * b, axis=1, keepdims=True) / np.maximum(
        np.prod(lengths, 0), 1e-9
    )
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    straight = sine < 1e-6
    sine = np.where(straight, 1, sine)
    from_a = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    from_b = np.where(straight, t, np.sin(t * angle) / sine)
    return np.float32(from_a * a + from_b * b)


def save_walk(images, path):
    """Save images (n, h, w, c) in [-1, 1] as an animation that never ends."""
    frames = [Image.fromarray(pixels) for pixels in to_pixels(images)]
    frames = [frame.resize((6 * frame.width, 6 * frame.height)) for frame in frames]
    save_frames(frames, path, FRAME_MS)


def judge(c_model, class_names, images, path):
    """Print what the classifier says of the images, and write it to a CSV file.

    The file has a row a sample, in the order of the sheet, row by row.
    """
    probabilities = class_probabilities(c_model, images, n_classes=len(class_names))
    predicted, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    names = [printable(name) for name in class_names]
    width = max(map(len, ("Class", *names)))
    print(f"{'Class':{width}}  Samples  Mean probability")
    for label, name in enumerate(names):
        of_class = highest[predicted == label]
        mean = f"{of_class.mean():16.3f}" if len(of_class) else f"{'-':>16}"
        print(f"{name:>{width}}  {len(of_class):7}  {mean}")
    print(f"{'all':>{width}}  {len(images):7}  {highest.mean():16.3f}")
    side = int(np.ceil(np.sqrt(len(images))))
    write_rows(
        path,
        [COLUMNS]
        + [
            (i, i // side, i % side, class_names[label], f"{probability:.6f}")
            for i, (label, probability) in enumerate(
                zip(predicted, highest, strict=True)
            )
        ],
    )


def check_numbers(args):
    """Raise InputError for a number that is out of its range."""
    for name, least in (("n", 1), ("walk", 2), ("frames", 1)):
        value = vars(args)[name]
        if not least <= value <= 10_000:
            raise InputError(f"--{name} {value}: must be from {least} to 10000")
    check_options({"seed": args.seed})


def run(args):
    check_numbers(args)
    path = args.model
    if path is None:
        path = newest_generator()
        print(f"Generator: {path}")
    g_model = load_generator(path)
    c_path = args.classifier or classifier_beside(path)
    c_model = None
    if c_path is not None:
        c_model, class_names = load_matching_classifier(c_path, g_model)
    out = new_folder(args.out or dated_folder("samples", "load_generator"))
    seed = args.seed
    if seed is None:
        seed = draw_seed()
        print(f"seed={seed}")

    # the walk is the same whatever the number of samples
    sample_rng, walk_rng = np.random.default_rng(seed).spawn(2)
    latent_dim = g_model.input_shape[1]
    images = generate(g_model, generate_latent_points(latent_dim, args.n, sample_rng))
    names = ["samples.png", "walk.gif"]
    save_sheet(images, out / names[0])
    points = generate_latent_points(latent_dim, args.walk, walk_rng)
    save_walk(generate(g_model, walk_between(points, args.frames)), out / names[1])
    if c_model is not None:
        print(f"Classifier: {c_path}")
        names.append("samples.csv")
        judge(c_model, class_names, images, out / names[2])
    print(f">Saved: {', '.join(names)} in {out}")


def main(argv=None):
    parser = OneLineParser(
        description="Load a saved generator, draw samples, and walk through its "
        "latent space."
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        help=".keras or .h5 file (default: the newest run's newest generator)",
    )
    add("--n", type=int, default=100, help="samples on the sheet (default: 100)")
    add(
        "--walk",
        type=int,
        metavar="POINTS",
        default=8,
        help="latent points that the walk goes through, 2 or more (default: 8)",
    )
    add("--frames", type=int, default=96, help="pictures of the walk (default: 96)")
    add("--seed", type=int, help="0 to 2147483647 (default: drawn and printed)")
    add(
        "--classifier",
        metavar="FILE",
        help="c_model that judges the samples (default: the one beside MODEL)",
    )
    add(
        "--out",
        metavar="DIR",
        help="new folder (default: samples/<date>-<time>-load_generator)",
    )
    args = parser.parse_args(argv)
    return run_script("load_generator.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
