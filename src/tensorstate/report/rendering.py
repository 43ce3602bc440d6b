"""Pages from templates: one frame, style and script for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from tensorstate._version import __version__
from tensorstate.report.colours import css_variables
from tensorstate.report.embedding import bokeh_script, page_file, policy

__all__ = ["render"]


def render(template: str, **content: Any) -> str:
    """Return a page, which runs no scripts but its own and loads nothing.

    Parameters
    ----------
    template : str
        Text of a template that fills the blocks of ``base.html.j2``.
    **content
        What the template shows; `title`, and `payloads`, the packed figures. Everything that is not
        marked as a part of the page is text, whatever is in it.

    Returns
    -------
    str
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        loader=FunctionLoader(page_file),
    )
    bokeh, script = bokeh_script(), page_file("page.js")
    return environment.from_string(template).render(
        **content,
        policy=policy([bokeh, script]),
        style=Markup(_style()),
        bokeh=Markup(bokeh),
        script=Markup(script),
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _style() -> str:
    shades: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    plots = [f':root[data-shade="{shade}"] {{ {css_variables(shade)} }}\n' for shade in shades]
    return page_file("page.css") + "".join(plots)
