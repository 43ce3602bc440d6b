"""What is said of stores behind URLs."""

import traceback

import pytest

from tensorstate.urls import clear_errors, hide_credentials

URLS = [
    "ftp://me:{}@host/run.zarr",
    "https://{}@host:80/run",
    "https://host/run?X-Amz-Signature={}&b=2",
    "zip://run::https://me:{}@host/run.zip?token={}",
]


@pytest.mark.parametrize("url", URLS)
def test_credentials_are_hidden_and_the_rest_stays(url):
    text = f"'{url.format('s3cret', 's3cret')}' and more: a@b, what?"
    shown = hide_credentials(text)
    assert "s3cret" not in shown
    assert "host" in shown
    assert shown.endswith("' and more: a@b, what?")


@pytest.mark.parametrize("url", URLS)
def test_they_are_in_no_traceback(url):
    try:
        with clear_errors("here"):
            raise RuntimeError(f"no route to {url.format('s3cret', 's3cret')}")
    except OSError:
        assert "s3cret" not in traceback.format_exc()


@pytest.mark.parametrize(
    "kind", [FileNotFoundError, FileExistsError, PermissionError, TimeoutError, ConnectionError]
)
def test_kinds_of_errors_are_kept(kind):
    with pytest.raises(kind, match=r"^here cannot be used .*it says"), clear_errors("here"):
        raise kind("it says")


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, BlockingIOError])
def test_all_others_are_an_os_error(kind):
    with pytest.raises(OSError, match=r"^here cannot be used") as raised, clear_errors("here"):
        raise kind("it says")
    assert type(raised.value) is OSError


@pytest.mark.parametrize("kind", [ValueError, TypeError, NotImplementedError, MemoryError])
def test_what_is_no_fault_of_the_store_stays_as_it_is(kind):
    with pytest.raises(kind, match=r"^ours$"), clear_errors("here"):
        raise kind("ours")
