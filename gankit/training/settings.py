"""What a training run can be told: one line an option.

A script's settings are a dataclass of option()s. Its command line, defaults, help,
checks, what is kept in settings.json and what a resumed run may change all follow.
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args, get_origin

from gankit.command import InputError, OneLineParser
from gankit.training.devices import JIT, PRECISIONS, choose_precision


def option(
    default,
    text,
    *,
    least=None,
    most=None,
    choices=None,
    several=(),
    check=None,
    metavar=None,
    instead_of=None,
    path=False,
    resume="same",
    saved=True,
    older=None,
):
    """Return a dataclass field that is an option of the command line.

    text: its help. least, most: its range. choices: the texts that it may be; several:
    those of which it may be one or more, with + between them. check:
    value -> None, raises InputError for what can't be used. instead_of: an option that
    can't be given beside it, since this one sets it. path: whether it names a file or
    folder, or several, which settings.json keeps so that they are found from any
    folder. resume: what a resumed run may
    change: 'same' nothing, 'grow' to a larger value, 'free' any; 'once' is free, and
    holds for one start only. saved: whether settings.json keeps it. older: its value in
    runs that are older than the option; None for the default.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "text": text,
            "least": least,
            "most": most,
            "choices": choices and tuple(choices),
            "several": several,
            "check": check,
            "metavar": metavar,
            "instead_of": instead_of,
            "path": path,
            "resume": resume,
            "saved": saved,
            "older": older,
        },
    )


@dataclass(kw_only=True)
class DataSettings:
    """What is read."""

    data: str | None = option(
        None,
        ".npz file, or folder of images or of IDX files, see docs/data.md (default: "
        "the bundled MNIST)",
        metavar="PATH",
        path=True,
        # the images are compared, wherever their file is
        resume="free",
    )
    image_size: int | None = option(
        None, "resize the images of --data to N x N pixels, a multiple of 4"
    )

    def __post_init__(self):
        """Raise InputError for a value that can't be used."""
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))


@dataclass(kw_only=True)
class TrainingSettings(DataSettings):
    """What any training can be told."""

    resume: ClassVar = None
    tensorboard: ClassVar = False

    seed: int | None = option(
        None,
        "0 to 2147483647 (default: drawn and printed)",
        least=0,
        most=2**31 - 1,
    )
    out: str | None = option(
        None,
        "new folder (default: runs/<date>-<time>-...)",
        metavar="DIR",
        resume="free",
        saved=False,
    )
    precision: str = option(
        "float32",
        "the mixed ones are faster where the processor has them; auto: mixed_bfloat16 "
        "where it is quicker, else float32",
        choices=PRECISIONS,
    )
    jit: str = option(
        "auto", "compile the step with XLA; auto: on a GPU only", choices=JIT
    )
    threads: int | None = option(
        None,
        "threads on a CPU; a run's dropout and last bits depend on it (default: one a "
        "core, 16 at most)",
        least=1,
    )
    max_steps: int | None = option(
        None, "stop after N steps", least=1, resume="once", metavar="N"
    )
    verbose: str = option(
        "auto",
        "2: a line a step; 1: one line kept up to date, with the time left; 0: no "
        "progress; auto: 1 on a terminal, else 2",
        choices=("auto", "0", "1", "2"),
        resume="free",
        saved=False,
    )
    format: str = option("keras", "file format of the models", choices=("keras", "h5"))

    @classmethod
    def parse(cls, argv=None):
        """Return the settings that a command line asks for."""
        parser = OneLineParser(description=cls.__doc__)
        add_options(parser, cls)
        given = vars(parser.parse_args(argv))
        for field in dataclasses.fields(cls):
            other = field.metadata["instead_of"]
            if field.name in given and other in given:
                raise InputError(
                    f"--{field.name} sets the {other}; leave out --{other}"
                )
        if "resume" not in given:
            return cls(**given)
        if "out" in given:
            raise InputError("--resume names the folder already; leave out --out")
        return cls.resumed(given.pop("resume"), **given)

    @property
    def options(self):
        """What settings.json keeps, a dict."""
        return {
            field.name: kept_value(field, getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["saved"]
        }

    @property
    def verbosity(self):
        """0, 1 or 2."""
        if self.verbose == "auto":
            return 1 if sys.stdout.isatty() else 2
        return int(self.verbose)


@dataclass(kw_only=True)
class RunSettings(TrainingSettings):
    """What a training that can go on where it was stopped can be told."""

    resume: str | None = option(
        None, "go on with the run in this folder", metavar="DIR", saved=False
    )
    tensorboard: bool = option(
        False,
        "keep a log for TensorBoard in the run's folder",
        resume="free",
        saved=False,
    )

    @classmethod
    def resumed(cls, folder, **given):
        """Return the settings of the run in `folder`, with those given.

        Raises InputError where there is no such run, or where a given value differs
        from the run's and may not.
        """
        before = cls(**read_options(folder, cls))
        if "precision" in given:
            given["precision"] = choose_precision(given["precision"])
        now = dataclasses.replace(before, resume=str(folder), **given)
        for field in dataclasses.fields(cls):
            name, rule = field.name, field.metadata["resume"]
            if name not in given or rule in ("free", "once"):
                continue
            old, new = getattr(before, name), given[name]
            if new != old and not (rule == "grow" and new >= old):
                raise InputError(
                    f"{folder}: was started with {name} {old}, not {new}; resume it "
                    "without that option"
                )
        return now


def option_name(name):
    """Return a field's name as the command line has it."""
    return f"--{name.replace('_', '-')}"


def kept_value(field, value):
    """Return what settings.json keeps of an option's value; paths are absolute."""
    if value is None or not field.metadata["path"]:
        return value
    if isinstance(value, list):
        return [str(Path(path).resolve()) for path in value]
    return str(Path(value).resolve())


def add_options(parser, settings, *names):
    """Add the options of a settings class to a parser: all, or those named.

    What is not given on the command line is no attribute of the parsed arguments,
    where all are added; else it is None.
    """
    for field in dataclasses.fields(settings):
        if names and field.name not in names:
            continue
        about = field.metadata
        text = about["text"]
        if "(default" not in text and field.default not in (None, False):
            text = f"{text} (default: {field.default})"
        kind = {"default": None if names else argparse.SUPPRESS, "help": text}
        if get_origin(type_of(field)) is list:
            kind |= {"nargs": "+", "metavar": about["metavar"]}
        elif type_of(field) is bool:
            kind["action"] = "store_true"
        else:
            kind |= {"type": type_of(field), "choices": about["choices"]}
            kind["metavar"] = about["metavar"]
            if about["several"]:
                kind["metavar"] = "NAME[+NAME]"
            if kind["metavar"] is None and type_of(field) is not str:
                kind["metavar"] = "N"
        parser.add_argument(option_name(field.name), **kind)


def check_positive(options, names):
    """Raise InputError where an option of these names is given and less than 1."""
    for name in names:
        value = options.get(name)
        if value is not None and value < 1:
            raise InputError(f"{option_name(name)} {value}: must be 1 or more")


def type_of(field):
    """Return the type of a dataclass field whose value may be None, too."""
    types = [kind for kind in get_args(field.type) if kind is not type(None)]
    return types[0] if types else field.type


def check_value(field, value):
    """Raise InputError where an option can't have this value."""
    about, name = field.metadata, option_name(field.name)
    if value is None and field.default is None:
        return
    kind = type_of(field)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str and isinstance(value, Path):
        value = str(value)
    if get_origin(kind) is list:
        right = type(value) is list and {type(item) for item in value} <= {str}
    else:
        right = type(value) is kind
    if not right:
        raise InputError(f"{name} {value!r}: must be of type {kind.__name__}")
    if value == "" or (about["several"] and "" in value.split("+")):
        raise InputError(f"{name} {value!r}: holds an empty name; leave that out")
    least, most = about["least"], about["most"]
    enough = least is None or value >= least
    if not (enough and (most is None or value <= most)):  # nor is it NaN
        wanted = f"from {least} to {most}" if most is not None else f"{least} or more"
        raise InputError(f"{name} {value}: must be {wanted}")
    if about["choices"] and value not in about["choices"]:
        raise InputError(
            f"{name} {value}: must be one of {', '.join(about['choices'])}"
        )
    if about["several"] and (
        unknown := sorted(set(value.split("+")) - set(about["several"]))
    ):
        names = ", ".join(about["several"])
        raise InputError(f"{name} {', '.join(unknown)}: not of {names}")
    if about["check"]:
        about["check"](value)


def read_options(folder, settings):
    """Return the options of the run in `folder`, a dict, as its settings.json has them.

    An option that is younger than the run has its default there, or what it says of
    older runs. Raises InputError where there is no run of a script with these settings.
    """
    path = Path(folder) / "settings.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["options"]
        if not isinstance(saved, dict):
            raise TypeError("its options have no names")
        known = {f.name: f for f in dataclasses.fields(settings) if f.metadata["saved"]}
        if unknown := sorted(set(saved) - set(known)):
            raise ValueError(f"it has {', '.join(unknown)[:60]}")
        older = {
            name: field.metadata["older"]
            for name, field in known.items()
            if name not in saved
        }
        saved = {
            name: value
            for name, value in (saved | older).items()
            if value is not None and known[name].metadata["resume"] != "once"
        }
        for name, value in saved.items():
            check_value(known[name], value)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: not the settings of a run of this script; name a run's folder"
        ) from error
    return saved
