"""Examples that need more than a folder of their own."""

import pytest

from tests.s3 import s3_server


@pytest.fixture(autouse=True)
def _with_s3(request, monkeypatch):
    """Give the page on S3 a server that speaks it, with the bucket ``states``."""
    if request.node.path.name != "s3.md":
        yield
        return
    with s3_server() as server:
        server.set_environment(monkeypatch)
        yield
