"""What a folder holds, but for what operating systems put there by themselves."""

import os

from gankit.command import InputError

# of Windows, macOS, network drives and file systems; in small letters
LEFT_OUT = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "icon\r",
    "@eadir",
    "lost+found",
}


def is_left_out(name):
    """Tell whether a file or folder of this name is hidden, or nobody's own."""
    return name.startswith(".") or name.lower() in LEFT_OUT


def list_folder(folder):
    """Return what a folder holds, os.DirEntry objects sorted by name; see is_left_out.

    Raises InputError where it can't be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not is_left_out(entry.name)]
    except OSError as error:
        raise InputError(
            f"{folder}: can't be read ({error.strerror}); make it readable"
        ) from error
    return sorted(found, key=lambda entry: entry.name)
