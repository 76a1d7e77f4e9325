"""A training run, whatever it trains: its options, folder, checkpoints and signals.

Both training scripts run through make_run, so that all that is said of interrupted
runs holds for both.
"""

import contextlib
import hashlib
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from checkpoints import (
    Interrupted,
    locked,
    noted_signals,
    remove_partials,
    restore_newest,
    save_checkpoint,
)
from datasets import load_arrays
from devices import JIT, PRECISIONS, choose_precision, count_cores
from helpers import (
    InputError,
    LazyModule,
    dated_folder,
    new_folder,
    write_atomically,
)
from run_folder import (
    ACCURACY,
    Progress,
    append_rows,
    check_finite,
    history_row,
    plot_history,
    save_animation,
    versions,
    write_rows,
    writing_to,
)
from tensorboard_log import has_log

tf = LazyModule("tensorflow")

CHECKPOINT_SECONDS = 120
# settings that a resumed run must share with its first part
FIXED = (
    "seed",
    "n_batch",
    "jit",
    "n_parts",
    "data_sha256",
    "class_names",
    "labelled_images",
)


def draw_seed():
    return int(np.random.SeedSequence().generate_state(1)[0] >> 1)


def derive_seed(seed):
    """Return another seed, from 0 to 2**31 - 1, for dropout.

    Its masks depend on the parts that a batch is computed in, a run's draws do not.
    """
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0] >> 1)


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


def load_data(args, options):
    """Return the data set, as datasets.Data, and print its training arrays' shapes."""
    data = load_arrays(args.data or options["data"], options["image_size"])
    X, y = data.train
    print(X.shape, y.shape)
    return data


def open_run(args, options, name):
    """Return the run's folder, which is made where it is a new one.

    Prints the seed where it was drawn.
    """
    out = getattr(args, "resume", None)
    if out is None:
        out = new_folder(args.out or dated_folder("runs", name))
    if args.seed is None:
        print(f"seed={options['seed']}")
    return out


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


def describe_settings(
    options,
    dataset,
    test_dataset,
    labelled,
    *,
    seed,
    n_batch,
    jit,
    n_parts,
    class_names=None,
):
    """Return what settings.json holds: all that a run depends on, and the versions."""
    settings = {
        "options": options or {},
        "seed": seed,
        "n_batch": n_batch,
        "jit": jit,
        "n_parts": n_parts,
        "versions": versions(),
        "image_shape": list(dataset[0].shape[1:]),
        "data_sha256": digest_of(dataset, test_dataset),
        "labelled_images": labelled.tolist(),
    }
    if class_names is not None:
        settings["class_names"] = class_names
    return settings


def digest_of(*datasets):
    """Return the SHA-256 of the arrays in these data sets, None left out."""
    digest = hashlib.sha256()
    for array in (a for dataset in datasets if dataset for a in dataset):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def resume_run(out, state, settings):
    """Restore the variables in `state` from the newest whole checkpoint in `out`.

    Returns step, history (list of (5,) arrays), accuracy (rows) and seconds so far.
    Raises InputError where the checkpoint belongs to a run with other settings.
    """
    remove_partials(out)
    step, record = restore_newest(out, state)
    if record is None:
        return 0, [], [], 0.0
    for name in FIXED:
        if record["settings"].get(name) != settings.get(name):
            raise InputError(
                f"{out}: was started with another {name}; resume it with the same data "
                "and settings"
            )
    before, now = record["settings"]["versions"], settings["versions"]
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        print(
            f"{out}: was started with another version of {', '.join(changed)}: the "
            "bits may differ from an uninterrupted run's",
            file=sys.stderr,
        )
    return step, list(record["history"]), record["accuracy"], record["seconds"]


def split_in_parts(batch, n_parts):
    """Return n_parts tensors, or one an image where those are fewer, of near sizes."""
    smaller, n_larger = divmod(batch.shape[0], n_parts)
    sizes = [smaller + 1] * n_larger + [smaller] * (n_parts - n_larger)
    return tf.split(batch, [size for size in sizes if size])


def make_run(
    train_steps,
    state,
    evaluate,
    settings,
    *,
    columns,
    describe,
    n_steps,
    epoch_steps,
    evaluate_every=None,
    out,
    max_steps=None,
    verbose=2,
    resume=False,
    log=None,
):
    """Make a run's steps and fill its folder, `out`; return its Path.

    train_steps: (first, n) -> float32 (n, len(columns) - 1), makes n steps.
    state: the variables that a step depends on. evaluate: (step, out) -> the accuracies
    of a row of accuracy.csv, called every evaluate_every steps, after each
    epoch (of epoch_steps) and after the last step. settings: see describe_settings.
    columns: those of history.csv; describe: a step's figures -> text.
    log: a tensorboard_log.EventLog to fill, or None.
    out, max_steps, verbose, resume, errors raised: as in sgan_mnist.train.
    """
    out = Path(out)
    evaluate_every = evaluate_every or epoch_steps
    if not resume:
        new_folder(out)
    signals, progress = [], Progress(verbose, describe)
    with (
        locked(out),
        noted_signals(signals.append),
        progress,
        writing_to(out),
        log or contextlib.nullcontext(),
    ):
        if resume:
            step, history, accuracy, seconds = resume_run(out, state, settings)
            finished = (out / "animation.gif").exists()
            if max_steps is not None and max_steps < step + finished:
                raise InputError(
                    f"max_steps {max_steps}: the run in {out} has made {step} steps "
                    "already; give more"
                )
        else:
            new_folder(out)  # again, since another run may have been quicker
            step, history, accuracy, seconds = 0, [], [], 0.0
        with write_atomically(out / "settings.json") as path:
            path.write_text(json.dumps(settings, indent=1) + "\n")
        write_rows(
            out / "history.csv",
            [columns, *(history_row(i, row) for i, row in enumerate(history, 1))],
        )
        write_rows(out / "accuracy.csv", [ACCURACY, *accuracy])
        if log:
            log.begin(out, columns, history, accuracy)
        started = time.perf_counter() - seconds
        saved = time.perf_counter()

        # a GPU idles between calls, a CPU does not
        steps_per_call = 50 if tf.config.list_logical_devices("GPU") else 1
        last_step = min(n_steps, max_steps or n_steps)
        progress.begin(step, last_step)
        while step < last_step:
            next_evaluation = min(
                (step // size + 1) * size for size in (evaluate_every, epoch_steps)
            )
            n = min(steps_per_call, next_evaluation - step, last_step - step)
            figures = train_steps(tf.constant(step), tf.constant(n)).numpy()
            history.extend(figures)
            rows = list(enumerate(figures, step + 1))
            append_rows(out / "history.csv", [history_row(i, row) for i, row in rows])
            if log:
                log.add_steps(rows)
            for i, row in rows:
                progress.show(i, row)
                check_finite(i, row, columns)
            step += n
            evaluating = step in (next_evaluation, last_step)
            if evaluating:
                progress.end_line()
                accuracies = evaluate(step, out)
                epoch = f"{step / epoch_steps:g}"
                elapsed = f"{time.perf_counter() - started:.1f}"
                accuracy.append([epoch, str(step), *accuracies, elapsed])
                append_rows(out / "accuracy.csv", accuracy[-1:])
                if log:
                    log.add_evaluation(accuracy[-1])
            stopping = bool(signals) and step < last_step
            due = time.perf_counter() - saved > CHECKPOINT_SECONDS
            if evaluating or stopping or due:
                record = {
                    "settings": settings,
                    "seconds": time.perf_counter() - started,
                    "accuracy": accuracy,
                    "history": np.array(history, np.float32),
                }
                save_checkpoint(out, state, step, record)
                saved = time.perf_counter()
            if stopping:
                resumption = f"--resume {shlex.quote(str(out))}"
                if not settings["options"]:
                    resumption = f"resume=True, out={str(out)!r}"
                raise Interrupted(
                    signals[0], f"saved after step {step}; go on with {resumption}"
                )
        plot_history(out)
        save_animation(out)
    return out
