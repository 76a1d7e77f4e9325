"""Load a saved generator, draw samples, and walk through its latent space.

    python load_generator.py                     # the newest run's newest generator
    python load_generator.py runs/FOLDER --seed 1
    python load_generator.py --n 400 --walk 12   # more samples, a longer walk

A new folder gets samples.png, a sheet; walk.gif, the pictures on a way from one latent
point to the next and back to the first; and, where the classifier of the same step lies
beside the generator, samples.csv, what it says of each sample.

A model file is read as data: before anything is built, its layers are compared with
those that the generators of this collection use, and any other is refused. The
tutorial's own files, saved by Keras 2 as .h5, are read too.
"""

import sys
from pathlib import Path

import numpy as np

from gankit.backend import Image
from gankit.command import InputError, OneLineParser, printable, run_script
from gankit.folders import claimed, dated_folder
from gankit.models.classify import class_probabilities
from gankit.models.files import find_model, load_generator, load_named_classifier
from gankit.models.generate import generate, walk_between
from gankit.pictures import save_frames, save_sheet, to_pixels
from gankit.training.records import write_rows
from gankit.training.run import draw_seed
from gankit.training.settings import TrainingSettings
from helpers import generate_latent_points

# samples.csv
COLUMNS = ("sample", "row", "column", "class", "probability")
FRAME_MS = 80
# small pictures are enlarged, as far as this many pixels allow
LARGEST_FRAME = 600


def classifier_beside(path):
    """Return the path of the classifier of the generator's step, None without one."""
    path = Path(path)
    beside = path.with_name(path.name.replace("g_model", "c_model", 1))
    return beside if beside != path and beside.is_file() else None


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


def save_walk(images, path):
    """Save images (n, h, w, c) in [-1, 1] as an animation that never ends."""
    n, height, width, _ = images.shape
    times = max(1, min(6, LARGEST_FRAME // max(height, width)))
    frames = (
        Image.fromarray(pixels).resize((times * width, times * height))
        for pixels in to_pixels(images)
    )
    save_frames(frames, path, FRAME_MS, n)


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
    TrainingSettings(seed=args.seed)  # checks it


def run(args):
    check_numbers(args)
    path = find_model(args.model, "generator")
    c_path = classifier_beside(path)
    if args.classifier is not None:
        c_path = find_model(args.classifier, "classifier")
    if path != Path(args.model or ""):
        print(f"Generator: {path}")
    g_model = load_generator(path)
    c_model = None
    if c_path is not None:
        c_model, class_names = load_matching_classifier(c_path, g_model)
    with claimed(args.out or dated_folder("samples", "load_generator")) as out:
        seed = args.seed
        if seed is None:
            seed = draw_seed()
            print(f"seed={seed}")

        # the walk is the same whatever the number of samples
        sample_rng, walk_rng = np.random.default_rng(seed).spawn(2)
        latent_dim = g_model.input_shape[1]
        images = generate(
            g_model, generate_latent_points(latent_dim, args.n, sample_rng)
        )
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
        help=".keras or .h5 file, or a run's folder, whose newest generator is meant "
        "(default: the newest run's, else the one shipped here)",
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
        metavar="MODEL",
        help="c_model that judges the samples, a file or a run's folder (default: the "
        "one beside MODEL)",
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
