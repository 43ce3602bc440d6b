"""A server that speaks S3, on the loopback, and what a user sets to reach it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "states"
KEY, SECRET = "AKIA-of-the-tests", "the-secret-of-the-tests"


class Server:
    """What was stored stays where it is when the server is stopped, and started again.

    Attributes
    ----------
    stored : list of str
        The paths of all objects that were stored, in order; the bucket is their first part.
    requests : list of (str, str)
        The method and the path of everything that was asked for, in order.
    """

    def __init__(self) -> None:
        self.port = 0
        self.stored: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self.start()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def set_environment(self, patch: pytest.MonkeyPatch) -> None:
        """Set what a user sets: the ecosystem's usual variables, and no patience."""
        variables = {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # Nothing that lies in the home of whoever runs the tests.
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_CONFIG_FILE": "/nonexistent",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        # A file system keeps the credentials that it was made with.
        s3fs.S3FileSystem.clear_instance_cache()

    def start(self) -> None:
        """Take requests."""
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"].lstrip("/")))
        if environ["REQUEST_METHOD"] == "PUT":
            self.stored.append(environ["PATH_INFO"].lstrip("/"))
        return self._app(environ, start_response)

    def client(self) -> Any:
        """Return a client that is none of ours."""
        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the names of all objects below a prefix."""
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        )
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def content(self, key: str) -> bytes:
        """Return an object."""
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


@contextmanager
def s3_server() -> Iterator[Server]:
    """Give a server with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server()
    server.client().create_bucket(Bucket=BUCKET)
    try:
        yield server
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
