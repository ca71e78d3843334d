"""Whether every tag of a page is closed."""

from html.parser import HTMLParser


class _Balance(HTMLParser):
    """Fails where a tag closes that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_balanced(html: str) -> None:
    """Fail if a tag is not closed, or closed that is not open."""
    balance = _Balance()
    balance.feed(html)
    balance.close()
    assert balance.open == []
