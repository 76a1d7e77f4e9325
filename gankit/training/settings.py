"""What a training run can be told."""

import json
import sys
from pathlib import Path

from gankit.command import InputError
from gankit.training.devices import JIT, PRECISIONS, choose_precision, count_cores
from gankit.training.run import draw_seed
from gankit.training.tensorboard import has_log


def add_options(parser, *left_out, n_epochs=20):
    """Add the options of the training scripts to a parser, but for those left out."""

    def add(name, **settings):
        if name not in left_out:
            parser.add_argument(f"--{name.replace('_', '-')}", **settings)

    add(
        "epochs",
        type=int,
        help=f"passes over the training images (default: {n_epochs})",
    )
    add("labels", type=int, help="labelled images, of all classes (default: 100)")
    add("latent_dim", type=int, help="size of a latent point (default: 100)")
    add("seed", type=int, help="0 to 2147483647 (default: drawn and printed)")
    add_data_options(parser)
    add("out", metavar="DIR", help="new folder (default: runs/<date>-<time>-...)")
    add(
        "precision",
        choices=PRECISIONS,
        help="the mixed ones are faster where the processor has them; auto: "
        "mixed_bfloat16 where it is quicker, else float32 (default: float32)",
    )
    add(
        "jit",
        choices=JIT,
        help="compile the step with XLA; auto: on a GPU only (default: auto)",
    )
    add(
        "threads",
        type=int,
        metavar="N",
        help="threads on a CPU; a run's dropout and last bits depend on it (default: "
        "one a core, 16 at most)",
    )
    add("max_steps", type=int, metavar="N", help="stop after N steps")
    add(
        "verbose",
        choices=("auto", "0", "1", "2"),
        default="auto",
        help="2: a line a step; 1: one line kept up to date, with the time left; "
        "0: no progress; auto: 1 on a terminal, else 2 (default: auto)",
    )
    add(
        "format",
        choices=("keras", "h5"),
        help="file format of the models (default: keras)",
    )
    add("resume", metavar="DIR", help="go on with the run in this folder")
    add(
        "tensorboard",
        action="store_true",
        help="keep a log for TensorBoard in the run's folder",
    )


def add_data_options(parser):
    parser.add_argument(
        "--data",
        metavar="PATH",
        help=".npz file, or folder of images or of IDX files, see README.md (default: "
        "the bundled MNIST)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="resize the images of --data to N x N pixels, a multiple of 4",
    )


def resolve_options(args, defaults, parse_arguments, growing=()):
    """Return the options of the run that `args` ask for, a dict.

    args: the parsed command line; defaults: {option: default}, which names what a run
    keeps in its settings; growing: options that may be raised when a run is resumed.
    Raises InputError for what can't be used.
    """
    given = {name: vars(args)[name] for name in defaults}
    given = {name: value for name, value in given.items() if value is not None}
    if "data" in given:
        given["data"] = str(Path(given["data"]).resolve())
    if "precision" in given:
        given["precision"] = choose_precision(given["precision"])
    if getattr(args, "resume", None) is None:
        options = {**defaults, **given}
    elif args.out is None:
        options = saved_options(args.resume, given, defaults, parse_arguments, growing)
    else:
        raise InputError("--resume names the folder already; leave out --out")
    if options["threads"] is None:
        options["threads"] = min(count_cores(), 16)
    check_options(options)
    if options["seed"] is None:
        options["seed"] = draw_seed()
    return options


def check_options(options):
    """Raise InputError for a number that is out of its range."""
    check_positive(options, ("epochs", "steps", "latent_dim", "threads", "max_steps"))
    seed = options["seed"]
    if seed is not None and not 0 <= seed < 2**31:
        raise InputError(f"--seed {seed}: must be from 0 to 2147483647")


def check_positive(options, names):
    """Raise InputError where an option of these names is given and less than 1."""
    for name in names:
        value = options.get(name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be 1 or more")


def keeps_log(args):
    """Tell whether the run is to keep a log for TensorBoard.

    A resumed run goes on with the one that it has.
    """
    return args.tensorboard or bool(args.resume and has_log(Path(args.resume)))


def verbosity(args):
    """Return 0, 1 or 2."""
    if args.verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(args.verbose)


def saved_options(folder, given, defaults, parse_arguments, growing=()):
    """Return the options of the run in `folder`, to be resumed with those given.

    Raises InputError where there is no run or a given option differs from the run's;
    those in `growing` may grow, and max_steps holds for one start only.
    """
    path = Path(folder) / "settings.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["options"]
        # the settings may be older than this option
        saved = {"image_size": None, **saved}
        saved = {name: saved[name] for name in defaults if saved[name] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the settings of a run; name a run's folder"
        ) from error
    # as on the command line, so that types and choices are checked
    arguments = [f"--{name.replace('_', '-')}={saved[name]}" for name in saved]
    parsed = vars(parse_arguments(arguments))
    options = {**defaults, **{name: parsed[name] for name in saved}}
    for name, value in given.items():
        grows = name in growing and value >= options[name]
        # the images are compared later, wherever their file is
        free = name in ("max_steps", "data")
        if value != options[name] and not grows and not free:
            raise InputError(
                f"{folder}: was started with {name} {options[name]}, not {value}; "
                "resume it without that option"
            )
    return {**options, "max_steps": None, **given}
