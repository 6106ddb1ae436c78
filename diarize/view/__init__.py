"""Sessions over time, to be looked at and listened to: one page that needs no network.

`write_page` writes it; ``web/`` holds the script that draws it, and ``bundle/`` what
`make page` builds of that.
"""

from diarize.view.write import write_page

__all__ = ["write_page"]
