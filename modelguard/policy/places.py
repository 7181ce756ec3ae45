"""Where in a YAML file a value stands, for error messages."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

Path = tuple[str | int, ...]


def place(data: bytes, path: Path) -> str:
    """`:line:column` of the value at a path, or of the nearest one around it that is written; "" where the text is no YAML."""
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    if root is None:
        return ""
    mark = (root.start_mark, *_marks(root, path))[-1]
    return f":{mark.line + 1}:{mark.column + 1}"


def _marks(node: yaml.Node, path: Path) -> Iterator[yaml.Mark]:
    """The marks of the keys and items along a path, as far as it is written."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == step), None)
            if pair is None:
                return
            yield pair[0].start_mark
            node = pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            yield node.start_mark
        else:
            return
