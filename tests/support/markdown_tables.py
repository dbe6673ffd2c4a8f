"""Read the tables of Markdown pages."""

Table = dict[str, dict[str, str]]
"""The cells of a table, by the first column's cell and by the column's head, both without backquotes."""


def tables(text: str) -> list[Table]:
    """Return the tables of a page, in their order.

    Raises:
        ValueError: a row has fewer or more cells than its head.
    """
    blocks: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            blocks[-1].append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
        elif blocks[-1]:
            blocks.append([])
    return [_by_name(*block) for block in blocks if block]


def _by_name(head: list[str], _: list[str], *lines: list[str]) -> Table:
    return {cells[0]: dict(zip(head, cells, strict=True)) for cells in lines}
