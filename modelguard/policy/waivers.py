"""What there is to say about a policy's waivers beside the findings that they cover."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator

from modelguard.policy.document import Waiver
from modelguard.policy.effective import Policy

SOON = datetime.timedelta(days=14)


def waiver_notes(policy: Policy, today: datetime.date, paths: Collection[str]) -> tuple[str, ...]:
    """One line for each waiver that covers nothing any more, ends soon, or names no file and no directory of `paths`."""
    return tuple(note for waiver in policy.document.waivers for note in _notes(waiver, today, paths))


def _notes(waiver: Waiver, today: datetime.date, paths: Collection[str]) -> Iterator[str]:
    named = f"the waiver of {waiver.rule} for {waiver.subject or 'the root directory'} ({waiver.owner})"
    if waiver.expires < today:
        yield f"{named} expired on {waiver.expires}: it covers nothing"
    elif waiver.expires - today <= SOON:
        yield f"{named} expires on {waiver.expires}"
    if not any(path == waiver.subject or path.rpartition("/")[0] == waiver.subject for path in paths):
        yield f"{named} names neither a file nor a directory of files that is here: it covers nothing"
