"""HTML built from functions; text is escaped unless it is `Html` already."""

import html
from collections.abc import Iterable


class Html(str):
  """A piece of finished HTML. Few make it: see who imports it."""


def text(value) -> Html:
  """Escape a value; finished HTML passes."""
  if isinstance(value, Html):
    return value
  return Html(html.escape(str(value)))


def join(parts: Iterable) -> Html:
  """One piece from many; those that are None are left out."""
  return Html(''.join(text(part) for part in parts if part is not None))


def element(name: str, *children, **attributes) -> Html:
  """An element; attribute `class_` is class, `aria_label` is aria-label."""
  written = ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
  )
  return Html(f'<{name}{written}>{join(children)}</{name}>')


def table(
  caption: str, head: list[str], rows: list[list], **attributes
) -> Html:
  """A table with a caption; the first cell of a row is its header."""
  header = [element('th', name, scope='col') for name in head]
  body = [
    element(
      'tr',
      element('th', row[0], scope='row'),
      *(element('td', cell) for cell in row[1:]),
    )
    for row in rows
  ]
  return element(
    'div',
    element(
      'table',
      element('caption', caption),
      element('thead', element('tr', *header)) if head else None,
      element('tbody', *body),
      **attributes,
    ),
    class_='scroll',
    tabindex=0,
    role='region',
    aria_label=caption,
  )


def figure(picture: Html, caption) -> Html:
  """A picture with its caption."""
  return element('figure', picture, element('figcaption', caption))


def section(title: str, *children) -> Html:
  """A titled part of the page."""
  return element('section', element('h2', title), *children)


def percent(fraction: float, digits: int = 2) -> str:
  """0.1234 -> '12.34 %', with a space that does not break."""
  return f'{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%'


def interval(low_high) -> str:
  """[0.1, 0.2] -> '10.00 to 20.00 %'."""
  low, high = low_high
  return f'{100 * low:.2f} to {percent(high)}'
