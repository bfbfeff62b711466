"""What was loaded before an `os.fork` is loaded anew in the child, when it is needed there.

A thread of the parent that was in the middle of a call does not exist in the child: its locks stay locked. So
nothing is used any more, nor destroyed. Where an engine has locks of its own that all of it shares, what is
loaded anew would wait for them too: a fork waits until no thread is inside of it.
"""

import os
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

WAIT_SECONDS = 10.0
"""Seconds that a fork waits for a call to end: it is not to hang because that does."""

LOADING = Lock()
"""To be held while a model is loaded into an engine that has such locks; a fork takes it first."""

_caches: WeakKeyDictionary[object, tuple[dict[Any, Any], ...]] = WeakKeyDictionary()
_abandoned: list[object] = []
_calls: WeakSet[Lock] = WeakSet()
_taken: list[Lock] = []
"""By the fork that goes on."""


def empty_in_children(owner: object, *caches: dict[Any, Any]) -> None:
    """Have these of an object be empty in each forked child, as long as the object lives."""
    _caches[owner] = caches


def call_lock() -> Lock:
    """Return a lock to be held while such an engine computes, which a fork takes too.

    To be asked for under `LOADING`; who holds one must not wait for another.
    """
    lock = Lock()
    _calls.add(lock)
    return lock


def _before() -> None:
    _take(LOADING)
    for lock in list(_calls):  # no new ones appear meanwhile
        _take(lock)


def _take(lock: Lock) -> None:
    if lock.acquire(timeout=WAIT_SECONDS):
        _taken.append(lock)


def _after() -> None:
    while _taken:
        _taken.pop().release()


def _after_in_child() -> None:
    _after()
    for caches in _caches.values():
        for cache in caches:
            _abandoned.append(cache.copy())
            cache.clear()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
