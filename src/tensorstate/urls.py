"""What is said of stores behind URLs: in words of the user, and without their credentials.

What a store needs to be reached, its credentials above all, comes from where its ecosystem looks
for it: environment variables such as ``AWS_ACCESS_KEY_ID``, files such as ``~/.aws/credentials``,
and fsspec's configuration (``fsspec.config.conf``, ``~/.config/fsspec``, ``FSSPEC_S3_...``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

__all__ = ["clear_errors", "hide_credentials"]

_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")

# What an error is taken for, so that whoever asked can tell these cases apart.
_KINDS = (FileNotFoundError, FileExistsError, PermissionError, TimeoutError, ConnectionError)

# What is no fault of the store: wrong calls, and too little memory here.
_OURS = (ValueError, TypeError, NotImplementedError, MemoryError)


def hide_credentials(text: str) -> str:
    """Return a text in which URLs show neither a user with a password nor a signed query.

    Parameters
    ----------
    text : str
        A URL, or any text with URLs in it.

    Returns
    -------
    str

    Examples
    --------
    >>> hide_credentials("ftp://me:secret@host/run.zarr and https://host/run?signature=secret")
    'ftp://***@host/run.zarr and https://host/run?***'
    >>> hide_credentials("s3://bucket/run.zarr")
    's3://bucket/run.zarr'
    """
    return _QUERY.sub(r"\1?***", _USER.sub("***@", text))


@contextlib.contextmanager
def clear_errors(where: str) -> Iterator[None]:
    """Let a store behind a URL say which one it is, and what to do, when something goes wrong.

    Libraries for remote stores have errors of their own, which name neither the store nor the
    cause in words of the user. All of them become an OSError, or the kind of it that they are.

    Parameters
    ----------
    where : str
        Names the store, without credentials.

    Raises
    ------
    OSError
        Whatever the block raises, but for wrong calls.

    Examples
    --------
    >>> try:
    ...     with clear_errors("s3://bucket/run"):
    ...         raise RuntimeError("no route to host")
    ... except OSError as error:
    ...     print(str(error).split(": check")[0])
    s3://bucket/run cannot be used (RuntimeError: no route to host)
    """
    try:
        yield
    except _OURS:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        shown = hide_credentials(said)
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), OSError)
        # A cause that shows credentials is not to be in a traceback either.
        raise kind(
            f"{where} cannot be used ({shown}): check the URL, the connection, and the "
            "credentials in the environment or in fsspec's configuration"
        ) from (error if shown == said else None)
