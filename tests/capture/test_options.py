"""Every way to capture has the same options, though each spells them out for its users."""

from dataclasses import fields
from inspect import signature

import pytest

import tensorstate as ts
from tensorstate.capture.options import CaptureOptions

WAYS = ("build_efficiency_model", "StateRecorder", "StateCapture", "StateCaptureHook")
OF_THE_FRAMEWORK = {"channel_axis"}


@pytest.mark.parametrize("way", WAYS)
def test_options_have_one_name_and_one_default(way):
    expected = {field.name: field.default for field in fields(CaptureOptions)}
    found = signature(getattr(ts, way)).parameters
    assert expected.keys() <= found.keys()
    for name in expected.keys() - OF_THE_FRAMEWORK:
        assert found[name].default == expected[name], name
