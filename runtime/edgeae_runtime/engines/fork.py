"""What was loaded before an `os.fork` is loaded anew in the child, when it is needed there.

A thread of the parent that was in the middle of a call does not exist in the child: its locks stay locked. So
nothing is used any more, nor destroyed.
"""

import os
from typing import Any
from weakref import WeakKeyDictionary

_caches: WeakKeyDictionary[object, tuple[dict[Any, Any], ...]] = WeakKeyDictionary()
_abandoned: list[object] = []


def empty_in_children(owner: object, *caches: dict[Any, Any]) -> None:
    """Have these of an object be empty in each forked child, as long as the object lives."""
    _caches[owner] = caches


def _empty() -> None:
    for caches in _caches.values():
        for cache in caches:
            _abandoned.append(cache.copy())
            cache.clear()


os.register_at_fork(after_in_child=_empty)
