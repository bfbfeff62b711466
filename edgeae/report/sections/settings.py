"""The settings that the run was trained with."""

from html import escape

from ..layout import Page


def section(page: Page) -> str:
    """Return the settings of a run, folded away."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td class='words'>{escape(str(value))}</td></tr>"
        for key, value in page.config.items()
    )
    return (
        "<details><summary>Settings of the run</summary><div class='scroll'><table><tbody>"
        f"{rows}</tbody></table></div></details>"
    )
